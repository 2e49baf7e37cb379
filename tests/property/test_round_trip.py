"""What is saved comes back bit for bit."""

import tempfile
from pathlib import Path

import torch
from hypothesis import given, settings
from steers import steers

from lmsteer.steer import Steer


def same(one, other):
    if one is None or other is None:
        return one is other
    marks = [steer.fingerprint for steer in (one, other)]
    return (
        torch.equal(one.P, other.P)
        and torch.equal(one.Q, other.Q)
        and (one.name, one.site, one.where) == (other.name, other.site, other.where)
        and (one.calibration, one.effect) == (other.calibration, other.effect)
        and dict(one.record) == dict(other.record)
        and one.digest == other.digest
        and (marks[0] is None) == (marks[1] is None)
        and (
            marks[0] is None
            or (
                (torch.equal(marks[0].sketch, marks[1].sketch))
                and (marks[0].model, marks[0].revision) == (marks[1].model, marks[1].revision)
            )
        )
        and same(one.domain, other.domain)
    )


@settings(max_examples=30, deadline=None)
@given(steers())
def test_saving_then_loading_is_exact(steer):
    with tempfile.TemporaryDirectory() as space:
        steer.save(Path(space) / "one")
        again = Steer.load(Path(space) / "one")
        assert same(steer, again)
