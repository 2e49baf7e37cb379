"""Requests and rows of an engine's batch, without an engine."""

import pytest
import torch

import lmsteer
from lmsteer.engines.requests import named_steers, read_request, serve
from lmsteer.engines.rows import Rows
from lmsteer.errors import InputError, NotFoundError, UnsupportedError

DIM = 16


@pytest.fixture
def steers():
    def one(rank, name):
        return lmsteer.Steer(torch.randn(DIM, rank), torch.randn(DIM, rank), name)

    domain = one(2, "taste.domain")
    taste = lmsteer.Steer(torch.randn(DIM, 5), torch.randn(DIM, 5), "taste", domain=domain)
    return {"taste": taste, "taste.domain": domain, "calm": one(3, "calm")}


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, {}),
        ("", {}),
        ({}, {}),
        ({"taste": 2.5, "calm": 0}, {"taste": 2.5}),
        ("taste=2.5, calm=-1", {"taste": 2.5, "calm": -1.0}),
        ({"taste": "1e0", "taste.domain": 1}, {"taste": 1.0, "taste.domain": 1.0}),
    ],
)
def test_what_a_request_may_say(steers, value, wanted):
    assert read_request(value, steers) == wanted


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"tasty": 1}, "no steer 'tasty' is served here; served are taste, taste.domain, calm"),
        ("taste", "pairs such as"),
        ("taste=", "pairs such as"),
        ("taste=1,taste=2", "given twice"),
        ("taste=nan", "must be finite"),
        ({"taste": True}, "must be a number or a word"),
        ({"taste": [1]}, "must be a number or a word"),
        ("taste=much", "a strength is a number"),
        ("taste=+auto", "calibrate it first"),
        (2.0, "a strength alone needs one steer"),
        ([1.0], "pairs such as"),
        (True, "pairs such as"),
        ({"taste": 10**400}, "must be finite, 1e.06 at most"),
        ({"taste": -2e6}, "must be finite, 1e.06 at most"),
        ({"taste": "1e300"}, "must be finite, 1e.06 at most"),
    ],
)
def test_bad_requests_say_what_is_served(steers, value, message):
    with pytest.raises(InputError, match=message):
        read_request(value, steers)


@pytest.mark.parametrize(
    "value",
    [
        "\x1b[31mtaste",
        {"\x1b[31m\n": 1},
        {"taste": "\x1b[31m\r"},
        {"taste": ["\x07"]},
        "\x1b=1,\x1b=2",
        ["\x00"],
        {"x" * 10_000: 1},
        "y" * 10_000,
        {"taste": "9" * 10_000},
        {"taste": "z" * 10_000},
    ],
)
def test_what_a_stranger_writes_is_shown_escaped_and_cut_short(steers, value):
    with pytest.raises(InputError) as caught:
        read_request(value, steers)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_a_number_alone_where_one_steer_is_served(steers):
    one = {"taste": steers["taste"], "taste.domain": steers["taste.domain"]}
    assert read_request(-2, one) == {"taste": -2.0}
    with pytest.raises(InputError, match="LMSTEER_STEERS=NAME=FOLDER"):
        read_request({"taste": 1}, {})


def test_steers_are_named_by_the_environment(steers, tmp_path, monkeypatch):
    steers["taste"].save(tmp_path / "one")
    steers["calm"].save(tmp_path / "two")
    monkeypatch.setenv("LMSTEER_STEERS", f"{tmp_path}/one, slow={tmp_path}/two")
    assert list(named_steers()) == ["taste", "taste.domain", "slow"]
    assert list(named_steers("")) == []
    with pytest.raises(InputError, match="twice"):
        named_steers(f"{tmp_path}/one,taste={tmp_path}/two")
    for odd in ("a,b", "a=b"):
        other = lmsteer.Steer(steers["calm"].P, steers["calm"].Q, odd)
        other.save(tmp_path / "odd", force=True)
        with pytest.raises(InputError, match="give it another one as NAME=FOLDER"):
            named_steers(f"{tmp_path}/odd")
        assert list(named_steers(f"fine={tmp_path}/odd")) == ["fine"]
    with pytest.raises(InputError, match="NAME=FOLDER entries"):
        named_steers("taste=")
    with pytest.raises(NotFoundError, match="no steer at"):
        named_steers("taste=./nowhere")


def test_rows_follow_a_batch_that_changes(steers):
    """Random adds, removals, moves and swaps, against a plain list of what each row wants."""
    rows, most = Rows(steers, 6, torch.device("cpu")), 6
    matrices = {name: steer.matrix().double() for name, steer in steers.items()}
    batch: list[dict[str, float]] = []
    g = torch.Generator().manual_seed(0)

    def chance(n):
        return int(torch.randint(n, (1,), generator=g))

    for _ in range(200):
        removed, added, moved = [], [], []
        if batch and chance(3) == 0:
            removed = [row := chance(len(batch))]
            last = len(batch) - 1
            if row != last:  # the last request moves into the gap
                moved.append((last, row, False))
                batch[row] = batch[last]
            batch.pop()
        elif len(batch) < most and chance(2):
            wanted = [{}, {"taste": 2.0}, {"calm": -1.0, "taste.domain": 0.5}][chance(3)]
            added = [(len(batch), wanted)]
            batch.append(wanted)
        elif len(batch) > 1:
            a, b = chance(len(batch)), chance(len(batch))
            if a != b:
                moved.append((a, b, True))
                batch[a], batch[b] = batch[b], batch[a]
        rows.move(count=len(batch), removed=removed, added=added, moved=moved)
        hidden = torch.randn(len(batch), DIM, generator=g)
        found = rows.steered(hidden)
        for row, wanted in enumerate(batch):
            truth = hidden[row].double()
            truth = truth + sum(s * truth @ matrices[name] for name, s in wanted.items())
            assert torch.allclose(found[row].double(), truth, atol=1e-4)
    assert not any(batch) or rows.count == len(batch)


def test_no_strengths_leave_the_very_tensor_and_rows_that_do_not_fit_are_refused(steers):
    rows = Rows(steers, 4, torch.device("cpu"))
    hidden = torch.randn(7, DIM, dtype=torch.bfloat16)
    assert rows.steered(hidden) is hidden  # what an engine runs at start, before any request
    rows.move(count=2, added=[(0, {}), (1, {"taste": 1.0})])
    with pytest.raises(UnsupportedError, match="7 rows in a batch of 2 requests"):
        rows.steered(hidden)
    with rows.only(0):
        assert rows.steered(hidden) is hidden
    with rows.only(1):
        found = rows.steered(hidden)
    truth = hidden.float() + hidden.float() @ steers["taste"].matrix()
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, truth.bfloat16()) or torch.allclose(found.float(), truth, rtol=0.01)


def test_input_steers_are_refused(steers):
    other = lmsteer.Steer(steers["calm"].P, steers["calm"].Q, "read", "input")
    with pytest.raises(UnsupportedError, match="lmsteer export folder"):
        Rows({"read": other}, 4, torch.device("cpu"))


def test_a_process_serves_one_set_of_steers(steers, tmp_path, monkeypatch):
    monkeypatch.delenv("LMSTEER_STEERS", raising=False)
    monkeypatch.setattr("lmsteer.engines.requests._SERVED", {})
    steers["calm"].save(tmp_path / "calm")
    serve(str(tmp_path / "calm"))
    serve(str(tmp_path / "calm"))
    assert list(named_steers()) == ["calm"]
    with pytest.raises(InputError, match="already"):
        serve("other=/elsewhere")
    with pytest.raises(InputError, match="as text"):
        serve({"calm": "x"})
