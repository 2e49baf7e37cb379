"""What a steer was trained to act on travels with it, and is kept to wherever it is used."""

import json
import warnings

import jaxtyping
import pytest
import torch
from conftest import build
from families import FAMILIES
from safetensors.torch import load_file, save_file
from terminal import run
from transformers import DynamicCache

import lmsteer
from lmsteer.alignment.transport import TransferWarning
from lmsteer.engines.rows import Rows
from lmsteer.errors import InputError, MismatchError, UnsupportedError
from lmsteer.export.checkpoint import open_checkpoint
from lmsteer.interpretation.spans import evidence
from lmsteer.interpretation.words import word_shifts
from lmsteer.metrics.kl import text_divergence
from lmsteer.model.reading import cache_name
from lmsteer.text.encoding import encode

IDS = torch.arange(5, 25).view(2, 10)


def one(name="s", where="prompt", site="input", domain=None):
    P, Q = torch.randn(2, 32, 3) * 0.3
    return lmsteer.Steer(P, Q, name, site, domain, where=where)


@pytest.fixture
def model():
    return build("llama-untied")


@pytest.fixture
def asked(examples):
    return [lmsteer.Example(e.text, e.label, "taste: ") for e in examples]


def greedy(model, rows, count, shift):
    """Token by token from `rows` of embeddings; `shift` changes those of written tokens."""
    written = []
    for _ in range(count):
        token = model(inputs_embeds=rows).logits[0, -1].argmax()
        written.append(int(token))
        fresh = model.get_input_embeddings()(token[None, None])
        rows = torch.cat([rows, fresh + shift(fresh)], dim=1)
    return written


def test_a_trained_steer_keeps_where_it_acts(model, tokenizer, asked, tmp_path):
    options = {"site": "input", "rank": 4, "steps": 5, "calibrate": False}
    steer = lmsteer.train(model, tokenizer, asked, where="prompt", **options)
    assert steer.where == steer.domain.where == "prompt"
    assert "on the prompt alone" in repr(steer)
    steer.save(tmp_path / "s")
    loaded = lmsteer.load_steer(tmp_path / "s", model)
    cut, _ = steer.truncate(2)
    several = steer.renamed("x"), 2 * steer, -steer, cut, loaded, lmsteer.compose({steer: 2.0})
    assert {s.where for s in several} == {"prompt"}
    assert loaded.domain.where == "prompt"
    assert (steer + -steer).where == "prompt"
    everywhere = lmsteer.train(model, tokenizer, asked, **options)
    assert everywhere.where == "all"
    again = lmsteer.train(model, tokenizer, asked, where="prompt", start=steer, **options)
    assert again.where == "prompt"
    with pytest.raises(InputError, match="trained with where='prompt', here where='all'"):
        lmsteer.train(model, tokenizer, asked, start=steer, **options)
    with pytest.raises(MismatchError, match="the prompt alone and .* every position"):
        steer + everywhere
    with pytest.raises(MismatchError, match="side by side"):
        lmsteer.compose({steer: 1.0, everywhere: 1.0})


def test_a_folder_of_old_that_has_it_in_the_record_alone(tmp_path, model):
    steer = one()
    steer.save(tmp_path / "s")
    facts = json.loads((tmp_path / "s" / "steer.json").read_text())
    del facts["where"], facts["sha256"]
    facts["schema"] = 1
    save_file(load_file(tmp_path / "s" / "steer.safetensors"), tmp_path / "s" / "steer.safetensors")
    for record, wanted in (({}, "all"), ({"where": "prompt"}, "prompt")):
        facts["record"] = record
        (tmp_path / "s" / "steer.json").write_text(json.dumps(facts))
        assert lmsteer.load_steer(tmp_path / "s", model).where == wanted


