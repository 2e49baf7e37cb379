"""Trainings that are killed, and trainings in several processes: real commands, on real weights."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from lmsteer.storage.steers import read_steer

TRAIN = ["-m", "lmsteer.cli", "train", "bundled:sentiment", "--model", "bundled-small"]
TRAIN += ["--no-calibrate", "--no-fast"]
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "steer"
    subprocess.run([sys.executable, *TRAIN, "--out", folder], check=True, env=ENV)
    return read_steer(folder)


def difference(one, two):
    pairs = ((one, two), (one.domain, two.domain))
    return max(float((a.matrix() - b.matrix()).norm() / a.matrix().norm()) for a, b in pairs)


def test_two_processes_give_the_steer_of_one(alone, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launch += ["--master_port", "29517"]
    subprocess.run([*launch, *TRAIN, "--out", tmp_path / "two"], check=True, env=ENV)
    two = read_steer(tmp_path / "two")
    assert two.record["processes"] == 2
    assert difference(alone, two) <= 1e-6
    assert not (tmp_path / "two" / ".lmsteer").exists()


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_training_resumes(alone, tmp_path, kill):
    # Batches of few tokens, so that the pass is long enough to be caught in the middle.
    # A shell lets what it starts in the background ignore Ctrl-C; a user's terminal does not.
    slow = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys; from lmsteer.states import hidden\n"
        "hidden._TOKENS_AT_ONCE = {'cpu': 64}; hidden.SAVE_EVERY = 4\n"
        "from lmsteer.cli import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", slow, *TRAIN[2:], "--out", str(tmp_path / "steer")]
    process = subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True)
    told = tmp_path / "steer" / ".lmsteer" / "unfinished" / "states-0of1.json"
    deadline = time.time() + 60
    while not told.exists() and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(kill)
    _, said = process.communicate(timeout=60)
    if kill == signal.SIGINT:
        assert process.returncode == 130
        assert "--resume" in said
    done = json.loads(told.read_text())["batches"]
    assert 0 < done < 100
    refused = subprocess.run(command, env=ENV, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    other = subprocess.run(
        [*command, "--resume", "--held-out", "0.3"], env=ENV, capture_output=True, text=True
    )
    assert other.returncode == 2
    assert "held_out was 0.1, is 0.3" in other.stderr
    subprocess.run([*command, "--resume"], check=True, env=ENV)
    assert difference(alone, read_steer(tmp_path / "steer")) <= 1e-4
    assert not told.parent.exists()
