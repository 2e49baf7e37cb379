"""What the property tests draw: steers, calibrations, effects, records."""

import torch
from hypothesis import strategies as st

from lmsteer.errors import InputError
from lmsteer.steer import (
    REACHES,
    SITES,
    Calibration,
    Cost,
    Effect,
    Fingerprint,
    Rate,
    Steer,
    check_name,
    safe_range,
)


def figures(low=0.0, high=1e6):
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


def is_name(text):
    try:
        return bool(check_name(text)) and len(text) < 1000
    except InputError:
        return False


NAMES = st.text(min_size=1, max_size=20).filter(is_name)
# What JSON gives back as it was: integers of up to 15 digits, finite numbers.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**14), 10**14) | figures(-1e9) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
# A record has keys of which the form is declared; these are others.
RECORDS = st.dictionaries(NAMES.map(lambda name: f"x {name}"), JSON, max_size=3)


@st.composite
def factors(draw, dim, whole=False):
    """P and Q; of small whole numbers, whose products and sums are exact, if `whole`."""
    rank = draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    if whole:
        return tuple(torch.randint(-8, 9, (dim, rank), generator=generator).float() for _ in "PQ")
    return tuple(torch.randn(dim, rank, generator=generator) for _ in "PQ")


@st.composite
def costs(draw):
    """Rows of a table of strengths, 0 among them, with a divergence that grows outwards."""
    rows = []
    for sign in (-1.0, 1.0):
        kl = 0.0
        sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=5, unique=True))
        for size in sorted(sizes):
            kl += draw(figures(0.0, 2.0))
            rows.append(draw(costs_at(sign * size / 4, kl)))
    return sorted([*rows, draw(costs_at(0.0, 0.0))], key=lambda row: row.strength)


def costs_at(strength, kl):
    return st.builds(
        Cost,
        strength=st.just(strength),
        kl=st.just(kl),
        perplexity=figures(1.0, 1e3),
        perplexity_low=figures(),
        perplexity_high=figures(),
        distinct_2=figures(0.0, 1.0),
        distinct_2_low=figures(),
        distinct_2_high=figures(),
    )


COUNTS = st.integers(0, 10**9)


@st.composite
def calibrations(draw):
    rows = tuple(draw(costs()))
    return Calibration(
        rows=rows,
        safe=safe_range(rows),
        positions=draw(st.none() | COUNTS),
        prompts=draw(COUNTS),
        samples=draw(COUNTS),
        tokens=draw(COUNTS),
        top_p=draw(figures(0.0, 1.0)),
        seed=draw(st.none() | COUNTS),
    )


RATES = st.builds(
    Rate,
    strength=figures(-10, 10),
    rate=figures(),
    rate_low=figures(),
    rate_high=figures(),
    score=st.none() | figures(-1.0),
    perplexity=st.none() | figures(),
)
EFFECTS = st.builds(
    Effect,
    style=NAMES,
    judge=NAMES,
    prompts=NAMES,
    texts=COUNTS,
    spearman=figures(-1.0, 1.0),
    rows=st.lists(RATES, max_size=3).map(tuple),
)


@st.composite
def steers(draw):
    """A steer with any of the fields there are."""
    dim = draw(st.integers(1, 9))
    place = {"site": draw(st.sampled_from(SITES)), "where": draw(st.sampled_from(REACHES))}
    mark = None
    if draw(st.booleans()):
        sketch = torch.linspace(-1, 1, draw(st.integers(1, 5)))
        mark = Fingerprint(sketch=sketch, model=draw(NAMES), revision=draw(st.none() | NAMES))

    def part(name, **facts):
        P, Q = draw(factors(dim))
        return Steer(
            P,
            Q,
            name,
            fingerprint=mark,
            record=draw(RECORDS),
            calibration=draw(st.none() | calibrations()),
            effect=draw(st.none() | EFFECTS),
            **place,
            **facts,
        )

    name = draw(NAMES)
    domain = part(f"{name}.domain") if draw(st.booleans()) else None
    return part(name, domain=domain)
