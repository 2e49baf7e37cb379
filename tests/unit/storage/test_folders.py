"""Whatever is killed or raised, a path holds a whole steer, the old one or the new one.

`make test-survival` runs the random part at 2,000 rounds each.
"""

import contextlib
import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from lmsteer.errors import InputError
from lmsteer.steer.steer import Steer
from lmsteer.storage import locks
from lmsteer.storage.folders import MARK, is_free, working, write_file, writing
from lmsteer.storage.steers import check_writable, save_steer

ROUNDS = int(os.environ.get("LMSTEER_ROUNDS", "60"))
FILES = {"README.md", "steer.json", "steer.safetensors"}
FORK = multiprocessing.get_context("fork") if os.name != "nt" else None
needs_fork = pytest.mark.skipif(FORK is None, reason="kills processes that were forked")


@pytest.fixture
def ctrl_c():
    """As in a command of its own: test runners that run tests in parallel ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def made(number):
    """A steer whose numbers and name say the same."""
    values = torch.full((48, 4), float(number))
    return Steer(values, values, f"number {number}", record={"note": "x" * 4000})


def held(path):
    """The number of the steer that lies at a path, which must be whole."""
    steer = Steer.load(path)
    numbers = {*steer.P.flatten().tolist(), *steer.Q.flatten().tolist()}
    assert numbers == {float(steer.name.removeprefix("number "))}
    return int(numbers.pop())


def names(folder):
    return {p.name for p in folder.iterdir()}


def save_on(path, first, begun):
    """Save one steer after another until something ends it."""
    os.fsync = lambda _: None  # slow, and of no account to a kill
    with contextlib.suppress(KeyboardInterrupt):
        os.write(begun, b".")
        for number in range(first, first + 100_000):
            save_steer(made(number % 1000), path, force=True)
    os._exit(0)


@needs_fork
@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_processes_that_are_ended_at_random_moments(tmp_path, number):
    path, dice = tmp_path / "s", random.Random(number)
    begin = time.perf_counter()
    for _ in range(10):
        save_steer(made(0), path, force=True)
    pace = (time.perf_counter() - begin) / 10  # of a save, on this machine as it is
    (path / "mine.txt").write_text("of the user")
    before, progress, (told, begun) = 0, 0, os.pipe()
    for round_ in range(ROUNDS):
        process = FORK.Process(target=save_on, args=(path, round_ * 7, begun))
        process.start()
        os.read(told, 1)
        time.sleep(dice.uniform(0, 4 * pace))
        held(path)  # while it is being written
        for _ in range(20):  # Python drops a Ctrl-C that falls into a finalizer
            os.kill(process.pid, number)
            process.join(0.5)
            if not process.is_alive():
                break
        else:
            process.kill()
            pytest.fail("a writer hangs")
        after = held(path)  # which also tidies up
        before, progress = after, progress + (after != before)
        assert names(path) == FILES | {"mine.txt"}
        assert [p.name for p in tmp_path.iterdir()] == ["s"]
    assert progress > ROUNDS / 6  # the kills did fall among writes
    save_steer(made(7), path, force=True)
    assert held(path) == 7
    assert (path / "mine.txt").read_text() == "of the user"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python's own
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_at_random_moments_in_one_process(tmp_path):
    """A lock that was not let go would stop the next save."""
    path, dice = tmp_path / "s", random.Random(1)
    save_steer(made(0), path)
    interrupted = 0
    for _ in range(ROUNDS):
        timer = threading.Timer(dice.uniform(0, 0.01), os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            for number in range(50):
                save_steer(made(number), path, force=True)
            timer.join()
            time.sleep(0.001)
        except KeyboardInterrupt:
            interrupted += 1
        with contextlib.suppress(KeyboardInterrupt):
            timer.join()
        held(path)
        assert names(path) == FILES
    assert interrupted > ROUNDS / 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


STEPS = ["rename", "replace", "mkdir", "unlink", "rmdir", "write_bytes", "write_text"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("step", STEPS)
def test_every_step_that_can_fail(tmp_path, monkeypatch, step, error):
    """Each call of each step fails in turn, before it is done and after."""
    path = tmp_path / "s"
    save_steer(made(1), path)
    plain, old, failures = getattr(Path, step), 1, 0
    for late in (False, True):
        for call in range(40):
            calls = 0

            def broken(self, *args, late=late, call=call, **options):
                nonlocal calls
                calls += 1
                if calls == call + 1:
                    if late:
                        plain(self, *args, **options)
                    raise error(28, "No space left on device")
                return plain(self, *args, **options)

            new = old + 1
            with monkeypatch.context() as patch:
                patch.setattr(Path, step, broken)
                try:
                    save_steer(made(new), path, force=True)
                except error:
                    failures += 1
            found = held(path)
            assert found in (old, new)
            old = found
            assert names(path) == FILES
            if calls <= call:
                break
        else:
            pytest.fail("never came to an end")
    assert failures or (error is OSError and step in ("unlink", "rmdir"))  # of what may stay


@needs_fork
def test_two_writers_at_once(tmp_path):
    """They write until a reader has seen a steer of each, however the machine shares its time."""
    path, enough = tmp_path / "s", FORK.Event()
    save_steer(made(0), path)

    def writer(first):
        rounds = 0
        while rounds < max(20, ROUNDS // 4) or not enough.is_set():
            save_steer(made(first + rounds % 100), path, force=True)
            rounds += 1

    processes = [FORK.Process(target=writer, args=(first,)) for first in (100, 200)]
    for process in processes:
        process.start()
    seen, deadline = set(), time.monotonic() + 60
    while any(process.is_alive() for process in processes):
        seen.add(held(path) // 100)
        if {1, 2} <= seen or time.monotonic() > deadline:
            enough.set()
    assert [process.exitcode for process in processes] == [0, 0]
    assert names(path) == FILES
    assert {1, 2} <= seen


def test_of_two_first_writers_one_is_refused_in_a_sentence(tmp_path):
    path, outcomes = tmp_path / "a" / "s", []

    def write(number):
        try:
            save_steer(made(number), path)
            outcomes.append(number)
        except InputError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (number,) = [o for o in outcomes if isinstance(o, int)]
    assert held(path) == number
    assert all("exists already" in o for o in outcomes if o != number)


def test_a_writer_that_does_not_finish_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("lmsteer.storage.folders._WAIT", 0.1)
    save_steer(made(1), tmp_path / "s")
    with (
        locks.locked(tmp_path / "s", "write", wait=0, doing="writing to"),
        pytest.raises(InputError, match=r"another lmsteer command is writing to .*s; try again"),
    ):
        save_steer(made(2), tmp_path / "s", force=True)
    assert held(tmp_path / "s") == 1


def test_a_run_killed_after_its_decision_is_brought_to_its_end(tmp_path):
    path = tmp_path / "s"
    save_steer(made(1), path)
    ready = path / ".lmsteer" / "ready"
    save_steer(made(2), tmp_path / "t")
    ready.parent.mkdir()
    (tmp_path / "t").rename(ready)
    (ready / "README.md").rename(path / "README.md")  # one file had been moved
    if os.geteuid():  # a reader who may not write sees the new one all the same
        path.chmod(0o555)
        assert held(path) == 2
        path.chmod(0o755)
    assert held(path) == 2
    assert names(path) == FILES


@needs_fork
def test_locks_whose_files_come_and_go(tmp_path):
    """Each holder makes the private folder and removes it, in the way of all others."""
    counter = tmp_path / "s" / "counter"
    counter.parent.mkdir()
    counter.write_text("0")

    def add():
        for _ in range(max(40, ROUNDS // 4)):
            with locks.locked(counter.parent, "write", wait=60, doing="counting in"):
                counter.write_text(str(int(counter.read_text()) + 1))

    processes = [FORK.Process(target=add) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert int(counter.read_text()) == 4 * max(40, ROUNDS // 4)
    assert names(counter.parent) == {"counter"}


def test_links_are_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    save_steer(made(1), tmp_path / "link")
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    save_steer(made(2), tmp_path / "dangling")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "dangling").is_symlink()
    assert [held(tmp_path / name) for name in ("disk", "elsewhere", "link")] == [1, 2, 1]


def test_folders_and_files_of_the_user_are_left_alone(tmp_path):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    for path in (file, folder):
        with pytest.raises(InputError, match="left alone"):
            save_steer(made(1), path, force=True)
    assert file.read_text() == "mine"
    assert names(folder) == {"thesis.txt"}
    path = tmp_path / "s"
    save_steer(made(1), path)
    (path / "README.md").unlink()
    (path / "README.md").mkdir()
    with pytest.raises(InputError, match="is a folder, and a file of that name"):
        save_steer(made(2), path, force=True)
    assert held(path) == 1
    (path / ".lmsteer").write_text("mine")
    with pytest.raises(InputError, match="move it away"):
        save_steer(made(2), path, force=True)
    (tmp_path / "empty").mkdir()
    save_steer(made(3), tmp_path / "empty")
    assert held(tmp_path / "empty") == 3


def test_the_mode_is_that_of_any_new_folder_and_the_umask_is_not_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda *_: pytest.fail("the umask belongs to all threads"))
    save_steer(made(1), tmp_path / "s")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "s").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "file").touch()
    assert (tmp_path / "s" / "steer.json").stat().st_mode == (tmp_path / "file").stat().st_mode


def test_a_list_tells_which_files_may_go(tmp_path):
    def export(*files, force=False):
        with writing(tmp_path / "e", lambda: None, listed=True) as fresh:
            for name in files:
                (fresh / name).parent.mkdir(exist_ok=True)
                (fresh / name).write_text(name)

    export("a", "b", "deep/c")
    (tmp_path / "e" / "notes.txt").write_text("mine")
    (tmp_path / "outside").write_text("mine")
    listed = (tmp_path / "e" / MARK).read_text()
    hostile = listed.replace('"b"', '"b", "../outside", "/etc/x", 5, ""')
    (tmp_path / "e" / MARK).write_text(hostile)
    export("a", "d")
    assert names(tmp_path / "e") == {"a", "d", "deep", "notes.txt", MARK}
    assert not (tmp_path / "e" / "deep" / "c").exists()
    assert (tmp_path / "outside").read_text() == "mine"


def test_long_work_lies_where_no_folder_of_a_user_does(tmp_path):
    path = tmp_path / "s"
    (tmp_path / "s.partial").mkdir()
    (tmp_path / "s.partial" / "mine").write_text("mine")
    with contextlib.suppress(RuntimeError), working(path) as work:
        work.mkdir()
        (work / "states").write_text("half")
        with pytest.raises(InputError, match="another lmsteer command is working on"):
            working(path).__enter__()
        raise RuntimeError
    assert is_free(path)
    check_writable(path, force=False)
    with working(path) as work:
        assert (work / "states").read_text() == "half"
        save_steer(made(1), path)
        assert work.exists()
    assert held(path) == 1
    assert names(path) == FILES
    assert names(tmp_path) == {"s", "s.partial"}
    with working(tmp_path / "t") as work:
        pass
    assert names(tmp_path) == {"s", "s.partial"}  # nothing was done, nothing is left


def test_one_file_is_written_whole(tmp_path, monkeypatch):
    path = tmp_path / "report.md"
    write_file(path, "é old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_file(path, "new")
    monkeypatch.undo()
    assert path.read_text(encoding="utf-8") == "é old"
    assert names(tmp_path) == {"report.md"}
    (tmp_path / "link.md").symlink_to(path)
    write_file(tmp_path / "link.md", "new")
    assert path.read_text() == "new"
    assert (tmp_path / "link.md").is_symlink()
