import json

import pytest
import torch
from typer.testing import CliRunner

import lmsteer
from lmsteer.cli.app import app
from lmsteer.errors import InputError
from lmsteer.text.chat import as_chat
from lmsteer.text.encoding import encode

TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture
def chatty(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", TEMPLATE, raising=False)
    return tokenizer


@pytest.fixture
def answers(examples):
    return [lmsteer.Example(e.text, e.label, "how was it?") for e in examples]


def test_only_the_answer_is_learned_from(chatty, answers):
    (prompt,) = as_chat(chatty, ["how was it?"])
    assert prompt == "[user]how was it?[assistant]"
    encoded = encode(chatty, [lmsteer.Example("fine.", 1.0, prompt)], max_length=64)
    ids, start = encoded.ids[0], int(encoded.starts[0])
    assert chatty.decode(ids[:start]) == prompt
    assert chatty.decode(ids[start:]) == "fine."


def test_training_and_generating_read_the_template(llama, chatty, answers):
    steer = lmsteer.train(llama, chatty, answers, chat=True, calibrate=False)
    assert steer.record["chat"] is True
    plain = [lmsteer.Example(e.text, e.label, "[user]how was it?[assistant]") for e in answers]
    same = lmsteer.train(llama, chatty, plain, calibrate=False)
    assert same.record["held_out"]["tokens"] > 0
    (record,) = lmsteer.generate(llama, chatty, "how was it?", chat=True, max_new_tokens=3)
    assert record.prompt == "[user]how was it?[assistant]"


def test_where_response_leaves_the_reading_of_the_prompt_alone(llama, chatty, steer):
    records = {
        where: lmsteer.generate(
            llama, chatty, "how?", strengths={steer: 3.0}, chat=True, where=where,
            max_new_tokens=12, temperature=0,
        )[0].text
        for where in ("all", "prompt", "response")
    }  # fmt: skip
    base = lmsteer.generate(llama, chatty, "how?", chat=True, max_new_tokens=12, temperature=0)
    # At the output site the prompt's own scores pick nothing, so "prompt" is the base model.
    assert records["prompt"] == base[0].text
    assert records["response"] == records["all"] != base[0].text


def test_a_tokenizer_without_a_template_is_an_error(llama, tokenizer, answers):
    for call in (
        lambda: lmsteer.train(llama, tokenizer, answers, chat=True),
        lambda: lmsteer.generate(llama, tokenizer, "how?", chat=True),
    ):
        with pytest.raises(InputError, match="chat template"):
            call()


def test_a_beginning_that_the_template_writes_is_not_doubled(chatty, monkeypatch):
    from tokenizers.processors import TemplateProcessing

    from lmsteer.text.encoding import prompt_ids

    raw = chatty._tokenizer
    before = raw.post_processor
    raw.post_processor = TemplateProcessing(single="<end> $A", special_tokens=[("<end>", 0)])
    try:
        (plain, written) = prompt_ids(chatty, ["hi", "<end>hi"])
        assert plain == written == [0, *chatty("hi", add_special_tokens=False)["input_ids"]]
    finally:
        raw.post_processor = before


def test_the_command_line(llama, chatty, answers, tmp_path):
    llama.save_pretrained(tmp_path / "model")
    chatty.save_pretrained(tmp_path / "model")
    rows = [{"prompt": e.prompt, "text": e.text, "label": e.label} for e in answers]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = ["--model", str(tmp_path / "model"), "--chat", "--json"]
    trained = CliRunner().invoke(
        app,
        [
            "train",
            str(tmp_path / "a.jsonl"),
            "--out",
            str(tmp_path / "s"),
            "--no-calibrate",
            *model,
        ],
    )
    assert trained.exit_code == 0, trained.output
    assert json.loads(trained.stdout)["chat"] is True
    steer = f"{tmp_path / 's'}=1"
    asked = ["--prompt", "how?", steer, "--where", "response", "--tokens", "3"]
    written = CliRunner().invoke(app, ["generate", *asked, *model])
    assert written.exit_code == 0, written.output
    assert json.loads(written.stdout)[0]["prompt"] == "[user]how?[assistant]"
    assert torch.get_default_dtype() == torch.float32
