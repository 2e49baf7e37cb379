"""An installed lmsteer changes nothing for those who do not ask for steers."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from runners import SECOND
from shapes import build

pytest.importorskip("vllm")
STOCK = Path(__file__).with_name("stock.py")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("stock") / "model"
    build("Llama, tied").save_pretrained(path)
    return path


def run(model, how, **changes):
    """What stock.py tells, and all that was logged meanwhile."""
    left_out = ("LMSTEER_STEERS", "VLLM_PLUGINS", "VLLM_LOGGING_LEVEL")
    environment = {k: v for k, v in os.environ.items() if k not in left_out} | changes
    done = subprocess.run(
        [sys.executable, str(STOCK), str(model), how], env=environment, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("FACTS "))
    return json.loads(line[6:]), done.stderr + done.stdout.replace(line, "")


def test_stock_vllm_is_what_it_is_without_the_plugin(model, matrix):
    plain, _ = run(model, "alone", VLLM_PLUGINS="")
    assert (plain["here"], plain["second runner"]) == ([], False)
    with_us, log = run(model, "alone")
    assert with_us["written"] == plain["written"]
    assert with_us["processors"] is None
    assert with_us["here"] == ["lmsteer_vllm"]
    assert with_us["in workers"] == [["lmsteer_vllm"]]
    assert "steer" not in log.lower()
    matrix["vLLM", "no steers named: lmsteer is only installed"] = (
        "as without it: same text and log-probs, nothing of ours imported or logged"
    )


@pytest.mark.slow
def test_nor_in_processes_of_its_own(model):
    facts, log = run(model, "several")
    assert facts["here"] == ["lmsteer_vllm"]
    assert facts["in workers"] == [["lmsteer_vllm"]]
    assert "steer" not in log.lower()


def test_the_second_runners_loader_takes_the_distribution():
    from vllm.v1.worker.gpu.sample.logits_processor import loader

    from lmsteer.engines.second_runner import Requests
    from lmsteer.engines.vllm import PROCESSORS

    assert not [p for p in entry_points(group=loader.LOGITSPROCS_GROUP) if "lmsteer" in p.value]
    (mine,) = (p for p in entry_points(group="vllm.general_plugins") if p.name == "lmsteer")
    assert mine.value == "lmsteer_vllm:register"
    assert loader._load_v2_logitsprocs(None) == []
    loader.build_custom_logits_processors_params_validator(None)(None)  # refuses nothing
    assert loader._load_v2_logitsprocs([PROCESSORS[True]]) == [Requests]


def test_the_second_runner_starts_with_the_distribution(model, matrix):
    facts, log = run(model, "alone", **SECOND)
    assert facts["second runner"]
    assert facts["processors"] is None
    assert facts["here"] == ["lmsteer_vllm"]
    assert "steer" not in log.lower()
    matrix["vLLM, model runner V2", "no steers named: lmsteer is only installed"] = (
        "starts and writes; nothing of ours imported or logged"
    )