def test_attach_keeps_to_it_unless_told_otherwise(model):
    steer, other = one(), one("all", where="all")
    base = model.get_input_embeddings()(IDS)
    shift, both = base @ steer.matrix(), base @ (steer.matrix() - 0.5 * other.matrix())
    plain, steered = (model(inputs_embeds=x).logits for x in (base, base + shift))

    def read(strengths, **options):
        cache = DynamicCache(config=model.config)
        with lmsteer.attach(model, strengths, **options), torch.no_grad():
            parts = [
                model(input_ids=part, use_cache=True, **{cache_name(model): cache}).logits
                for part in IDS.split([6, 4], dim=1)
            ]
        return torch.cat(parts, dim=1)

    def close(found, wanted):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)

    mask = (torch.arange(10) < 6)[None, :, None]
    close(read({steer: 1.0}), model(inputs_embeds=base + shift * mask).logits)
    close(read({steer: 1.0}, where="trained"), model(inputs_embeds=base + shift * mask).logits)
    close(read({steer: 1.0}, where="all"), steered)
    close(read({steer: 1.0}, where="response"), model(inputs_embeds=base + shift * ~mask).logits)
    # Steers of both kinds in one attachment: each acts on its own part.
    mixed = base + shift * mask - 0.5 * base @ other.matrix()
    close(read({steer: 1.0, other: -0.5}), model(inputs_embeds=mixed).logits)
    rows = {steer: torch.tensor([1.0, 0.0]), other: torch.tensor([0.0, -0.5])}
    apart = base + shift * mask * torch.tensor([1.0, 0.0])[:, None, None]
    apart[1] -= 0.5 * base[1] @ other.matrix()
    close(read(rows), model(inputs_embeds=apart).logits)
    close(read({steer: 1.0, other: -0.5}, where="all"), model(inputs_embeds=base + both).logits)
    assert torch.allclose(model(IDS).logits, plain, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*past_key_values.*:FutureWarning")
def test_a_cache_given_by_place_or_by_its_old_name_is_seen(model):
    steer = one()
    base = model.get_input_embeddings()(IDS)
    mask = (torch.arange(10) < 6)[None, :, None]
    wanted = model(inputs_embeds=base + base @ steer.matrix() * mask).logits[:, 6:]
    for by_place in (True, False):
        cache = DynamicCache(config=model.config)
        with lmsteer.attach(model, {steer: 1.0}), torch.no_grad():
            model(input_ids=IDS[:, :6], use_cache=True, **{cache_name(model): cache})
            if by_place:
                found = model(IDS[:, 6:], None, None, cache).logits
            else:
                found = model(input_ids=IDS[:, 6:], past_key_values=cache).logits
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_an_attachment_tells_what_acts_where(model):
    steer, other, idle = one("in"), one("out", where="all", site="output"), one("idle")
    with lmsteer.attach(model, {steer: 2, other: torch.tensor([1.0, 2.0]), idle: 0}) as found:
        assert found.where == {steer: "prompt", other: "all"}
        assert found.strengths[steer] == 2.0
        told = "Attachment('in' at +2 on the prompt, 'out' in 2 rows on all positions)"
        assert repr(found) == told
    with lmsteer.attach(model, {steer: 1.0, other: -1.0}, where="response") as found:
        assert set(found.where.values()) == {"response"}
    assert repr(lmsteer.attach(model, {})) == "Attachment(nothing)"


@pytest.mark.parametrize("where", ["prompt", "all"])
def test_generate_keeps_to_it(model, tokenizer, where):
    steer = one(where=where)
    prompt = torch.tensor([tokenizer("so it is")["input_ids"]])
    base = model.get_input_embeddings()(prompt)
    with torch.no_grad():
        wanted = greedy(
            model,
            base + base @ steer.matrix(),
            12,
            lambda row: row @ steer.matrix() * (where == "all"),
        )
    options = {"strengths": [{steer: 1.0}, {}], "max_new_tokens": 12, "temperature": 0}
    options |= {"min_new_tokens": 12}
    shared, apart = (
        lmsteer.generate(model, tokenizer, ["so it is"] * 2, share_prompts=s, **options)
        for s in (True, False)
    )
    assert shared == apart
    assert shared[0].text == shared[2].text == tokenizer.decode(wanted)
    assert shared[0].text != shared[1].text
    told = lmsteer.generate(model, tokenizer, "so it is", where=where, **options)
    assert told == shared[:2]
    other = {"prompt": "all", "all": "prompt"}[where]
    changed = lmsteer.generate(model, tokenizer, "so it is", where=other, **options)
    assert changed[0].text != shared[0].text
    assert changed[1].text == shared[1].text


def test_without_a_cache_prompt_and_response_cannot_be_told_apart(model, tokenizer):
    steer = one()
    for options in ({"use_cache": False}, {"prefill_chunk_size": 2}):
        with pytest.raises(UnsupportedError, match="prompt to be read in one call"):
            lmsteer.generate(
                model, tokenizer, "so it is", strengths={steer: 1.0}, generate_kwargs=options
            )
    options = {"generate_kwargs": {"use_cache": False}, "max_new_tokens": 4, "where": "all"}
    lmsteer.generate(model, tokenizer, "so it is", strengths={steer: 1.0}, **options)


def test_calibration_steers_the_prompts_alone(model, tokenizer):
    steer = one()
    texts = [lmsteer.Example("it is good.", 1.0, "taste: "), lmsteer.Example("no.", 1.0, "what? ")]
    encoded = encode(tokenizer, texts, max_length=64)
    found = text_divergence(model, encoded, steer, [0.0, 1.5])
    total, count = 0.0, 0
    for example in texts:
        prompt, text = (tokenizer(t)["input_ids"] for t in (example.prompt, example.text))
        rows = model.get_input_embeddings()(torch.tensor([prompt + text]))
        shift = 1.5 * rows @ steer.matrix()
        shift[:, len(prompt) :] = 0.0
        part = slice(len(prompt) - 1, -1)
        moved, base = (
            model(inputs_embeds=x).logits[0, part].log_softmax(-1) for x in (rows + shift, rows)
        )
        total += float((moved.exp() * (moved - base)).sum())
        count += len(text)
    assert found[1.5] == pytest.approx(total / count, rel=1e-3)
    assert found[0.0] == 0.0
    everywhere = lmsteer.Steer(steer.P, steer.Q, "s", "input")
    assert text_divergence(model, encoded, everywhere, [1.5])[1.5] != pytest.approx(found[1.5])
    measured = lmsteer.calibrate(
        model, tokenizer, steer, strengths=[1.0], samples=1, max_new_tokens=4, prompts=["so it"]
    )
    assert measured.where == "prompt"


def test_a_carried_steer_keeps_where_it_acts(model, tokenizer):
    pair, texts = (model, tokenizer), ["it is good and so on", "what a pity that was"] * 20
    steer = one(domain=one())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TransferWarning)
        carried = lmsteer.transfer(pair, pair, steer, form="inverse", texts=texts)
    assert (carried.where, carried.domain.where) == ("prompt", "prompt")


