import pytest
import torch

import lmsteer
from lmsteer.errors import InputError, MismatchError
from lmsteer.generation.sampling import Pick

PROMPTS = ["ab", "a longer prompt", "z"]


def test_order_and_fields(llama, tokenizer, steer):
    records = lmsteer.generate(
        llama, tokenizer, PROMPTS, strengths=[{}, {steer: 1.5}], samples=2, max_new_tokens=4, seed=7
    )
    assert [(r.prompt, r.strengths.get("style", 0), r.sample) for r in records] == [
        (p, s, k) for p in PROMPTS for s in (0, 1.5) for k in (0, 1)
    ]
    assert all(r.seed == 7 for r in records)
    assert len({r.text for r in records}) > 6


def test_a_record_does_not_depend_on_its_batch(model, tokenizer, steer):
    options = {"samples": 2, "max_new_tokens": 6, "strengths": [{steer: -1.0}, {}, {steer: 1.0}]}
    state = torch.get_rng_state()
    whole = lmsteer.generate(model, tokenizer, PROMPTS, **options)
    parts = lmsteer.generate(model, tokenizer, PROMPTS[::-1], batch_size=1, **options)
    assert torch.equal(torch.get_rng_state(), state)
    key = lambda r: (r.prompt, r.strengths.get("style", 0), r.sample)  # noqa: E731
    assert {key(r): r.text for r in whole} == {key(r): r.text for r in parts}


def test_greedy_is_the_models_own(llama, tokenizer):
    ids = tokenizer("abc", return_tensors="pt")["input_ids"]
    own = llama.generate(ids, max_new_tokens=8, do_sample=False, attention_mask=ids * 0 + 1)
    (record,) = lmsteer.generate(llama, tokenizer, "abc", temperature=0, max_new_tokens=8)
    assert record.text == tokenizer.decode(own[0, 3:], skip_special_tokens=True)


def test_sampling_follows_the_distribution():
    scores = torch.tensor([[0.5, 0.2, 0.25, 0.05]]).log()
    uniforms = (torch.arange(10_000) + 0.5) / 10_000

    def shares(top_p):
        pick = Pick(uniforms[:, None], 1.0, top_p)
        chosen = pick(torch.empty(0), scores.expand(10_000, 4)).argmax(-1)
        return torch.bincount(chosen, minlength=4) / 10_000

    assert torch.allclose(shares(1.0), torch.tensor([0.5, 0.2, 0.25, 0.05]), atol=1e-3)
    assert torch.allclose(shares(0.7), torch.tensor([2 / 3, 0, 1 / 3, 0]), atol=1e-3)


def test_per_prompt_and_mistakes(llama, tokenizer, steer):
    mappings = [{steer: float(i)} for i in range(3)]
    records = lmsteer.generate(
        llama, tokenizer, PROMPTS, strengths=mappings, per_prompt=True, max_new_tokens=2
    )
    assert [r.strengths["style"] for r in records] == [0.0, 1.0, 2.0]
    with pytest.raises(MismatchError, match="2 mappings for 3 prompts"):
        lmsteer.generate(llama, tokenizer, PROMPTS, strengths=mappings[:2], per_prompt=True)
    for options, message in (
        ({"samples": 0}, "samples must be at least 1"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"temperature": -1.0}, "temperature"),
        ({"strengths": []}, "empty list"),
    ):
        with pytest.raises(InputError, match=message):
            lmsteer.generate(llama, tokenizer, "a", **options)
    with pytest.raises(InputError, match="no prompts"):
        lmsteer.generate(llama, tokenizer, [])


def test_strength_zero_writes_what_the_base_model_writes(llama, tokenizer, steer):
    base = lmsteer.generate(llama, tokenizer, PROMPTS, max_new_tokens=8)
    zero = lmsteer.generate(llama, tokenizer, PROMPTS, strengths={steer: 0.0}, max_new_tokens=8)
    assert [r.text for r in base] == [r.text for r in zero]


@pytest.mark.parametrize("nucleus", ["base", "steered"])
def test_nucleus_of_the_base_model_against_the_definition(
    model, tokenizer, steer, nucleus, monkeypatch
):
    written = []
    decode = type(tokenizer).batch_decode

    def spy(ids, **options):
        written.append(ids)
        return decode(tokenizer, ids, **options)

    monkeypatch.setattr(tokenizer, "batch_decode", spy)
    options = {"top_p": 0.6, "samples": 20, "max_new_tokens": 6, "min_new_tokens": 6}
    lmsteer.generate(model, tokenizer, "a b", strengths={steer: 8.0}, nucleus=nucleus, **options)
    (ids,) = written
    whole = torch.cat([torch.tensor(tokenizer("a b")["input_ids"]).expand(len(ids), -1), ids], 1)
    scores = model(whole).logits[:, 2:-1].double()
    scores[..., tokenizer.eos_token_id] = -torch.inf  # not before min_new_tokens
    chance = scores.softmax(-1)
    own = chance.gather(-1, ids[..., None])
    likelier = (chance * (chance > own)).sum(-1)  # mass before the token that was written
    assert bool((likelier < 0.6 + 1e-4).all()) == (nucleus == "base")


