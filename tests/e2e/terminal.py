"""The command line as a user drives it."""

import pytest

from lmsteer.cli import main


def run(capsys, *arguments):
    capsys.readouterr()  # what the fixtures wrote before is not the command's
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def tree(root):
    """Every file and folder below, with what it holds."""
    return {
        (path, path.read_bytes() if path.is_file() else b"") for path in sorted(root.rglob("*"))
    }


def outside(root, before, *allowed):
    """What has come or changed since, other than at or below the places allowed."""
    return {
        path
        for path, _ in tree(root) - before
        if not any(path == place or place in path.parents for place in allowed)
    }
