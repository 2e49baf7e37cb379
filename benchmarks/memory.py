"""The formula of docs/training.md for the memory that training needs beyond the loaded model.

`python -m benchmarks memory` trains on each shape in a process of its own and prints the measured
peak beside the formula.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import lmsteer
from lmsteer.model.head import Head
from lmsteer.model.lowering import _copied
from lmsteer.model.modes import fast_dtype
from lmsteer.model.tables import head_of, text_config
from lmsteer.states.cache import Keep
from lmsteer.states.gathering import EVERY
from lmsteer.states.hidden import _TOKENS_AT_ONCE

LIBRARIES = 300 << 20  # on a CPU: code of the libraries as it is paged in, and the heap's slack
BYTES_A_SCORE = 24


def expected_peak(model: Any, tokens: int, *, parts: int, fast: bool, summed: bool) -> int:
    """Bytes beyond the model; see docs/training.md for what each line is."""
    table = head_of(model).weight
    vocab, dim = table.shape
    config = text_config(model)
    width = getattr(config, "intermediate_size", None) or 4 * dim
    device = table.device
    half = fast and fast_dtype(device).itemsize == 2
    size = 2 if half else 4
    if summed:  # by the solver newton: rows of one token in eight at most, and sums
        states = min(tokens // EVERY, 4096) * dim * size + tokens * 80
        states += 8 * dim**2 * (parts + parts * (parts + 1) // 2 + 4) * 2
    else:
        states = int(min(tokens * dim * size, Keep().memory * 2**30)) + tokens * 80
    head = vocab * dim * (2 * half + 4 * (table.element_size() < 4))
    at_once = _TOKENS_AT_ONCE.get(device.type, 16384)
    trunk = at_once * (12 * dim + 4 * width) * 4
    if half:
        trunk += 2 * sum(weight.numel() for weight in _copied(model, tables=False))
    scores = Head(table, None).chunk_tokens * vocab * BYTES_A_SCORE
    maps = 32 * (parts * dim) ** 2
    rest = LIBRARIES if device.type == "cpu" else 0
    return int(states + head + max(trunk, scores + maps) + rest)


def memory(field: str) -> int:
    """A field of this process's status, in KiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def peak_of(work: Any) -> tuple[Any, int]:
    """What `work` returns, and the MB that it needed beyond what was there before."""
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, without the loading
    found = work()
    return found, round((memory("VmHWM") - before) / 1024)


def load(name: str) -> tuple[Any, Any]:
    """A model by name, or random weights of a GPT-2-small shape."""
    if name != "random-gpt2":
        return lmsteer.load_model(name)
    import torch
    from transformers import AutoModelForCausalLM, GPT2Config

    _, tokenizer = lmsteer.load_model("bundled")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(GPT2Config()).eval().requires_grad_(False)
    return model, tokenizer


def measure(name: str, solver: str, texts: int, fast: bool) -> dict[str, Any]:
    """Train once in this process."""
    model, tokenizer = load(name)
    examples = lmsteer.read_examples("bundled:sentiment")
    step = max(1, len(examples) // texts)

    def work() -> Any:
        return lmsteer.train(
            model, tokenizer, examples[::step][:texts], solver=solver, calibrate=False, fast=fast
        )

    steer, peak = peak_of(work)
    tokens = steer.record["data"]["tokens"]
    summed = solver == "newton"
    formula = expected_peak(model, tokens, parts=2, fast=fast, summed=summed)
    return {
        "model": name,
        "solver": solver,
        "fast": fast,
        "tokens": tokens,
        "peak_mb": peak,
        "formula_mb": round(formula / 2**20),
    }


def run(args: argparse.Namespace) -> None:
    """Each model with each solver, in processes of their own; JSON, one line per run."""
    if args.arm:
        solver, fast = args.arm.split(":")
        print(json.dumps(measure(args.model, solver, args.texts, fast == "fast")))
        return
    for arm in ("newton:fast", "newton:exact", "convex:fast"):
        print(json.dumps(apart(args.model, arm, args.texts)), flush=True)


def apart(model: str, arm: str, texts: int) -> dict[str, Any]:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks", "memory", "--model", model]
    command += ["--arm", arm, "--texts", str(texts)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().split("\n")[-1])
    return found
