"""`lmsteer export` and `lmsteer push` as a user drives them."""

import json

import pytest
import torch
import transformers
from terminal import run

import lmsteer

PROMPT = torch.arange(5, 25).view(2, 10)


@pytest.fixture
def taste(llama, steer, tmp_path):
    mark = lmsteer.model.identity.fingerprint(llama)
    domain = lmsteer.Steer(steer.Q, steer.P, "taste.domain", fingerprint=mark)
    found = lmsteer.Steer(steer.P, steer.Q, "taste", domain=domain, fingerprint=mark)
    found.save(tmp_path / "taste")
    return tmp_path / "taste", found


def test_a_folder(capsys, folder, taste, llama, tmp_path):
    path, steer = taste
    out = tmp_path / "out"
    arguments = ("export", "folder", f"{path}=2", f"{path}.domain=1", "--model", folder)
    code, told, err = run(capsys, *arguments, "--out", out, "--json")
    assert code == 0, err
    facts = json.loads(told)
    assert facts["untied"]
    assert [f["strength"] for f in facts["steers"]] == [2.0, 1.0]
    model, _ = lmsteer.load_model(out)
    with lmsteer.attach(llama, {steer: 2.0, steer.domain: 1.0}):
        assert torch.allclose(model(PROMPT).logits, llama(PROMPT).logits, atol=1e-4)
    assert "taste at +2 (output site)" in (out / "README.md").read_text()
    code, _, err = run(capsys, *arguments, "--out", out)
    assert (code, "--force" in err) == (2, True)
    code, _, err = run(capsys, *arguments, "--out", out, "--force")
    assert (code, "untied" in err) == (0, True)
    code, _, err = run(capsys, "export", "folder", "--model", folder, "--out", tmp_path / "x")
    assert (code, "--untie" in err) == (2, True)
    code, _, _ = run(
        capsys, "export", "folder", "--untie", "--model", folder, "--out", out, "--force"
    )
    assert code == 0
    plain = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert torch.equal(plain(PROMPT).logits, llama(PROMPT).logits)
    assert plain.lm_head.weight is not plain.model.embed_tokens.weight


def test_an_adapter(capsys, folder, taste, tmp_path):
    pytest.importorskip("peft")
    arguments = ("export", "peft", f"{taste[0]}=-1", "--model", folder, "--out", tmp_path / "out")
    code, told, err = run(capsys, *arguments, "--rank", 3, "--json")
    assert code == 0, err
    assert 0 < json.loads(told)["truncation_error"] < 1
    code, _, err = run(capsys, *arguments, "--rank", 3, "--force")
    assert "truncated to rank 3" in err
    assert "merge_and_unload" in err


def test_gguf(capsys, taste, llama, tmp_path):
    gguf = pytest.importorskip("gguf")
    llama.save_pretrained(tmp_path / "plain")
    arguments = ("export", "gguf", taste[0], "--model", tmp_path / "plain", "--out", tmp_path / "g")
    code, _, err = run(capsys, *arguments)
    assert (code, "no tokenizer.json" in " ".join(err.split())) == (2, True)
    code, told, err = run(capsys, *arguments, "--no-base", "--json")
    assert code == 0, err
    files = json.loads(told)["steers"]
    assert sorted(files) == ["taste", "taste.domain"]
    reader = gguf.GGUFReader(files["taste"])
    found = {t.name: torch.tensor(t.data) for t in reader.tensors}
    steer = taste[1]
    assert torch.equal(found["output.weight.lora_a"], steer.P.T)
    table = llama.get_input_embeddings().weight
    assert torch.allclose(found["output.weight.lora_b"], table @ steer.Q, atol=1e-5)
    code, _, err = run(capsys, *arguments, "--no-base", "--force")
    assert "--lora-init-without-apply" in err


def test_push_writes_a_card_with_masked_samples(capsys, folder, taste, monkeypatch):
    pushed = {}

    def push_steer(steer, to, *, private, revision, samples):
        pushed.update(steer=steer, to=to, private=private, samples=samples)
        return "https://hub/commit"

    monkeypatch.setattr("lmsteer.storage.push_steer", push_steer)
    to = ("--repo", "user/taste", "--private")
    code, told, err = run(capsys, "push", f"{taste[0]}=-2,0,2", *to, "--model", folder, "--json")
    assert code == 0, err
    assert json.loads(told) == {"address": "https://hub/commit"}
    assert [s for s, _ in pushed["samples"]] == [-2, -2, 0, 0, 2, 2]
    assert (pushed["to"], pushed["private"]) == ("user/taste", True)
    code, _, _ = run(capsys, "push", taste[0], "--repo", "user/taste")
    assert (code, pushed["samples"]) == (0, [])
