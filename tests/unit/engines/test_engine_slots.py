"""Strengths by slot, as vLLM's second model runner keeps its requests; no engine is needed."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import lmsteer
from lmsteer.engines.slots import Slots
from lmsteer.errors import UnsupportedError

DIM, MOST = 16, 7
CPU = torch.device("cpu")


@pytest.fixture
def steers():
    def one(rank, name):
        return lmsteer.Steer(torch.randn(DIM, rank), torch.randn(DIM, rank), name)

    torch.manual_seed(0)
    return {
        "taste": one(5, "taste"),
        "taste.domain": one(2, "taste.domain"),
        "calm": one(3, "calm"),
    }


def formula(hidden, mixes, steers):
    rows = []
    for row, mix in zip(hidden.double(), mixes, strict=True):
        zero = torch.zeros(DIM, dtype=torch.float64)
        rows.append(
            row + sum((s * row @ steers[k].matrix().double() for k, s in mix.items()), zero)
        )
    return torch.stack(rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_follow_the_slots_whatever_their_order(steers, dtype):
    slots = Slots(steers, MOST, CPU, dtype, rows=4, tokens=8)
    mixes = [{}, {"taste": 2.0}, {"calm": -1.0, "taste.domain": 0.5}, {"calm": 3.0}]
    g = torch.Generator().manual_seed(1)
    held = [{}] * MOST
    for _ in range(100):
        for slot in torch.randint(MOST, (2,), generator=g).tolist():  # the last one put counts
            held[slot] = mixes[int(torch.randint(4, (1,), generator=g))]
            slots.put(slot, held[slot])
        slots.flush()
        assert slots.asks.tolist() == [bool(mix) for mix in held]
        count = int(torch.randint(0, 12, (1,), generator=g))  # more rows than were foreseen, too
        owners = torch.randint(MOST, (count,), generator=g)
        hidden = torch.randn(count, DIM, generator=g).to(dtype)
        before = hidden.clone()
        found = slots.steered(hidden, owners)
        assert torch.equal(hidden, before)
        assert found.dtype == dtype
        if not count:
            continue
        truth = formula(hidden, [held[i] for i in owners.tolist()], steers)
        bound = 1e-4 if dtype == torch.float32 else 0.02
        assert torch.allclose(found.double(), truth, rtol=bound, atol=bound)
        base = torch.tensor([not held[i] for i in owners.tolist()])
        assert torch.equal(found[base].view(torch.uint8), hidden[base].view(torch.uint8))


def test_rows_that_ask_for_nothing_keep_their_very_bits(steers):
    slots = Slots(steers, MOST, CPU, torch.float32, rows=4, tokens=8)
    slots.put(0, {"taste": 1.0})
    slots.flush()
    odd = torch.full((2, DIM), -0.0)
    odd[1, 0], odd[1, 1] = float("nan"), float("inf")
    found = slots.steered(torch.cat([torch.ones(1, DIM), odd]), torch.tensor([0, 1, 2]))
    assert torch.equal(found[1:].view(torch.int32), odd.view(torch.int32))
    assert found[0].isfinite().all()


class Allocations(TorchDispatchMode):
    """Every storage that an operation returns, and whether any asks the device for a number."""

    def __init__(self):
        super().__init__()
        self.storages, self.names = set(), []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else [result]:
            if isinstance(one, torch.Tensor):
                self.storages.add(one.untyped_storage().data_ptr())
        self.names.append(str(func))
        return result


def test_a_step_allocates_nothing_and_asks_the_device_nothing(steers):
    slots = Slots(steers, MOST, CPU, torch.bfloat16, rows=6, tokens=32)
    for slot in range(MOST):
        slots.put(slot, {"taste": float(slot)})
    slots.flush()
    known = {v.untyped_storage().data_ptr() for v in vars(slots).values() if torch.is_tensor(v)}
    hidden = torch.randn(6, DIM, dtype=torch.bfloat16)
    owners = torch.tensor([6, 0, 3, 3, 1, 2])
    starts = torch.tensor([0, 2, 3, 9, 9], dtype=torch.int32)  # padded behind the last request
    used = {t.untyped_storage().data_ptr() for t in (hidden, owners, starts)}
    with Allocations() as seen:
        slots.flush()  # nothing new came
        first = slots.steered(hidden, owners)
        again = slots.steered(hidden[:3], owners[:3])
        tokens = slots.owners(starts, owners[:3], 1, 5)
        with pytest.raises(UnsupportedError, match="6 rows and has announced 3"):
            slots.steered(hidden, owners[:3])
    assert seen.storages <= known | used
    assert not [n for n in seen.names if "item" in n or "_local_scalar" in n or "nonzero" in n]
    assert first.data_ptr() == again.data_ptr()
    assert tokens.tolist() == [6, 0, 3, 3, 3]


def test_owners_of_tokens(steers):
    slots = Slots(steers, MOST, CPU, torch.float32, rows=4, tokens=8)
    starts = torch.tensor([0, 5, 6, 40, 40, 40], dtype=torch.int32)
    asked = torch.tensor([4, 0, 6])
    for first, count in ((0, 40), (4, 3), (39, 1), (5, 0)):
        truth = torch.tensor([4] * 5 + [0] + [6] * 34)[first : first + count]
        assert torch.equal(slots.owners(starts, asked, first, count), truth)


def test_input_steers_are_refused(steers):
    other = lmsteer.Steer(steers["calm"].P, steers["calm"].Q, "read", "input")
    with pytest.raises(UnsupportedError, match="lmsteer export folder"):
        Slots({"read": other}, MOST, CPU, torch.float32, rows=4, tokens=8)
