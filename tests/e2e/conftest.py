"""Steers under names that need not be any, and a folder to work in."""

import json

import pytest
import torch

import lmsteer
from lmsteer.head import fingerprint


@pytest.fixture
def deep(tmp_path, monkeypatch):
    """A folder to work in, so deep that what climbs out of it is still among the test's own."""
    work = tmp_path / "1" / "2" / "3" / "4"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def make(llama, tmp_path):
    """Saves a steer to a folder, under a name that need not be one."""
    mark = fingerprint(llama)
    made = []

    def made_steer(path, name, *, zero=False, domain=True, **facts):
        torch.manual_seed(len(made))
        made.append(name)
        P, Q, D = (torch.randn(32, 2) * (0.0 if zero else 0.5) for _ in range(3))
        part = lmsteer.Steer(D, Q, "x.domain", fingerprint=mark) if domain else None
        lmsteer.Steer(P, Q, "x", domain=part, fingerprint=mark).save(path, force=True)
        told = json.loads((path / "steer.json").read_text())
        (path / "steer.json").write_text(json.dumps({**told, "name": name, **facts}))
        return path

    return made_steer


@pytest.fixture
def moods(make, tmp_path):
    """Two different steers that are both called mood."""
    return [make(tmp_path / place / "mood", "mood") for place in ("A", "B")]
