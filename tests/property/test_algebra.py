"""What steers add to rows, and arithmetic on steers. Whole numbers are exact in float32."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from steers import calibrations, factors, figures

from lmsteer.steer import Steer, change

QUICK = settings(max_examples=30, deadline=None)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
# A factor that multiplies whole numbers without rounding.
FACTORS = st.integers(-64, 64).map(lambda number: number / 8)
DIM = 6


@st.composite
def whole_steers(draw):
    P, Q = draw(factors(DIM, whole=True))
    return Steer(P, Q, draw(st.sampled_from("abc")), calibration=draw(calibrations()))


@st.composite
def whole_rows(draw):
    shape = draw(st.sampled_from([(DIM,), (3, DIM), (2, 3, DIM)]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    return torch.randint(-8, 9, shape, generator=generator).float()


@QUICK
@given(whole_steers(), whole_rows(), st.sampled_from(DTYPES))
def test_strength_0_is_the_identity(steer, rows, dtype):
    rows = rows.to(dtype)
    found = steer.shift(rows, 0.0)
    assert found.dtype == dtype
    assert torch.equal(found, rows)


@QUICK
@given(whole_steers(), whole_rows(), FACTORS)
def test_a_shift_is_that_of_the_matrix(steer, rows, strength):
    assert torch.equal(steer.shift(rows, strength), rows + strength * rows @ steer.matrix())


@QUICK
@given(whole_steers(), whole_steers(), whole_rows(), FACTORS)
def test_adding_commutes_and_adds_what_is_added(one, other, rows, strength):
    both, swapped = one + other, other + one
    assert torch.equal(both.matrix(), swapped.matrix())
    assert torch.equal(both.matrix(), one.matrix() + other.matrix())
    added = one.shift(rows, strength) + other.shift(rows, strength) - rows
    assert torch.equal(both.shift(rows, strength), added)
    assert both.calibration is None


@QUICK
@given(whole_steers(), whole_rows(), FACTORS, FACTORS)
def test_scaling_is_linear(steer, rows, factor, strength):
    scaled = factor * steer
    assert torch.equal(scaled.matrix(), factor * steer.matrix())
    assert torch.equal((-steer).matrix(), -steer.matrix())
    # A factor of the map and one of the strength come to the same.
    assert torch.equal(scaled.shift(rows, strength), steer.shift(rows, factor * strength))
    assert (scaled.calibration, scaled.domain) == (None, steer.domain)


@QUICK
@given(whole_steers(), st.lists(FACTORS, min_size=3, max_size=3))
def test_a_strength_per_row_is_each_row_at_its_own(steer, strengths):
    rows = torch.arange(3.0 * DIM).reshape(3, DIM)
    together = rows + change(rows, steer.P, steer.Q, torch.tensor(strengths)[:, None])
    for row, strength, found in zip(rows, strengths, together, strict=True):
        assert torch.equal(found, steer.shift(row[None], strength)[0])


@QUICK
@given(factors(DIM), st.integers(1, 4), figures(0.5, 2.0))
def test_cutting_the_rank_loses_what_it_says(pair, rank, size):
    steer = size * Steer(*pair)
    cut, error = steer.truncate(min(rank, steer.rank))
    lost = (steer.matrix() - cut.matrix()).norm() / steer.matrix().norm()
    assert abs(float(lost) - error) < 1e-5
