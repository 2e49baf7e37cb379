"""What belongs to the process, to the model and to the tokenizer is found as it was left."""

import importlib
import logging
import os
import random
import re
import signal
import sys
import threading
import warnings
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from conftest import build
from huggingface_hub.utils import are_progress_bars_disabled
from terminal import run
from transformers.utils import logging as hub_logging

import lmsteer
from lmsteer import cli
from lmsteer.errors import UnsupportedError
from lmsteer.figures.evaluation import tradeoff_figure
from lmsteer.figures.interpretation import value_figure, words_figure
from lmsteer.interpretation.reading import read_texts
from lmsteer.interpretation.value import style_value
from lmsteer.interpretation.words import directions, word_shifts
from lmsteer.metrics.fluency import perplexity
from lmsteer.training.checkpointing import checkpointed

matplotlib = pytest.importorskip("matplotlib")
SOURCE = Path(lmsteer.__file__).parent


def process():
    """All that a process shares, as far as it can be read."""
    mask = os.umask(0)
    os.umask(mask)
    dynamo = sys.modules["torch._dynamo"]
    return {
        "filters": [*warnings.filters],
        "showwarning": warnings.showwarning,
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "umask": mask,
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
        "excepthooks": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "dtype": torch.get_default_dtype(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002 - the one that all share
        "random": random.getstate(),
        "printing": (np.get_printoptions(), np.geterr()),
        "transformers": hub_logging.get_verbosity(),
        "bars": (hub_logging.is_progress_bar_enabled(), are_progress_bars_disabled()),
        "logging": (logging.getLogger().level, [*logging.getLogger().handlers]),
        "loggers": [logging.getLogger(n).level for n in ("torchao", "torch.utils._pytree")],
        "dynamo": dynamo.config.get_config_copy(),
        "inductor": sys.modules["torch._inductor.config"].get_config_copy(),
        "matplotlib": {k: matplotlib.rcParams._get(k) for k in matplotlib.rcParams},
        "pyplot": "matplotlib.pyplot" in sys.modules,
        "alive": {t.name for t in threading.enumerate() if not t.name.startswith("tqdm")},
    }


def inside(model):
    """All that a model is, module by module."""
    hooks = "_forward_hooks _forward_pre_hooks _backward_hooks _state_dict_hooks".split()
    return {
        "modules": {
            name: (
                module.training,
                sorted(vars(module)),
                getattr(module, "gradient_checkpointing", None),
                [{**vars(module)[kind]} for kind in hooks],
            )
            for name, module in model.named_modules()
        },
        "weights": {
            name: (p.requires_grad, p.grad, p.dtype, p.device, p.detach().sum(), id(p))
            for name, p in model.named_parameters()
        },
        "config": (model.config.to_dict(), model.generation_config.to_dict()),
        "class": type(model),
    }


def around(tokenizer):
    """All that a tokenizer is."""
    raw = tokenizer.backend_tokenizer
    return raw.to_str(), tokenizer.padding_side, tokenizer.truncation_side, str(tokenizer)


def check(before, after):
    for name, value in before.items():
        assert after[name] == value, name


@pytest.fixture(autouse=True)
def _as_users_have_it(monkeypatch):
    """Without the tests' checker of types, which draws at random what it looks at.

    And with all loaded that is else loaded at its first use: what it does then is not ours.
    """
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for name in ("torch._dynamo", "torch._inductor.config", "matplotlib.figure", "sklearn"):
        importlib.import_module(name)
    sys.modules.pop("matplotlib.pyplot", None)


@pytest.fixture
def model():
    """In the midst of something: some of it is training, some of it asks for gradients."""
    model = build("gpt2")
    model.train()
    model.transformer.h[0].eval()
    model.transformer.h[1].mlp.dropout.eval()
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(number % 3 != 0)
    return model


def work(model, tokenizer, examples, folder):
    """Everything that a user does with a steer, in one go."""
    options = {"steps": 4, "rank": 4}
    steer = lmsteer.train(model, tokenizer, examples, **options)
    asked = [lmsteer.Example(e.text, e.label, "so: ") for e in examples]
    there = lmsteer.train(
        model, tokenizer, asked, site="input", where="prompt", checkpointing=True,
        calibrate=False, **options,
    )  # fmt: skip
    for solver in ("cached", "paper"):
        lmsteer.train(model, tokenizer, examples, solver=solver, steps=2, calibrate=False)
    ids = torch.tensor([tokenizer("it is so")["input_ids"]])
    with lmsteer.attach(model, {steer: 1.0, there: -1.0}):
        with torch.random.fork_rng():  # the user's own call, in training mode
            model(input_ids=ids)
        records = lmsteer.generate(model, tokenizer, "it is", samples=3, max_new_tokens=4)
    lmsteer.generate(
        model, tokenizer, ["it", "is"], strengths=[{steer: 1.0}, {there: 1.0}, {}],
        max_new_tokens=4, nucleus="base", top_p=0.9,
    )  # fmt: skip
    lmsteer.generate(model, tokenizer, "it", strengths={steer: 1.0}, beams=2, max_new_tokens=4)
    "".join(lmsteer.stream(model, tokenizer, "it", strengths={steer: 1.0}, max_new_tokens=4))
    perplexity(model, tokenizer, records)
    steer.save(folder / "s")
    lmsteer.load_steer(folder / "s", model)
    lmsteer.merge(model, {steer: 1.0})
    directions(model, tokenizer, steer, count=1, words=2)
    gains, losses = word_shifts(model, tokenizer, steer, count=2)
    read_texts(model, tokenizer, steer, ["it is good", "so bad"])
    values = style_value(model, tokenizer, steer, ["it is good", "so bad"])
    words_figure(folder / "words.png", gains, losses, "words")
    value_figure(folder / "value.pdf", values, ["one", "other"], "value")
    row = {"style": lmsteer.metrics.Estimate(0.5, 9, 0.4, 0.6)}
    row["perplexity"] = lmsteer.metrics.Estimate(9.0, 9, 8.0, 10.0)
    tradeoff_figure(folder / "trade.svg", {"a": [("x", row)]}, "style", "title")
    with pytest.raises(lmsteer.errors.InputError):
        lmsteer.train(model, tokenizer, [])
    with pytest.raises(RuntimeError, match="stop"):
        lmsteer.train(model, tokenizer, examples, progress=_stop)
    with pytest.raises(RuntimeError, match="stop"):
        lmsteer.train(model, tokenizer, asked, site="input", checkpointing=True, progress=_stop)


def _stop(stage, done, total):
    raise RuntimeError("stop")


@pytest.mark.filterwarnings("ignore::lmsteer.steer.StrengthWarning")  # of so small a model
def test_all_is_found_as_it_was_left(model, tokenizer, examples, tmp_path):
    before = process(), inside(model)
    told = around(tokenizer)
    work(model, tokenizer, examples, tmp_path)
    check(before[0], process())
    check(before[1], inside(model))
    assert around(tokenizer) == told


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
def test_a_model_that_checkpoints_already_goes_on_so(model, tokenizer, examples):
    switch = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    getattr(model, f"{switch}_checkpointing_enable")()
    before = inside(model)
    options = {"site": "input", "steps": 2, "calibrate": False, "checkpointing": True}
    lmsteer.train(model, tokenizer, examples, **options)
    check(before, inside(model))
    bare = torch.nn.Linear(2, 2)
    with pytest.raises(UnsupportedError, match="Linear cannot compute"), checkpointed(bare, True):
        pass


def test_a_models_mode_has_no_say(tokenizer, examples):
    """Dropout would tell: what is learned and written in training mode is that of eval mode."""
    found = []
    for mode in (False, True):
        model = build("gpt2").train(mode).requires_grad_(mode)
        options = {"steps": 4, "rank": 4, "calibrate": False, "fast": False}
        steers = [
            lmsteer.train(model, tokenizer, examples, site=site, **options)
            for site in ("output", "input")
        ]
        texts = lmsteer.generate(
            model, tokenizer, "it is", strengths=[{s: 1.0} for s in steers], max_new_tokens=8
        )
        found.append(([s.matrix() for s in steers], texts, steers[1].record["held_out"]))
    assert all(torch.equal(a, b) for a, b in zip(found[0][0], found[1][0], strict=True))
    assert found[0][1:] == found[1][1:]


def test_loading_changes_nothing():
    lmsteer.load_model("bundled-small")  # what is loaded lazily the first time
    before = process()
    model = lmsteer.load_model("bundled-small")[0]
    check(before, process())
    assert lmsteer.storage.shipped_steers(model)
    check(before, process())


def test_a_command_called_from_within_python_changes_nothing(
    capsys, folder, tmp_path, examples, monkeypatch
):
    called = []
    monkeypatch.setattr(cli.app, "keep", lambda: called.append(True))
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    rows = [f'{{"text": "{e.text}", "label": {e.label}}}' for e in examples]
    (tmp_path / "data.jsonl").write_text("\n".join(rows))
    steer, model = tmp_path / "taste", ("--model", folder)
    train = ("train", tmp_path / "data.jsonl", *model, "--steps", 2, "--out", steer)
    before = process()
    assert run(capsys, *train, "--no-calibrate")[0] == 0
    write = ("generate", *model, f"{steer}=9", "--prompt", "it is", "--tokens", 2)
    assert run(capsys, *write)[0] == 0
    small = ("--tokens", 2, "--samples", 1, "--count", 2)
    sweep = ("sweep", steer, *model, "--points", 2, *small)
    assert run(capsys, *sweep, "--scorer", "vader", "--figure", tmp_path / "sweep.png")[0] == 0
    figures = ("--figures", tmp_path / "figures")
    assert run(capsys, "explain", steer, *model, "--text", "it is good", *figures)[0] == 0
    assert run(capsys, "generate", *model)[0] == 2
    check(before, process())
    assert not called
    monkeypatch.setattr(sys, "argv", ["lmsteer", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    assert called == [True]  # the heap is the command's own in the command's own process alone


def test_no_room_but_the_command_lines_touches_what_a_process_shares():
    """By reading: what cannot be read back afterwards, or only seldom happens."""
    pattern = r"mallopt|pyplot\b(?!`)|_dynamo\.(config|reset)|matplotlib\.use|os\.environ\[|umask\("
    pattern += r"|set_verbosity|torch\.manual_seed|np\.random\.seed|set_default_dtype|os\.chdir"
    allowed = {"cli/heap.py", "cli/display.py", "engines/requests.py"}
    allowed |= {"research/methods/adapters.py", "research/theory/trunk.py"}
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        if name not in allowed:
            found = re.search(pattern, path.read_text())
            assert not found, (name, found)