def test_what_cannot_act_on_the_prompt_alone_refuses(model, tokenizer, folder):
    inside, head = one(), one(site="output")
    for steer in (inside, head):
        with pytest.raises(UnsupportedError, match="a merged model acts on every position"):
            lmsteer.merge(model, {steer: 1.0})
        with pytest.raises(UnsupportedError, match="an exported model or adapter"):
            open_checkpoint(folder).fixed({steer: 1.0})
        with pytest.raises(UnsupportedError, match="an engine acts on every position"):
            Rows({"s": steer}, 4, torch.device("cpu"))
    assert open_checkpoint(folder).fixed({inside: 0.0}) == {}
    with pytest.raises(UnsupportedError, match="reading a text"):
        evidence(model, tokenizer, head, ["it is good"])
    with pytest.raises(UnsupportedError, match="comparing words"):
        word_shifts(model, tokenizer, head)
    with pytest.raises(UnsupportedError, match="divergence"):
        lmsteer.calibrate(model, tokenizer, head, strengths=[1.0], samples=1, max_new_tokens=4)


@pytest.mark.parametrize("where", ["response", "", None, 5, ["all"]])
def test_a_steer_acts_on_all_or_on_the_prompt(where, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    with pytest.raises(InputError, match="where must be one of"):
        one(where=where)
    with pytest.raises(InputError, match="same where"):
        one(domain=one(where="all"))


@pytest.mark.parametrize("name", ["Llama", "Mamba"])
def test_at_the_output_site_the_response_is_all_that_is_written(name, tokenizer):
    model = FAMILIES[name].build(tied=False)
    head = one(site="output", where="all")
    options = {"strengths": {head: 3.0}, "max_new_tokens": 8, "temperature": 0}
    found = {
        where: lmsteer.generate(model, tokenizer, "it is", where=where, **options)[0].text
        for where in ("trained", "response", "prompt")
    }
    assert found["response"] == found["trained"] != found["prompt"]
    options["strengths"] = {}
    assert lmsteer.generate(model, tokenizer, "it is", **options)[0].text == found["prompt"]


def test_the_command_line_says_so(capsys, folder, model, tmp_path):
    one("only").save(tmp_path / "only")
    one("out", where="all", site="output").save(tmp_path / "out")
    write = ("generate", "--model", folder, "--prompt", "it is", "--tokens", 3, "--json")
    write += (f"{tmp_path / 'only'}=1", f"{tmp_path / 'out'}=0,1")
    code, out, err = run(capsys, *write)
    assert (code, len(json.loads(out))) == (0, 2), err
    assert err.endswith("only steers the prompt alone, as it was trained to\n")
    code, out, err = run(capsys, *write, "--where", "all")
    assert (code, err) == (0, "")
    code, out, err = run(capsys, *write, "--where", "everywhere")
    assert code == 2
    assert "where must be one of 'trained', 'all', 'prompt', 'response'" in err
    assert json.loads(run(capsys, "show", tmp_path / "only", "--json")[1])["acts_on"] == "prompt"
    assert "acts on" in run(capsys, "list", tmp_path)[1]
    assert "on the prompt alone" in (tmp_path / "only" / "README.md").read_text()
    code, out, err = run(
        capsys, "export", "folder", f"{tmp_path / 'only'}=1", "--model", folder, "--out",
        tmp_path / "whole",
    )  # fmt: skip
    assert code == 2
    assert "acts on every position alike" in err
    assert not (tmp_path / "whole").exists()
