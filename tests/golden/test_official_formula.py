"""The official formula on small numbers, against constants that plain Python wrote."""

import argparse
import json
from pathlib import Path

import pytest
import torch

import lmsteer
from lmsteer.model.head import Head

CONSTANTS = json.loads(Path(__file__).with_name("constants.json").read_text())
# float32 keeps 24 bits; the logits are sums of some twenty products of about 100.
TOLERANCE = 1e-4


@pytest.fixture(params=["steers", "an official checkpoint"])
def steers(request, tmp_path):
    first, second = (torch.tensor(CONSTANTS[f"projector{n}"]) for n in (1, 2))
    if request.param == "steers":
        return [
            lmsteer.Steer(CONSTANTS["epsilon"] * P, Q) for P, Q in zip(first, second, strict=True)
        ]
    options = argparse.Namespace(epsilon=CONSTANTS["epsilon"], model_name="gpt2")
    torch.save([options, {"projector1": first, "projector2": second}, 1], tmp_path / "x.pt")
    return [lmsteer.storage.import_official(tmp_path / "x.pt", steer=n) for n in (0, 1)]


def test_logits_are_those_of_the_official_formula(steers):
    hidden = torch.tensor(CONSTANTS["hidden"])
    head = Head(torch.tensor(CONSTANTS["head"]), None)
    seen = []
    for values, wanted in zip(CONSTANTS["values"], CONSTANTS["logits"], strict=True):
        rows = hidden
        for steer, value in zip(steers, values, strict=True):
            rows = rows + steer.shift(hidden, float(value)) - hidden
        logits = head.logits(rows)
        assert torch.allclose(logits, torch.tensor(wanted), rtol=0, atol=TOLERANCE)
        seen.append(logits)
    assert not torch.allclose(seen[0], seen[2], rtol=0, atol=0.1)  # the strengths do something
