"""Rows of a batch, beams, streams, shared prompts: the text is that of each row alone."""

import threading

import pytest
import torch
from families import FAMILIES
from torch.profiler import ProfilerActivity, profile

import lmsteer
from lmsteer.errors import InputError

PROMPTS = ["it is", "a rather longer prompt than that", "so"]


def test_logits_of_a_row_do_not_depend_on_its_neighbours(model, steer):
    ids = torch.arange(5, 35).view(3, 10)
    strengths = torch.tensor([2.0, -1.0, 0.0])
    with lmsteer.attach(model, {steer: strengths}):
        together = model(ids).logits
    for row, strength in enumerate(strengths.tolist()):
        with lmsteer.attach(model, {steer: strength}):
            alone = model(ids[row : row + 1]).logits[0]
        assert (together[row] - alone).abs().max() < 1e-5 * alone.abs().max()


@pytest.mark.parametrize("site", ["output", "input"])
@pytest.mark.parametrize("name", ["Llama", "GPT-2", "OPT", "BLOOM", "Gemma 3", "Mamba", "T5"])
def test_a_shared_prompt_changes_nothing(name, site, tokenizer):
    model = FAMILIES[name].build()
    dim = model.get_output_embeddings().weight.shape[1]
    dim = model.get_input_embeddings().weight.shape[1] if site == "input" else dim
    steer = lmsteer.Steer(torch.randn(dim, 4) * 0.2, torch.randn(dim, 4) * 0.2, "s", site)
    options = {
        "strengths": [{steer: 1.5}, {}, {steer: -1.5}],
        "samples": 3,
        "max_new_tokens": 8,
        "top_p": 0.9,
    }
    shared = lmsteer.generate(model, tokenizer, PROMPTS, **options)
    apart = lmsteer.generate(model, tokenizer, PROMPTS, share_prompts=False, **options)
    single = lmsteer.generate(model, tokenizer, PROMPTS, batch_size=1, **options)
    assert [r.text for r in shared] == [r.text for r in apart] == [r.text for r in single]
    assert len({r.text for r in shared}) > 9


def test_a_prompt_is_read_once_for_all_its_samples_and_strengths(llama, tokenizer, steer):
    reads = []
    original = llama.model.forward

    def counted(*args, **kwargs):
        ids = kwargs.get("input_ids")
        reads.append(tuple(ids.shape))
        return original(*args, **kwargs)

    llama.model.forward = counted
    options = {"samples": 5, "max_new_tokens": 3, "strengths": [{steer: 1.0}, {}]}
    lmsteer.generate(llama, tokenizer, "a prompt of some length", **options)
    assert reads[0] == (1, 22)  # all but its last token, once
    assert all(shape == (10, 1) for shape in reads[1:])


def test_beams_are_those_of_transformers(llama, tokenizer, steer):
    found = lmsteer.generate(
        llama, tokenizer, PROMPTS[:2], strengths=[{steer: 1.0}, {steer: -1.0}], beams=3,
        samples=2, max_new_tokens=6,
    )  # fmt: skip
    assert [r.sample for r in found] == [0, 1] * 4
    for number, (prompt, strength) in enumerate((p, s) for p in PROMPTS[:2] for s in (1.0, -1.0)):
        given = tokenizer(prompt, return_tensors="pt")
        with lmsteer.attach(llama, {steer: strength}):
            ids = llama.generate(
                input_ids=given["input_ids"],
                attention_mask=given["attention_mask"],
                num_beams=3,
                num_return_sequences=2,
                max_new_tokens=6,
                do_sample=False,
                pad_token_id=0,
            )  # fmt: skip
        texts = tokenizer.batch_decode(
            ids[:, given["input_ids"].shape[1] :], skip_special_tokens=True
        )
        assert [r.text for r in found[2 * number : 2 * number + 2]] == texts


def test_beam_mistakes(llama, tokenizer):
    with pytest.raises(InputError, match="at most 2 samples"):
        lmsteer.generate(llama, tokenizer, "a", beams=2, samples=3)
    with pytest.raises(InputError, match="no option 'num_beams'; did you mean 'beams'"):
        lmsteer.generate(llama, tokenizer, "a", num_beams=2)
    with pytest.raises(InputError, match="give beams= instead of num_beams"):
        lmsteer.generate(llama, tokenizer, "a", generate_kwargs={"num_beams": 2})


def test_a_stream_is_the_text_in_pieces(llama, tokenizer, steer):
    options = {"strengths": {steer: 1.0}, "max_new_tokens": 20, "seed": 3}
    (record,) = lmsteer.generate(llama, tokenizer, "it is", **options)
    pieces = list(lmsteer.stream(llama, tokenizer, "it is", **options))
    assert "".join(pieces) == record.text
    assert threading.active_count() == 1 or not any(
        "write" in thread.name for thread in threading.enumerate()
    )


def test_a_closed_stream_stops_and_frees_the_model(llama, tokenizer, steer):
    stream = lmsteer.stream(
        llama, tokenizer, "it is", strengths={steer: 1.0}, max_new_tokens=60, min_new_tokens=60
    )
    stream.close()
    stream = lmsteer.stream(llama, tokenizer, "it is", strengths={steer: 1.0}, max_new_tokens=60)
    next(stream)
    stream.close()
    with lmsteer.attach(llama, {steer: 1.0}):
        pass


def test_a_failure_in_a_stream_reaches_the_reader(llama, tokenizer):
    with pytest.raises(InputError, match="top_p"):
        list(lmsteer.stream(llama, tokenizer, "it is", top_p=7.0))


def multiplied_apart(work, sizes):
    """The matrices of these sizes that torch multiplied one text at a time."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        work()
    products = [event.input_shapes[1] for event in seen.events() if event.name == "aten::bmm"]
    return [shape for shape in products if tuple(shape[1:]) in sizes]


@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS])
def test_no_matrix_is_copied_for_each_text(llama, tokenizer, prompts):
    """As torch does with matrices that gather no gradient, and the last rows of prompts."""
    sizes = {tuple(weight.shape[::-1]) for weight in llama.parameters() if weight.ndim == 2}
    options = {"max_new_tokens": 3, "min_new_tokens": 3}
    assert not multiplied_apart(
        lambda: lmsteer.generate(llama, tokenizer, prompts, **options), sizes
    )
    assert not any(weight.requires_grad for weight in llama.parameters())

    @torch.inference_mode()
    def plain():
        llama(torch.ones(3, 9, dtype=torch.long), logits_to_keep=1)

    assert multiplied_apart(plain, sizes)  # it is still so without our care
