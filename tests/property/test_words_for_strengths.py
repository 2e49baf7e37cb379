"""Strengths in words: what is asked for more is more."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from steers import calibrations, costs, figures

from lmsteer.steer import safe_range

QUICK = settings(max_examples=50, deadline=None)
SIGNS = st.sampled_from(["", "-"])


@QUICK
@given(costs())
def test_the_safe_range_lies_within_what_was_measured(rows):
    low, high = safe_range(rows)
    assert rows[0].strength <= low <= 0 <= high <= rows[-1].strength


@QUICK
@given(calibrations(), SIGNS, figures(0, 300), figures(0, 300))
def test_shares_of_the_safe_range_are_monotone(table, sign, one, other):
    less, more = sorted((one, other))
    found = [abs(table.strength_of(f"{sign}{share!r}%")) for share in (less, more)]
    assert found == sorted(found)
    assert table.strength_of(f"{sign}0%") == 0
    assert math.isclose(table.strength_of(f"{sign}100%"), table.strength_of(f"{sign}auto"))
    assert table.safe == (table.strength_of("-auto"), table.strength_of("+auto"))


@QUICK
@given(calibrations(), SIGNS, figures(0, 1), figures(0, 1))
def test_strengths_grow_with_the_divergence_asked_for(table, sign, one, other):
    end = table.rows[0] if sign else table.rows[-1]
    less, more = sorted((one * end.kl, other * end.kl))
    found = [abs(table.strength_of(f"{sign}kl:{kl!r}")) for kl in (less, more)]
    assert found[0] <= found[1] * (1 + 1e-12)
    assert found[1] <= abs(end.strength)
    for row in table.rows:
        if (row.strength < 0) == bool(sign) and row.strength:
            assert abs(table.strength_of(f"{sign}kl:{row.kl!r}")) <= abs(row.strength)
