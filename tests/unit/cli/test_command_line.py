"""The command line says each thing once: options, steers, JSON, examples."""

import inspect
import re
import shlex
from collections import defaultdict
from typing import Annotated, Any

import pytest
import typer
from command_tree import PROGRAM, commands, parse
from typer.testing import CliRunner

from lmsteer.cli import options, steers
from lmsteer.cli.declared import takes
from lmsteer.cli.train import NOT_HERE
from lmsteer.errors import InputError, NotFoundError
from lmsteer.states.options import Option, Options, at_least
from lmsteer.storage import load_steer
from lmsteer.training import STATISTICS
from lmsteer.training.options import OPTIONS, TrainOptions

COMMANDS = dict(commands())
EXAMPLE = re.compile(r"Example:\s+(lmsteer .*)")
# `list` reads no model, and prints nothing that depends on one; others print what they wrote.
LOADS = {
    "demo", "train", "generate", "calibrate", "import", "sweep", "grid", "evaluate", "compare",
    "transfer", "explain", "push",
}  # fmt: skip


def test_a_name_means_the_same_in_every_command():
    found = defaultdict(dict)
    for name, command in COMMANDS.items():
        for parameter in command.params:
            if parameter.name != "help" and parameter.opts[0].startswith("-"):
                flag = (parameter.is_flag, *parameter.secondary_opts)
                kind = (parameter.help, parameter.nargs, parameter.multiple, flag)
                found[parameter.opts[0]].setdefault(kind, []).append(name)
    for option, kinds in found.items():
        assert len(kinds) == 1, (option, kinds)


def test_what_several_commands_take_is_declared_in_one_file():
    """No command declares an option of its own that another declares too."""
    own = defaultdict(list)
    shared = {
        hint.__metadata__[0].help
        for name, hint in vars(options).items()
        if hasattr(hint, "__metadata__")
    }
    # Nor one that the library declares once, and that two commands take from there.
    shared |= {option.help.replace("`", "") for option in STATISTICS.values()}
    for name, command in COMMANDS.items():
        for parameter in command.params:
            if getattr(parameter, "help", None) not in shared:
                own[parameter.opts[0]].append(name)
    own.pop("--help", None)
    assert {option: names for option, names in own.items() if len(names) > 1} == {}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json_help_and_an_example_that_parses(name):
    command = COMMANDS[name]
    names = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in names
    assert {"--model", "--device", "--dtype"} <= names or name not in LOADS
    assert "--steer" not in names
    help_ = inspect.cleandoc(command.help)
    first = help_.split("\n\n")[0]
    assert first.rstrip()[-1] in ".?"
    (example,) = EXAMPLE.findall(help_)
    assert example.startswith(f"{PROGRAM} {name}")
    parse(shlex.split(example)[1:])
    for parameter in command.params:
        if parameter.name != "help":
            sentence = parameter.help.split("  [default")[0]
            assert sentence.endswith("."), (name, parameter.opts, sentence)


@pytest.mark.parametrize(
    ("spec", "name", "strengths"),
    [
        ("a", "a", []),
        ("a=1", "a", ["1"]),
        ("a=-2,0, 2", "a", ["-2", "0", "2"]),
        ("a.domain=+auto,80%,kl:0.5", "a.domain", ["+auto", "80%", "kl:0.5"]),
        ("dir=3", "dir=3", []),
        ("dir=3.domain", "dir=3.domain", []),
        ("./dir=3=2", "./dir=3", ["2"]),
        ("no=3=2", "no=3", ["2"]),
    ],
)
def test_a_steer_is_a_name_with_or_without_strengths(tmp_path, monkeypatch, spec, name, strengths):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir=3").mkdir()
    assert steers.parse(spec) == (name, strengths)


@pytest.mark.parametrize("spec", ["", "=", "=1", "a=", "a=1,,2"])
def test_half_a_steer_is_refused(spec):
    with pytest.raises(InputError, match="NAME=STRENGTHS"):
        steers.parse(spec)


def test_a_path_with_a_sign_in_it_is_read(steer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    steer.save("run=3")
    ((found, strengths),) = steers.read_mix(["run=3"], "bundled")
    assert (found.digest, strengths) == (steer.digest, [1.0])
    ((_, strengths),) = steers.read_mix(["run=3=2,-1"], "bundled")
    assert strengths == [2.0, -1.0]
    ((_, strengths),) = steers.read_mix(["run=3"], "bundled", alone=[3.0, 4.0])
    assert strengths == [3.0, 4.0]
    with pytest.raises(InputError, match="one strength per steer"):
        steers.read_fixed(["run=3=2,-1"], "bundled")
    with pytest.raises(InputError, match="without strengths"):
        steers.read_name("run=3=2", "bundled")
    with pytest.raises(InputError, match="given twice"):
        steers.read_names(["run=3", "./run=3"], "bundled")
    with pytest.raises(NotFoundError, match="without a domain part"):
        steers.read_name("run=3.domain", "bundled")


def test_a_shipped_steer_is_found_by_the_name_of_its_model_or_by_the_model(bundled):
    by_name = load_steer("sentiment", "bundled")
    assert by_name.digest == load_steer("sentiment", bundled[0]).digest
    assert by_name.digest != load_steer("sentiment", "bundled-small").digest
    assert load_steer("sentiment.domain", "bundled").digest == by_name.domain.digest
    with pytest.raises(NotFoundError, match="for the model 'gpt2'"):
        load_steer("sentiment", "gpt2")


def test_an_option_of_training_is_declared_once_and_reaches_the_command_line():
    """What CONTRIBUTING shows: one line more among the declared options, and nothing else."""

    class More(TrainOptions, total=False):
        warmth: Annotated[float, Option(0.0, "How `warm` the steer is, from 0.", at_least(0))]
        gentle: Annotated[bool, Option(True, "Whether it is gentle.")]

    given = {}

    @takes(Options(More), without=NOT_HERE)
    def command(out: str, **options: Any) -> None:
        given.update(options)

    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, ["x", "--warmth", "2", "--no-gentle", "--rank", "3"])
    assert done.exit_code == 0, done.output
    assert (given["warmth"], given["gentle"], given["rank"]) == (2.0, False, 3)
    assert "How warm the steer is" in CliRunner().invoke(app, ["--help"]).output
    assert set(given) == set(Options(More)) - set(NOT_HERE)


def test_train_takes_every_option_that_training_declares():
    taken = {parameter.name for parameter in COMMANDS["train"].params}
    assert set(OPTIONS) - set(NOT_HERE) <= taken
    for parameter in COMMANDS["train"].params:
        if parameter.name in OPTIONS and parameter.name not in NOT_HERE:
            assert parameter.default == OPTIONS[parameter.name].default, parameter.name
