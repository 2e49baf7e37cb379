"""Progress draws by itself where somebody watches, and nowhere else."""

import inspect
import io
import sys
import types

import pytest

import lmsteer
from lmsteer.cli.display import progress_bars
from lmsteer.states import SHOWN, drawn, progress, watched
from lmsteer.states.progress import PATIENCE, Line, is_watched


class Terminal(io.StringIO):
    def __init__(self, tty=True):
        super().__init__()
        self.tty = tty

    def isatty(self):
        return super().isatty() or self.tty  # a closed one raises ValueError

    def empty(self):
        self.seek(0)
        self.truncate()

    @property
    def shown(self):
        """What the last line looks like by now."""
        return self.getvalue().split("\r")[-1].rstrip()


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def terminal(monkeypatch):
    stream = Terminal()
    # pytest puts its own sys.stderr back when the test begins.
    ours = types.SimpleNamespace(stderr=stream, modules=dict(sys.modules))
    monkeypatch.setattr(progress, "sys", ours)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return stream


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "_EVERY", 0.0)


@watched
def work(parts, *, progress=SHOWN):
    for number in range(parts):
        if progress:
            progress("read", number + 1, parts)


@watched
def job(*, inner=None, progress=SHOWN):
    if progress:
        progress("fit", 1, 2)
    work(3, **({} if inner is None else inner))


def test_a_line_with_an_estimate_that_is_wiped(terminal):
    clock = Clock()
    line = Line(terminal, clock)
    line("read", 100, 1000)
    clock.now += PATIENCE / 2
    line("read", 200, 1000)
    assert terminal.getvalue() == ""  # short work draws nothing
    clock.now += 99
    line("read", 600, 1000)
    assert terminal.shown == (
        "reading the texts once [" + "#" * 14 + "." * 10 + "] 600/1000 1:40, 1:20 left"
    )
    clock.now += 0.01
    line("read", 601, 1000)  # too soon to be seen
    assert " 600/1000" in terminal.shown
    clock.now += 4000
    line("read", 602, 1000)
    assert "602/1000 1:08:20, 54:" in terminal.shown
    line("read", 1000, 1000)
    assert terminal.shown == ""
    clock.now += 1
    line("measure", 1, 9)  # how long it will take is not known yet
    assert terminal.shown.endswith("measuring [##" + "." * 22 + "] 1/9 1:08:21")
    line.close()
    assert terminal.shown == ""
    assert terminal.getvalue().endswith("\r")


def test_a_pass_that_is_resumed_is_estimated_by_what_is_done_from_here(terminal):
    clock = Clock()
    line = Line(terminal, clock)
    line("read", 900, 1000)
    clock.now += 10
    line("read", 950, 1000)
    assert terminal.shown.endswith("0:10, 0:10 left")


def test_a_name_gives_the_terminal_no_order_and_lines_fit(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    clock = Clock()
    line = Line(terminal, clock)
    clock.now += 10
    line("measure \x1b[2J" + "x" * 100, 1, 3)
    assert "\x1b" not in terminal.getvalue()
    assert len(terminal.shown) <= 39


@pytest.mark.parametrize(
    ("tty", "term", "seen"), [(True, "xterm", True), (False, "xterm", False), (True, "dumb", False)]
)
def test_a_terminal_is_watched_and_a_pipe_is_not(terminal, monkeypatch, at_once, tty, term, seen):
    terminal.tty = tty
    monkeypatch.setenv("TERM", term)
    assert is_watched() == seen
    work(5)
    assert ("reading the texts once" in terminal.getvalue()) == seen
    assert terminal.shown == ""


@pytest.mark.parametrize(
    ("shell", "seen"),
    [("ZMQInteractiveShell", True), ("TerminalInteractiveShell", False), ("NoneType", False)],
)
def test_a_notebook_is_watched(terminal, monkeypatch, at_once, shell, seen):
    terminal.tty = False  # a cell's output is no terminal
    kernel = None if shell == "NoneType" else type(shell, (), {})()
    interactive = types.SimpleNamespace(get_ipython=lambda: kernel)
    monkeypatch.setitem(progress.sys.modules, "IPython", interactive)
    work(5)
    assert ("reading the texts once" in terminal.getvalue()) == seen


def test_no_stderr_or_a_closed_one_is_no_trouble(monkeypatch, terminal, at_once):
    line = Line(terminal)
    terminal.close()
    line("read", 1, 5)
    assert not is_watched()
    monkeypatch.setattr(progress.sys, "stderr", None)
    work(3)


def test_none_and_false_are_silent_and_a_function_is_called(terminal, at_once):
    for silent in (None, False):
        work(3, progress=silent)
        job(progress=silent)  # and so is what it calls
    assert terminal.getvalue() == ""
    told = []
    work(2, progress=lambda *report: told.append(report))
    assert told == [("read", 1, 2), ("read", 2, 2)]


def test_what_a_job_calls_reports_where_the_job_does(terminal, at_once):
    told = []
    job(progress=lambda *report: told.append(report))
    assert told == [("fit", 1, 2), ("read", 1, 3), ("read", 2, 3), ("read", 3, 3)]
    assert terminal.getvalue() == ""
    told.clear()
    job(inner={"progress": None}, progress=lambda *report: told.append(report))
    assert told == [("fit", 1, 2)]
    job()
    assert "fitting the map" in terminal.getvalue()
    assert terminal.shown == ""


def test_an_error_leaves_no_line_behind(terminal, at_once):
    @watched
    def broken(*, progress=SHOWN):
        progress("read", 1, 3)
        assert terminal.shown
        raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert terminal.shown == ""
    SHOWN("read", 1, 3)  # there is no job around
    assert terminal.shown == ""


def test_bars_of_the_command_line_take_all_reports(terminal, at_once, capsys):
    with progress_bars(quiet=True) as told:
        assert told is None
        work(3)
    with progress_bars() as told, drawn(SHOWN) as same:
        assert same is told
        work(3)
    assert terminal.getvalue() == ""


def test_functions_show_what_they_do_by_default(
    llama, tokenizer, examples, steer, terminal, at_once
):
    for function in (lmsteer.train, lmsteer.generate, lmsteer.calibrate, lmsteer.transfer):
        assert inspect.signature(function).parameters["progress"].default is SHOWN
    lmsteer.train(llama, tokenizer, examples, calibrate=False, steps=3)
    assert "fitting the map" in terminal.getvalue()
    terminal.empty()
    lmsteer.generate(llama, tokenizer, "ab", samples=3, max_new_tokens=5, min_new_tokens=5)
    assert "writing, by tokens" in terminal.getvalue()
    assert "12/15" in terminal.getvalue()
    assert terminal.shown == ""
    terminal.empty()
    assert list(lmsteer.stream(llama, tokenizer, "ab", max_new_tokens=5))
    assert terminal.getvalue() == ""  # the text itself is shown


def test_writing_is_reported_by_tokens(llama, tokenizer):
    told = []
    lmsteer.generate(
        llama, tokenizer, ["ab", "c", "d"], max_new_tokens=4, min_new_tokens=4, batch_size=2,
        progress=lambda *report: told.append(report),
    )  # fmt: skip
    assert told == [("generate", done, 12) for done in (2, 4, 6, 8, 9, 10, 11, 12)]
