"""Exports score as the hook does: folders and PEFT adapters, every family, tied and untied."""

import copy
import json

import pytest
import torch
from families import FAMILIES
from safetensors.torch import load_file
from test_families import CASES, logits, steer_for

import lmsteer
from lmsteer.errors import ArtefactError, InputError, MismatchError, UnsupportedError
from lmsteer.export.checkpoint import open_checkpoint
from lmsteer.export.folder import export_folder
from lmsteer.export.peft import export_peft, guard_merging

pytestmark = [  # PEFT's own words
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings=True"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]


def log_probs(model):
    return torch.log_softmax(logits(model).double(), dim=-1)


def saved(name, tied, path, **options):
    model = FAMILIES[name].build(tied=tied)
    model.save_pretrained(path, **options)
    return model, open_checkpoint(path)


@pytest.mark.parametrize(("name", "tied"), CASES)
def test_a_folder_scores_as_the_hook(name, tied, tmp_path):
    model, checkpoint = saved(name, tied, tmp_path / "base")
    steers = {steer_for(model, "output"): 1.5, steer_for(model, "input"): -0.5}
    if tied is None and checkpoint.tied:
        with pytest.raises(UnsupportedError, match="attach the steer instead"):
            export_folder(checkpoint, steers, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return
    facts = export_folder(checkpoint, steers, tmp_path / "out")
    assert facts["untied"] is bool(tied)
    with lmsteer.attach(model, steers):
        truth = log_probs(model)
    again = type(model).from_pretrained(tmp_path / "out").eval()
    assert (log_probs(again) - truth).abs().max() <= 1e-4
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_in_many_files_equals_the_merged_model(tied, tmp_path):
    model = FAMILIES["Llama"].build(tied=tied).bfloat16()
    model.save_pretrained(tmp_path / "base", max_shard_size="20KB")
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 2
    opened = open_checkpoint(tmp_path / "base").model
    loaded = {name for name, p in opened.named_parameters() if p.device.type != "meta"}
    assert loaded == {"model.embed_tokens.weight"} | (set() if tied else {"lm_head.weight"})
    steer = steer_for(model, "output")
    export_folder(open_checkpoint(tmp_path / "base"), {steer: 2.0}, tmp_path / "out")
    merged = lmsteer.merge(model, {steer: 2.0}).state_dict()
    again = type(model).from_pretrained(tmp_path / "out").state_dict()
    assert merged.keys() == again.keys()
    for key, value in merged.items():
        assert torch.equal(value, again[key]), key
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    total = sum(t.numel() * 2 for t in again.values())
    assert index["metadata"]["total_size"] == total


def test_folders_are_replaced_only_by_force_and_never_foreign_ones(tmp_path):
    model, checkpoint = saved("GPT-2", True, tmp_path / "base")
    steer = steer_for(model, "output")
    export_folder(checkpoint, {steer: 0.0}, tmp_path / "out")  # nothing but a copy
    assert torch.equal(logits(type(model).from_pretrained(tmp_path / "out").eval()), logits(model))
    with pytest.raises(InputError, match="exists already.*--force"):
        export_folder(checkpoint, {steer: 1.0}, tmp_path / "out")
    export_folder(checkpoint, {steer: 1.0}, tmp_path / "out", force=True)
    with pytest.raises(InputError, match="not an export"):
        export_folder(checkpoint, {steer: 1.0}, tmp_path / "base", force=True)


def test_what_cannot_be_opened_says_why(tmp_path):
    _, checkpoint = saved("Llama", False, tmp_path / "base")
    other = steer_for(FAMILIES["Mistral"].build(), "output")
    with pytest.raises(MismatchError, match="other weights"):
        export_folder(checkpoint, {other: 1.0}, tmp_path / "out")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    changed = {**config, "vocab_size": 300}
    (tmp_path / "base" / "config.json").write_text(json.dumps(changed))
    with pytest.raises(ArtefactError, match="expected model.embed_tokens.weight of shape"):
        open_checkpoint(tmp_path / "base")
    quantised = {**config, "quantization_config": {"quant_method": "gptq", "bits": 4}}
    (tmp_path / "base" / "config.json").write_text(json.dumps(quantised))
    with pytest.raises(UnsupportedError, match="quantised"):
        open_checkpoint(tmp_path / "base")
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    (tmp_path / "base" / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ArtefactError, match="damaged"):
        open_checkpoint(tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").unlink()
    with pytest.raises(ArtefactError, match="save the model anew"):
        open_checkpoint(tmp_path / "base")


@pytest.mark.parametrize(("name", "tied"), CASES)
def test_an_adapter_scores_as_the_hook(name, tied, tmp_path):
    peft = pytest.importorskip("peft")
    model, checkpoint = saved(name, tied, tmp_path / "base")
    steer = steer_for(model, "output")
    base = logits(model)
    with lmsteer.attach(model, {steer: -1.5}):
        truth = log_probs(model)
    facts = export_peft(checkpoint, {steer: -1.5}, tmp_path / "lora")
    assert (facts["rank"], facts["truncation_error"]) == (5, 0.0)
    adapted = peft.PeftModel.from_pretrained(model, tmp_path / "lora").eval()
    assert (log_probs(adapted) - truth).abs().max() <= 1e-4
    adapted.save_pretrained(tmp_path / "again", save_embedding_layers=False)
    kept = load_file(tmp_path / "again" / "adapter_model.safetensors")
    wrote = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    assert kept.keys() == wrote.keys()
    assert all(torch.equal(kept[key], wrote[key]) for key in kept)
    with adapted.disable_adapter():
        assert torch.equal(logits(adapted), base)


@pytest.mark.parametrize("tied", [True, False])
def test_adapters_compose_scale_and_mix_within_a_batch(tied, tmp_path):
    peft = pytest.importorskip("peft")
    model, checkpoint = saved("Llama", tied, tmp_path / "base")
    one = steer_for(model, "output")
    other = lmsteer.Steer(one.Q.flip(0), one.P.flip(1), "other", fingerprint=one.fingerprint)
    truths = {}
    for mix in ((2.0, -1.0), (0.7, 0.0), (0.0, 3.0)):
        with lmsteer.attach(model, {one: mix[0], other: mix[1]}):
            truths[mix] = log_probs(model)
    unsteered = log_probs(model)
    assert export_peft(checkpoint, {one: 2.0, other: -1.0}, tmp_path / "both")["rank"] == 10
    export_peft(checkpoint, {one: 1.0}, tmp_path / "one")
    export_peft(checkpoint, {other: 1.0}, tmp_path / "other")
    adapted = peft.PeftModel.from_pretrained(model, tmp_path / "both").eval()
    assert (log_probs(adapted) - truths[2.0, -1.0]).abs().max() <= 1e-4
    for name in ("one", "other"):
        adapted.load_adapter(tmp_path / name, adapter_name=name)
    for mix, truth in truths.items():
        parts = {n: s for n, s in zip(("one", "other"), mix, strict=True) if s}
        name = f"mix{mix}".replace(".", "_")
        adapted.add_weighted_adapter(
            list(parts), list(parts.values()), combination_type="cat", adapter_name=name
        )
        adapted.set_adapter(name)
        assert (log_probs(adapted) - truth).abs().max() <= 1e-4
    tokens = torch.arange(5, 25).view(2, 10)
    rows = adapted(input_ids=tokens, adapter_names=["mix(0_7, 0_0)", "__base__"]).logits
    rows = torch.log_softmax(rows.double(), dim=-1)
    assert (rows[0] - truths[0.7, 0.0][0]).abs().max() <= 1e-4
    assert (rows[1] - unsteered[1]).abs().max() <= 1e-4


@pytest.mark.parametrize("tied", [True, False])
def test_merging_an_adapter_on_a_tied_head(tied, tmp_path):
    peft = pytest.importorskip("peft")
    model, checkpoint = saved("Llama", tied, tmp_path / "base")
    steer = steer_for(model, "output")
    with lmsteer.attach(model, {steer: 1.5}):
        truth = log_probs(model)
    export_peft(checkpoint, {steer: 1.5}, tmp_path / "lora")
    assert ("merge_and_unload" in (tmp_path / "lora" / "README.md").read_text()) is tied
    plain = peft.PeftModel.from_pretrained(copy.deepcopy(model), tmp_path / "lora")
    # What the note and the guard are for: on a tied head the merge is wrong.
    off = float((log_probs(plain.merge_and_unload()) - truth).abs().max())
    assert (off > 0.1) is tied
    adapted = peft.PeftModel.from_pretrained(model, tmp_path / "lora").eval()
    merged = guard_merging(adapted).merge_and_unload()
    assert (log_probs(merged) - truth).abs().max() <= 1e-4
    merged.save_pretrained(tmp_path / "merged")
    again = type(model).from_pretrained(tmp_path / "merged").eval()
    assert (log_probs(again) - truth).abs().max() <= 1e-4


def test_a_truncated_adapter_reports_what_it_lost(tmp_path):
    pytest.importorskip("peft")
    model, checkpoint = saved("Llama", True, tmp_path / "base")
    steer = steer_for(model, "output")
    facts = export_peft(checkpoint, {steer: 2.0}, tmp_path / "cut", rank=2)
    assert facts["truncation_error"] == pytest.approx(steer.truncate(2)[1], rel=1e-5)
    tensors = load_file(tmp_path / "cut" / "adapter_model.safetensors")
    A, B = (tensors[f"base_model.model.lm_head.lora_{x}.weight"] for x in "AB")
    wanted = 2.0 * steer.truncate(2)[0].matrix().T
    found = torch.linalg.lstsq(model.get_output_embeddings().weight, B @ A).solution
    assert torch.allclose(found, wanted, atol=1e-4)
    assert "differs" in (tmp_path / "cut" / "README.md").read_text()
    for wrong, match in ((0, "between 1 and 5"), (6, "between 1 and 5")):
        with pytest.raises(InputError, match=match):
            export_peft(checkpoint, {steer: 2.0}, tmp_path / "x", rank=wrong)
    with pytest.raises(InputError, match="nothing to export"):
        export_peft(checkpoint, {steer: 0.0}, tmp_path / "x")
    with pytest.raises(UnsupportedError, match="lmsteer export folder"):
        export_peft(checkpoint, {steer_for(model, "input"): 1.0}, tmp_path / "x")


def test_the_bars_on_the_bundled_model(bundled, tmp_path):
    """100 prompts at 5 mixes of strengths, folder and adapter in float32, within 1e-4."""
    peft = pytest.importorskip("peft")
    model, tokenizer = bundled
    checkpoint = open_checkpoint("bundled")
    steer, other = (lmsteer.load_steer(name, model) for name in ("sentiment", "detox"))
    mixes = [{steer: 2.0}, {steer: -3.0}, {steer: 1.0, other: 1.0}]
    mixes += [{steer: 1.0, steer.domain: 1.0}, {steer: 0.0}]
    texts = lmsteer.read_prompts("bundled:neutral")[:100]
    assert len(texts) == 100
    inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
    kept = inputs["attention_mask"].bool()

    def scores(network):
        return torch.log_softmax(network(**inputs).logits[kept].double(), dim=-1)

    worst = {"folder": 0.0, "peft": 0.0}
    for number, mix in enumerate(mixes):
        with lmsteer.attach(model, mix):
            truth = scores(model)
        path = tmp_path / str(number)
        export_folder(checkpoint, mix, path, dtype="float32")
        off = (scores(lmsteer.load_model(path)[0]) - truth).abs().max()
        worst["folder"] = max(worst["folder"], float(off))
        if any(mix.values()):
            export_peft(checkpoint, mix, tmp_path / f"lora{number}")
            adapted = peft.PeftModel.from_pretrained(model, tmp_path / f"lora{number}")
            off = (scores(adapted) - truth).abs().max()
            model = adapted.unload()
            worst["peft"] = max(worst["peft"], float(off))
    print(worst)
    assert max(worst.values()) <= 1e-4
    with pytest.raises(InputError, match="dtype must be one of"):
        export_folder(checkpoint, {}, tmp_path / "x", dtype="int8")
