"""An option is declared once; signature, docstring, checks and records follow from there."""

import inspect
from typing import Annotated

import pytest
import torch
from typing_extensions import Unpack

import lmsteer
from lmsteer.cli.train import train as train_command
from lmsteer.errors import InputError
from lmsteer.generation import OPTIONS as GENERATE
from lmsteer.states import Option, Options, at_least
from lmsteer.training import OPTIONS as TRAIN
from lmsteer.training import TrainOptions

FUNCTIONS = {
    "train": lmsteer.train,
    "train_jointly": lmsteer.recipes.train_jointly,
    "self_train": lmsteer.recipes.self_train,
    "calibrate": lmsteer.calibrate,
    "generate": lmsteer.generate,
    "stream": lmsteer.stream,
}


class More(TrainOptions, total=False):
    courage: Annotated[int, Option(3, "How bold the steps are. More is bolder.", at_least(2))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signature_and_docstring_teach_every_option(name):
    function = FUNCTIONS[name]
    shown = inspect.signature(function).parameters
    assert not any(p.kind is p.VAR_KEYWORD for p in shown.values())
    assert "**options" not in function.__doc__
    for one in shown:
        assert f"\n        {one}: " in function.__doc__, one


def test_an_option_takes_one_line():
    options = Options(More, seed=5)

    @options.documented
    def bold(model: object, **options: Unpack[More]) -> None:
        """Train.

        Args:
            model: Any.
            **options: See above.

        Returns:
            Nothing.
        """

    assert inspect.signature(bold).parameters["courage"].default == 3
    assert inspect.signature(bold).parameters["seed"].default == 5
    assert "\n            courage: How bold the steps are. More is bolder.\n\n" in bold.__doc__
    assert bold.__doc__.endswith("Nothing.\n        ")
    told = options.fill({"rank": 2}, "bold")
    assert (told["courage"], told["rank"], told["seed"]) == (3, 2, 5)
    assert set(told) == set(options) == {*TRAIN, "courage"}
    assert options["courage"].summary == "How bold the steps are."
    assert options["courage"].type is int
    with pytest.raises(InputError, match="courage must be at least 2, was: 1"):
        options.fill({"courage": 1}, "bold")
    with pytest.raises(InputError, match="courage must be at least 2, was: 'high'"):
        options.fill({"courage": "high"}, "bold")
    with pytest.raises(
        InputError, match=r"bold\(\) has no option 'curage'; did you mean 'courage'"
    ):
        options.fill({"curage": 4}, "bold")


def test_what_an_option_decides_reaches_the_record(llama, tokenizer, examples):
    steer = lmsteer.train(
        llama, tokenizer, examples, calibrate=False, steps=3, salt="other", weight="text"
    )
    for name, option in TRAIN.items():
        if option.recorded:
            assert name in steer.record, name
    assert (steer.record["salt"], steer.record["weight"]) == ("other", "text")
    assert steer.record["max_length"] == 64  # the model's context


@pytest.mark.parametrize("name", ["train", "generate", "calibrate", "self_train"])
def test_a_misspelt_option_is_named(name, llama, tokenizer, examples):
    given = {"generate": "a", "calibrate": lmsteer.Steer(torch.ones(32, 1), torch.ones(32, 1))}
    with pytest.raises(InputError, match=rf"{name}\(\) has no option 'seeed'; did you mean 'seed'"):
        FUNCTIONS[name](llama, tokenizer, given.get(name, examples), seeed=3)


def test_the_command_line_has_the_same_defaults():
    shown = inspect.signature(train_command).parameters
    several = set(TRAIN) & set(shown)
    assert len(several) > 12
    for name in several:
        assert shown[name].default == TRAIN[name].default, name


def test_help_is_whole_sentences():
    for options in (TRAIN, GENERATE):
        for name, option in options.items():
            assert option.help.endswith("."), name
            assert not option.help.startswith("Of "), name
