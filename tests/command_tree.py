"""The commands of `lmsteer` as a tree, and a parser that runs none of them."""

import typer

from lmsteer.cli.app import app

PROGRAM = "lmsteer"


def commands(prefix="", group=None):
    """Each command by its name, such as ``export folder``."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(f"{prefix}{name} ", command)
        else:
            yield f"{prefix}{name}", command


def parse(words):
    """What a command would be given; unknown commands and options, and missing arguments, raise."""
    command, context = typer.main.get_command(app), None
    words = list(words)
    while hasattr(command, "commands"):
        if not words or words[0] not in command.commands:
            raise ValueError(f"no command {words[:1]} in {sorted(command.commands)}")
        context = command.make_context(words[0], [], parent=context, resilient_parsing=True)
        command = command.commands[words.pop(0)]
    return command.make_context(command.name, words, parent=context).params
