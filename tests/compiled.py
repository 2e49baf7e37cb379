"""A compiled model is steered and released like any other: ``compiled.py SITE BACKEND``."""

import copy
import sys

import torch
from conftest import build
from transformers import DynamicCache

import lmsteer
from lmsteer.model.reading import cache_name, read_hidden

site, backend = sys.argv[1:]
ids = torch.arange(5, 25).view(2, 10)
torch.manual_seed(0)
steer = lmsteer.Steer(torch.randn(32, 5) * 0.2, torch.randn(32, 5) * 0.2, "style", site)
compiles = []


def counted(graph, inputs):
    """The backend, which tells how often it was asked."""
    compiles.append(graph)
    return torch._dynamo.lookup_backend(backend)(graph, inputs)


def read(model, **options):
    """Scores in two calls, the second of which goes on from the cache of the first."""
    cache = DynamicCache(config=model.config)
    parts = []
    for part in ids.split([6, 4], dim=1):
        given = {cache_name(model): cache, "use_cache": True, **options}
        parts.append(model(input_ids=part, **given).logits)
    return torch.cat(parts, dim=1)


def close(found, wanted):
    return torch.allclose(found, wanted, atol=1e-4)


def check_all_positions(plain, compiled, owners, strengths=(0.0, 2.0, 0.0, -2.0, 0.0)):
    """Before anything is attached, then with and without, over and over."""
    truth = {}
    for strength in set(strengths):
        with lmsteer.attach(plain, {steer: strength}):
            truth[strength] = plain(ids).logits
    assert not torch.allclose(truth[2.0], truth[0.0], atol=0.01)
    assert close(compiled(ids).logits, truth[0.0])
    for owner in owners:
        for strength in strengths:
            with lmsteer.attach(owner, {steer: strength}):
                found = compiled(ids).logits
            assert close(found, truth[strength]), (owner, strength)
    assert close(compiled(ids).logits, truth[0.0])
    hidden = read_hidden(plain, input_ids=ids)
    assert close(read_hidden(compiled, input_ids=ids), hidden)


def check_where(plain, compiled, words=("prompt", "response")):
    """Prompt and response are told apart by the cache, also in compiled code."""
    for where in words:
        with lmsteer.attach(plain, {steer: 2.0}, where=where):
            wanted = read(plain)
        with lmsteer.attach(compiled, {steer: 2.0}, where=where):
            assert close(read(compiled), wanted), where
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[:, 3:5] = True
    with lmsteer.attach(plain, {steer: 2.0}, where=mask):
        wanted = plain(ids).logits
    with lmsteer.attach(compiled, {steer: 2.0}, where=mask):
        assert close(compiled(ids).logits, wanted)


settings = torch._dynamo.config.get_config_copy()
other = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
others = []
elsewhere = torch.compile(other, backend=lambda graph, _: others.append(graph) or graph.forward)
with torch.no_grad():
    elsewhere(torch.ones(1, 4))
    once = len(others)
    model = build("llama-tied")
    compiled = torch.compile(model, backend=counted)
    check_all_positions(copy.deepcopy(model), compiled, (compiled, model))
    many = len(compiles)
    check_all_positions(copy.deepcopy(model), compiled, (compiled,))
    assert len(compiles) == many  # what was compiled once for a state of affairs serves it again
    if backend == "eager":  # the rest is the compiler's front alone
        import peft

        check_where(copy.deepcopy(model), compiled)
        in_place = build("llama-tied")
        plain = copy.deepcopy(in_place)
        in_place.compile(backend=counted)
        check_all_positions(plain, in_place, (in_place,), (0.0, 2.0, 0.0))
        config = peft.LoraConfig(
            task_type="CAUSAL_LM",
            target_modules=["q_proj", "embed_tokens", "lm_head"],
            init_lora_weights=False,
        )
        adapted = peft.get_peft_model(build("llama-untied"), config).eval()
        compiled = torch.compile(adapted, backend=counted)
        check_all_positions(copy.deepcopy(adapted), compiled, (compiled,), (2.0, 0.0))
        check_where(copy.deepcopy(adapted), compiled, ("prompt",))
    elsewhere(torch.ones(1, 4))
assert len(others) == once  # other models' code is kept
assert torch._dynamo.config.get_config_copy() == settings
assert "forward" not in vars(model.lm_head)
assert "forward" not in vars(model.model.embed_tokens)
