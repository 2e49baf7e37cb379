"""Every family, at both sites, against the naive formula; and the table in docs/families.md."""

from pathlib import Path

import pytest
import torch
from families import FAMILIES, IDS

import lmsteer
from lmsteer.errors import UnsupportedError
from lmsteer.model.identity import input_dim
from lmsteer.model.reading import read_hidden
from lmsteer.storage.finding import load_steer

TABLE = Path(__file__).parents[2] / "docs" / "families.md"
TOKENS = torch.arange(5, 25).view(2, 10)
CASES = [
    pytest.param(
        name, tied, id=f"{name}-{'as is' if tied is None else 'tied' if tied else 'untied'}"
    )
    for name, family in FAMILIES.items()
    for tied in ((True, False) if family.ties else (None,))
]


def inputs(model):
    if model.config.is_encoder_decoder:
        return {"input_ids": TOKENS, "decoder_input_ids": TOKENS.flip(0)}
    return {"input_ids": TOKENS}


def logits(model):
    return model(**inputs(model), use_cache=False).logits


def steer_for(model, site):
    dim = model.get_output_embeddings().weight.shape[1] if site == "output" else input_dim(model)
    generator = torch.Generator().manual_seed(1)
    P, Q = (torch.randn(dim, 5, generator=generator) * 0.2 for _ in range(2))
    fingerprint = lmsteer.model.identity.fingerprint(model, site)
    return lmsteer.Steer(P, Q, "style", site, fingerprint=fingerprint)


@pytest.mark.parametrize(("name", "tied"), CASES)
def test_output_site(name, tied, tmp_path):
    family = FAMILIES[name]
    model = family.build(tied=tied)
    head = model.get_output_embeddings()
    table = model.get_input_embeddings()
    if tied is not None:
        assert (head.weight.data_ptr() == table.weight.data_ptr()) is tied
    steer, base = steer_for(model, "output"), logits(model)
    rows = read_hidden(model, **inputs(model))
    with lmsteer.attach(model, {steer: 1.7}):
        found = logits(model)
    changed = rows.double() + 1.7 * rows.double() @ steer.matrix().double()
    truth = family.scores(model, changed, torch.float64)
    # Errors are judged against the same formula in the model's own dtype.
    floor = (family.scores(model, changed.float(), torch.float32).double() - truth).abs().max()
    size = truth.abs().max()
    assert (found.double() - truth).abs().max() <= 20 * floor + 1e-6 * size
    assert (found - base).abs().max() > 0.01 * base.abs().max()
    _is_the_identity(model, steer, base)
    _is_saved_exactly(model, steer, tmp_path)


@pytest.mark.parametrize(("name", "tied"), CASES)
def test_input_site(name, tied, tmp_path):
    """Steering the input equals a model whose input table was changed by the formula."""
    family = FAMILIES[name]
    model, changed = (family.build(tied=False if tied else tied) for _ in range(2))
    steer, base = steer_for(model, "input"), logits(model)
    tables = {
        module.weight.data_ptr(): module.weight
        for module in changed.modules()
        if isinstance(module, torch.nn.Embedding)
        and module.weight.shape == changed.get_input_embeddings().weight.shape
        and torch.equal(module.weight, changed.get_input_embeddings().weight)
    }
    head = changed.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.clone(), requires_grad=False)
    for weight in tables.values():
        table = weight.double()
        weight.copy_(table + 0.8 * table @ steer.matrix().double())
    with lmsteer.attach(model, {steer: 0.8}):
        found = logits(model)
    truth = logits(changed)
    assert (found - truth).abs().max() <= 2e-3 * truth.abs().max()
    assert (found - base).abs().max() > 1e-3 * base.abs().max()
    _is_the_identity(model, steer, base)
    _is_saved_exactly(model, steer, tmp_path)


def _is_the_identity(model, steer, base):
    with lmsteer.attach(model, {steer: 0.0}):
        assert torch.equal(logits(model), base)
    assert torch.equal(logits(model), base)


def _is_saved_exactly(model, steer, folder):
    steer.save(folder / "steer")
    again = load_steer(folder / "steer", model)
    assert torch.equal(again.P, steer.P)
    assert torch.equal(again.Q, steer.Q)
    assert (again.site, again.name) == (steer.site, steer.name)
    with lmsteer.attach(model, {steer: 1.3}):
        mine = logits(model)
    with lmsteer.attach(model, {again: 1.3}):
        assert torch.equal(logits(model), mine)