def test_nucleus_of_the_base_model_is_drawn_by_the_steered_scores():
    chance = torch.tensor([[0.05, 0.15, 0.2, 0.6]])
    uniforms = (torch.arange(10_000) + 0.5) / 10_000

    def shares(base, top_p):
        pick = Pick(uniforms[:, None], 1.0, top_p)
        pick.base = lambda: torch.tensor([base]).log().expand(10_000, 4)
        chosen = pick(torch.empty(0), chance.log().expand(10_000, 4)).argmax(-1)
        return torch.bincount(chosen, minlength=4) / 10_000

    # The base model's nucleus of .7 is the first two tokens; among them 1 to 3.
    assert torch.allclose(
        shares([0.5, 0.3, 0.15, 0.05], 0.7), torch.tensor([0.25, 0.75, 0, 0]), atol=1e-3
    )
    assert torch.allclose(shares([0.5, 0.3, 0.15, 0.05], 1.0), chance[0], atol=1e-3)


def test_wide_nuclei_of_the_base_model():
    """More tokens than are looked at first, in some rows of the batch only."""
    uniforms = torch.rand(2000, 1)
    flat, sharp = torch.zeros(1000, 4000), torch.zeros(1000, 4000)
    sharp[:, 7] = 20.0
    pick = Pick(uniforms, 1.0, 0.9)
    pick.base = lambda: torch.cat([flat, sharp])
    steered = torch.zeros(2000, 4000)
    steered[:, :2000] = 30.0
    chosen = pick(torch.empty(0), steered).argmax(-1)
    assert (chosen[:1000] < 2000).all()
    assert len(chosen[:1000].unique()) > 600
    assert (chosen[1000:] == 7).all()


def test_nucleus_of_the_base_model_at_strength_zero_and_mistakes(llama, tokenizer, steer):
    options = {"strengths": [{}, {steer: 0.0}], "top_p": 0.7, "max_new_tokens": 8}
    steered = lmsteer.generate(llama, tokenizer, PROMPTS, **options)
    base = lmsteer.generate(llama, tokenizer, PROMPTS, nucleus="base", **options)
    assert [r.text for r in steered] == [r.text for r in base]
    with pytest.raises(InputError, match="nucleus must be"):
        lmsteer.generate(llama, tokenizer, "a", nucleus="own")
    with pytest.raises(InputError, match="beam search has no nucleus"):
        lmsteer.generate(llama, tokenizer, "a", nucleus="base", beams=2)


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_losses_are_those_of_the_model_without_steers(
    model, tokenizer, steer, temperature, monkeypatch
):
    """Token by token, as the model's own forward pass finds them."""
    written, decode = [], tokenizer.batch_decode
    monkeypatch.setattr(
        tokenizer, "batch_decode", lambda ids, **k: (written.extend(ids), decode(ids, **k))[1]
    )
    prompts = sorted(PROMPTS, key=len, reverse=True)  # the order in which rows are written
    options = {"strengths": [{}, {steer: 2.0}], "max_new_tokens": 6, "temperature": temperature}
    records = lmsteer.generate(model, tokenizer, prompts, losses=True, batch_size=4, **options)
    for record, ids in zip(records, written, strict=True):
        read = torch.cat([torch.tensor(tokenizer(record.prompt)["input_ids"]), ids])
        scores = model(read[None]).logits[0, :-1].log_softmax(-1)
        own = -scores.gather(1, read[1:, None])[len(read) - len(ids) - 1 :, 0]
        assert len(record.losses) in (6, (ids == 0).nonzero()[:1].sum())
        mine = torch.tensor(record.losses)
        assert torch.allclose(mine, own[: len(mine)], atol=1e-4)
    plain = lmsteer.generate(model, tokenizer, prompts, **options)
    assert [(r.text, r.losses) for r in plain] == [(r.text, None) for r in records]


def test_losses_end_where_the_text_ends(llama, tokenizer):
    (record,) = lmsteer.generate(
        llama,
        tokenizer,
        "ab",
        losses=True,
        max_new_tokens=8,
        temperature=0,
        generate_kwargs={"eos_token_id": list(range(259))},
    )
    assert record.losses == ()


def test_losses_that_cannot_be_had(llama, tokenizer):
    with pytest.raises(InputError, match="beam search"):
        lmsteer.generate(llama, tokenizer, "ab", beams=2, losses=True)
    with pytest.raises(InputError, match="yields text alone"):
        next(lmsteer.stream(llama, tokenizer, "ab", losses=True))
    reading = lmsteer.Steer(torch.randn(32, 2), torch.randn(32, 2), "reading", site="input")
    with pytest.raises(InputError, match="input site"):
        lmsteer.generate(llama, tokenizer, "ab", strengths={reading: 1.0}, losses=True)
