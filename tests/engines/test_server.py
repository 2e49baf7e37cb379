"""The plugin in vLLM's own OpenAI-compatible server, several processes, through its client.

Once with model runner V1 and steers named by the environment, once with V2 and steers named by the
engine's configuration.
"""

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from runners import SECOND
from shapes import build, hooked, prompts, steers_for

pytest.importorskip("vllm")
openai = pytest.importorskip("openai")


@pytest.fixture(scope="module", params=["V1, environment", "V2, additional config"])
def server(request, tmp_path_factory, tokenizer):
    path = tmp_path_factory.mktemp("server")
    model = build("Llama, tied")
    model.save_pretrained(path / "model")
    tokenizer.save_pretrained(path / "model")
    for steer in steers_for(model):
        steer.save(path / steer.name)
    spec = f"good={path}/sentiment,{path}/detox"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if k != "LMSTEER_STEERS"}
    environment |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    environment["VLLM_LOGGING_LEVEL"] = "INFO"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(path / "model"), "--served-model-name", "tiny", "--port", str(port)]
    command += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "128"]
    command += ["--max-logprobs", "300", "--host", "127.0.0.1", "--max-num-seqs", "16"]
    if request.param == "V1, environment":
        environment["LMSTEER_STEERS"] = spec
    else:
        environment |= SECOND
        command += ["--additional-config", f'{{"lmsteer": "{spec}"}}']
    with open(path / "log", "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
        for _ in range(240):
            time.sleep(1)
            assert process.poll() is None, (path / "log").read_text()[-3000:]
            try:
                client.models.list()
                break
            except openai.APIConnectionError:
                continue
        named = "runner V2" if request.param.startswith("V2") else "runner V1"
        assert ("Using V2 Model Runner" in (path / "log").read_text()) == (named == "runner V2")
        yield model, client, named
    finally:
        process.terminate()
        process.wait(60)


def asked(client, prompt, steer, **options):
    extra = {"vllm_xargs": {"steer": steer}, "return_tokens_as_token_ids": True}
    return client.completions.create(
        model="tiny", prompt=prompt, max_tokens=1, logprobs=259, extra_body=extra, **options
    )


def test_requests_at_once_have_strengths_of_their_own(server, matrix):
    model, client, runner = server
    good, detox = steers_for(model)
    lines = {
        "good=2.5,detox=1": {good: 2.5, detox: 1.0},
        "good=-1": {good: -1.0},
        "good.domain=1": {good.domain: 1.0},
        "": {},
    }
    requests = [(prompt, line) for prompt in prompts(8) for line in lines]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda request: asked(client, *request), requests))
    worst = 0.0
    for (prompt, line), answer in zip(requests, answers, strict=True):
        truth = hooked(model, prompt, lines[line])[-1]
        found = answer.choices[0].logprobs.top_logprobs[0]
        assert len(found) >= 259
        worst = max(worst, *(abs(p - float(truth[int(t.split(":")[1])])) for t, p in found.items()))
    print(f"vLLM server, {runner}, float32: {worst:.2g}")
    assert worst <= 1e-3
    matrix[f"vLLM server, {runner}", "requests at once, strengths of their own"] = (
        "within 1e-3, float32"
    )


@pytest.mark.parametrize(
    ("steer", "message"),
    [("bad=1", "served are good, good.domain, detox"), ("good", "pairs"), ("good=inf", "finite")],
)
def test_a_bad_request_is_a_400(server, steer, message, matrix):
    _, client, runner = server
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        asked(client, [5, 6, 7], steer)
    assert caught.value.status_code == 400
    matrix[f"vLLM server, {runner}", "bad requests"] = (
        "HTTP 400, the names that are served in the message"
    )


def test_streams_take_strengths_too(server, matrix):
    model, client, runner = server
    good = steers_for(model)[0]
    pieces = client.completions.create(
        model="tiny", prompt=[5, 6, 7], max_tokens=4, temperature=0, stream=True,
        extra_body={"vllm_xargs": {"steer": "good=3"}, "return_token_ids": True},
    )  # fmt: skip
    written = [t for piece in pieces for t in piece.choices[0].token_ids or []]
    tokens = [5, 6, 7]
    for token in written:
        assert token == int(hooked(model, tokens, {good: 3.0})[-1].argmax())
        tokens.append(token)
    assert written
    matrix[f"vLLM server, {runner}", "streams"] = "token for token"