@pytest.mark.parametrize("name", FAMILIES)
def test_training_lowers_the_held_out_loss_and_separates_labels(name, tokenizer, examples):
    model = FAMILIES[name].build()
    if model.config.is_encoder_decoder:
        examples = [lmsteer.Example(e.text, e.label, "say something: ") for e in examples]
    steer = lmsteer.train(model, tokenizer, examples * 2, held_out=0.2, calibrate=False)
    told = steer.record["held_out"]
    assert told["nll"] < told["nll_base"] - 0.05
    ids = torch.tensor(tokenizer("it is great.")["input_ids"])[None]
    given = {"input_ids": ids, "labels": ids}

    def loss(strength):
        with lmsteer.attach(model, {steer: strength, steer.domain: 1.0}):
            return float(model(**given).loss)

    assert loss(1.0) < loss(-1.0)


@pytest.mark.parametrize("name", FAMILIES)
def test_training_at_the_input_site(name, tokenizer, examples):
    """Gradients reach the map through the frozen trunk; the model leaves as it came."""
    model = FAMILIES[name].build()
    if model.config.is_encoder_decoder:
        examples = [lmsteer.Example(e.text, e.label, "say something: ") for e in examples]
    before = logits(model)
    options = {"site": "input", "rank": 8, "steps": 40, "held_out": 0.2, "fast": False}
    options["calibrate"] = False
    steer = lmsteer.train(model, tokenizer, examples * 2, **options)
    assert steer.site == "input"
    assert steer.domain is not None
    told = steer.record["held_out"]
    assert told["nll"] < told["nll_base"] - 0.05
    assert torch.equal(logits(model), before)
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    with lmsteer.attach(model, {steer: 1.0, steer.domain: 1.0}):
        assert (logits(model) - before).abs().max() > 1e-3


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("site", ["output", "input"])
def test_generation_with_a_cache_equals_generation_without(name, site, tokenizer):
    model = FAMILIES[name].build()
    steer = steer_for(model, site)
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "temperature": 0, "batch_size": 4}
    records = [
        lmsteer.generate(
            model,
            tokenizer,
            ["it is", "a much longer prompt"],
            strengths=[{steer: 1.0}, {}],
            generate_kwargs={"use_cache": cached},
            **options,
        )
        for cached in (True, False)
    ]
    assert [r.text for r in records[0]] == [r.text for r in records[1]]
    alone = lmsteer.generate(model, tokenizer, "it is", strengths={steer: 1.0}, **options)
    assert alone[0].text == records[0][0].text  # neither pads nor neighbours change a row


@pytest.mark.parametrize("name", ["Mamba", "T5", "BART"])
def test_where_is_refused_where_it_cannot_be_told(name):
    model = FAMILIES[name].build()
    with pytest.raises(UnsupportedError, match="where="):
        lmsteer.attach(model, {steer_for(model, "input"): 1.0}, where="prompt")
    with lmsteer.attach(model, {steer_for(model, "output"): 1.0}):
        pass  # nothing of the refused attachment is left behind


def test_the_table_lists_every_family():
    """docs/families.md is written by this test; commit it when it changes."""
    lines = [
        "# Model families",
        "Each is tested at both sites with a tiny random model (`tests/parity/test_families.py`, "
        "which writes this table): strength 0 and detaching give back the model bitwise, steered "
        "scores equal a float64 formula, save and load are exact, training lowers the held-out "
        "loss at both sites, generation with a cache equals generation without, and a row does "
        "not depend on its neighbours. Other causal models of transformers work if they have "
        "output embeddings and end in a linear head, a scale or a soft-cap; what differs is an "
        "error (`UnsupportedError`), never a wrong result.",
        "",
        "| family | class | tied and untied | |",
        "|---|---|---|---|",
    ]
    for name, family in FAMILIES.items():
        ties = "both" if family.ties else "as released"
        lines.append(f"| {name} | `{family.config}` | {ties} | {family.note} |")
    text = "\n".join(lines) + "\n"
    before = TABLE.read_text() if TABLE.is_file() else ""
    TABLE.write_text(text)
    assert before == text, "docs/families.md was out of date; it has been written anew"
    assert len(FAMILIES) >= 24
    assert IDS["vocab_size"] == 259
