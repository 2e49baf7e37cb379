"""A compiled model is steered and released like any other: ``compiled.py SITE BACKEND``."""

import sys

import torch
from conftest import build

import lmsteer

site, backend = sys.argv[1:]
ids = torch.arange(5, 25).view(2, 10)
model = build("llama-tied")
torch.manual_seed(0)
steer = lmsteer.Steer(torch.randn(32, 5) * 0.2, torch.randn(32, 5) * 0.2, "style", site)
strengths = (0.0, 2.0, -2.0)
truth = {}
with torch.no_grad():
    for strength in strengths:
        with lmsteer.attach(model, {steer: strength}):
            truth[strength] = model(ids).logits
assert not torch.allclose(truth[2.0], truth[0.0], atol=0.01)

torch._dynamo.config.skip_nnmodule_hook_guards = True  # as torch comes
torch._dynamo.reset()
compiled = torch.compile(model, backend=backend)
with torch.no_grad():
    # First before anything was attached, then with and without, over and over.
    assert torch.allclose(compiled(ids).logits, truth[0.0], atol=1e-4)
    for owner in (compiled, model):
        for strength in (0.0, 2.0, 0.0, -2.0, 0.0):
            with lmsteer.attach(owner, {steer: strength}):
                found = compiled(ids).logits
            assert torch.allclose(found, truth[strength], atol=1e-4), (owner is model, strength)
