"""Steers that requests may name, in a process that runs vLLM's model runner V2."""

import pytest
import torch
from by_hand import DIM

import lmsteer


@pytest.fixture
def steers(tmp_path, monkeypatch):
    g = torch.Generator().manual_seed(3)
    a, b, c = (
        lmsteer.Steer(*(torch.randn(DIM, rank, generator=g) * 0.25 for _ in range(2)), name)
        for rank, name in ((3, "one"), (2, "two"), (1, "one.domain"))
    )
    a = lmsteer.Steer(a.P, a.Q, "one", domain=c)
    a.save(tmp_path / "one")
    b.save(tmp_path / "two")
    monkeypatch.setenv("LMSTEER_STEERS", f"{tmp_path}/one,{tmp_path}/two")
    return {"one": a, "two": b, "one.domain": c}
