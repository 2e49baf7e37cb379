"""The theory's room: the forward algorithm is the oracle, and every control must really break."""

import itertools

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lmsteer
from lmsteer.errors import InputError, MissingExtraError
from lmsteer.research.theory import PARTS
from lmsteer.research.theory.checks import Check
from lmsteer.research.theory.composition import GRID, maps_of, product
from lmsteer.research.theory.contexts import Contexts
from lmsteer.research.theory.drawing import draw
from lmsteer.research.theory.exact import check_exact, largest_error, style_map
from lmsteer.research.theory.families import (
    distributions,
    random_shift,
    random_two_shifts,
    ring_shift,
)
from lmsteer.research.theory.fitting import fit_scores, log_softmax, mean_kl
from lmsteer.research.theory.hmm import Hmm, all_texts
from lmsteer.research.theory.learning import bench, check_learning, free_parameters, slope
from lmsteer.research.theory.linear import linear_kl, log_probability, steered_chances
from lmsteer.research.theory.softmax import check_softmax, exact_map, states_of_a_head
from lmsteer.research.theory.swb import best_offset, check_swb, fit_linear

SEEDS = st.integers(0, 10_000)
a_few = settings(max_examples=15, deadline=None)


def brute_force(language, text):
    """Probability of a text as a sum over all paths of states."""
    total = 0.0
    for path in itertools.product(range(len(language.initial)), repeat=len(text)):
        chance = language.initial[path[0]]
        for here, there in itertools.pairwise(path):
            chance *= language.transitions[here, there]
        for state, word in zip(path, text, strict=True):
            chance *= language.emissions[state, word]
        total += chance
    return total


def test_the_forward_algorithm_sums_over_all_paths():
    language = random_shift(3, inner=2, vocab=3).base.mixed(0.1)
    texts = all_texts(3, 4)
    naive = [brute_force(language, text) for text in texts]
    np.testing.assert_allclose(np.exp(language.log_probability(texts)), naive, rtol=1e-12)
    assert len({tuple(text) for text in texts}) == 81


@a_few
@given(SEEDS)
def test_chances_of_contexts_and_texts_fit_together(seed):
    language = random_shift(seed).base.mixed(0.3)
    contexts = Contexts.of(language.vocab, 3)
    assert len(contexts) == 1 + 5 + 25
    assert contexts.weights(language).sum() == pytest.approx(1, abs=1e-12)
    first, second = all_texts(5, 1), all_texts(5, 2)
    chances = language.beliefs(first) @ language.emissions
    joint = np.exp(language.log_probability(first))[:, None] * chances
    np.testing.assert_allclose(joint.ravel(), np.exp(language.log_probability(second)), rtol=1e-12)


def test_samples_follow_the_language():
    language = random_shift(0).base
    texts = language.sample(200_000, 2, np.random.default_rng(0))
    seen = np.bincount(texts @ [5, 1], minlength=25) / len(texts)
    np.testing.assert_allclose(seen, np.exp(language.log_probability(all_texts(5, 2))), atol=4e-3)


@a_few
@given(SEEDS, st.integers(2, 4), st.integers(1, 4), st.floats(0, 1))
def test_one_map_is_the_change_of_style_at_every_strength(seed, styles, inner, strength):
    shift = random_shift(seed, styles=styles, inner=inner, vocab=4)
    W = style_map(shift.base, shift.target)
    truth = shift.base.with_styles(shift.styles_at(strength))
    error = largest_error(
        lambda texts: log_probability(shift.base, texts, W, strength),
        truth.log_probability,
        vocab=4,
        longest=4,
    )
    assert error < 1e-12


def test_it_is_exact_beyond_the_target_while_the_styles_remain_a_distribution():
    shift = random_shift(0)
    W, away = style_map(shift.base, shift.target), shift.target - shift.base.styles
    strength = -0.9 * float(np.min(shift.base.styles[away > 0] / away[away > 0]))
    truth = shift.base.with_styles(shift.styles_at(strength))
    texts = all_texts(5, 6)
    steered = log_probability(shift.base, texts, W, strength)
    assert np.abs(steered - truth.log_probability(texts)).max() < 1e-12


def test_the_exact_part_over_all_texts_up_to_six_words():
    part = check_exact(0, seeds=3)
    assert part.passed
    values = {check.name: check.value for check in part.checks}
    assert values["steered, largest |Δ log-prob| (nats)"] < 1e-12
    assert values["20% mixing, smallest miss (nats)"] > 0.1
    assert len(part.checks) == 9


def test_what_an_exact_map_needs_is_checked():
    shift = random_shift(0)
    with pytest.raises(InputError, match=r"never mix.*chance of up to 0\.2"):
        style_map(shift.base.mixed(0.2), shift.target)
    with pytest.raises(InputError, match="style 1 has chance 0 under pi and 0.1"):
        style_map(shift.base.with_styles(np.array([1.0, 0.0])), np.array([0.9, 0.1]))
    with pytest.raises(InputError, match="2 styles, the target"):
        style_map(shift.base, np.full(3, 1 / 3))
    with pytest.raises(InputError, match="must hold distributions"):
        style_map(shift.base, np.array([1.5, -0.5]))
    unused = style_map(shift.base.with_styles(np.array([1.0, 0.0])), np.array([1.0, 0.0]))
    assert not unused.any()


def test_a_language_must_be_made_of_distributions(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    good = random_shift(0).base
    with pytest.raises(InputError, match="emissions must hold distributions"):
        Hmm(good.styles, good.inner, good.transitions, good.emissions * 1.01)
    with pytest.raises(InputError, match="expected as many rows"):
        Hmm(good.styles, good.inner, good.transitions[:4, :4], good.emissions)


def test_a_steer_of_the_library_is_that_map():
    """`Steer.from_matrix` and the theory agree on what W does to a row."""
    shift = random_shift(1)
    W, contexts = style_map(shift.base, shift.target), Contexts.of(5, 4)
    steer = lmsteer.Steer.from_matrix(torch.from_numpy(W))
    beliefs = torch.from_numpy(contexts.beliefs(shift.base)).float()
    steered = beliefs + 0.5 * (beliefs @ steer.P) @ steer.Q.T
    scores = steered @ torch.from_numpy(shift.base.emissions).float()
    truth = contexts.chances(shift.base.with_styles(shift.styles_at(0.5)))
    found = (scores / scores.sum(1, keepdim=True)).numpy()
    np.testing.assert_allclose(found, truth, atol=1e-6)


@a_few
@given(SEEDS, st.floats(0.1, 1), st.floats(0.1, 1))
def test_independent_styles_compose_as_a_product_not_a_sum(seed, first, second):
    shift = random_two_shifts(seed)
    W1, W2 = maps_of(shift)
    truth, contexts = shift.steered(first, second), Contexts.of(4, 4)
    both = product(W1, W2, first, second)
    np.testing.assert_allclose(
        steered_chances(contexts.beliefs(shift.base), shift.base.emissions, both),
        contexts.chances(truth),
        atol=1e-13,
    )
    summed = linear_kl(shift.base, truth, first * W1 + second * W2, contexts)
    assert summed is None or summed > 1e-10


def test_the_librarys_compose_is_that_product():
    W1, W2 = maps_of(random_two_shifts(0))
    one, other = (lmsteer.Steer.from_matrix(torch.from_numpy(W)) for W in (W1, W2))
    joined = lmsteer.compose({one: 0.5, other: 0.8}, how="product").matrix().numpy()
    np.testing.assert_allclose(joined, product(W1, W2, 0.5, 0.8), atol=1e-5)


def test_the_composition_part_and_where_a_sum_is_no_distribution():
    part = PARTS["composition"](0, seeds=3)
    assert part.passed
    lost = {(row["first"], row["second"]): row["kl_sum"] for row in part.tables[GRID]}
    assert lost[1.0, 1.0] is None  # the sum weighs a pair of styles below zero
    assert lost[0.1, 0.1] / lost[0.05, 0.05] == pytest.approx(16, rel=0.1)
    assert lost[0.1, 0.05] / lost[0.05, 0.05] == pytest.approx(4, rel=0.1)


@a_few
@given(SEEDS)
def test_the_fit_is_a_minimum(seed):
    draw = np.random.default_rng(seed)
    base, inputs, table = (draw.normal(size=shape) for shape in ((9, 5), (9, 3), (5, 4)))
    inputs[:, 2] = inputs[:, 0]  # a direction that cannot be told apart
    truth, weights = distributions(draw, 9, 5), distributions(draw, 9)
    found = fit_scores(base, inputs, table, truth, weights)

    def kl(matrix):
        return mean_kl(weights, truth, log_softmax(base + inputs @ matrix @ table.T))

    assert kl(found.matrix) == pytest.approx(found.kl, abs=1e-12)
    for _ in range(20):
        assert kl(found.matrix + 0.01 * draw.normal(size=(3, 4))) >= found.kl - 1e-12


def test_the_head_reads_the_base_language_exactly_from_vocab_minus_one_on():
    base, contexts = random_shift(0, vocab=4).base, Contexts.of(4, 3)
    for dim in (3, 4, 21, 25):
        hidden, table = states_of_a_head(base, contexts, dim)
        assert hidden.shape == (21, dim)
        np.testing.assert_allclose(
            np.exp(log_softmax(hidden @ table.T)), contexts.chances(base), atol=1e-12
        )
    hidden, table = states_of_a_head(base, contexts, 2)
    assert np.abs(np.exp(log_softmax(hidden @ table.T)) - contexts.chances(base)).max() > 1e-4


@a_few
@given(SEEDS, st.sampled_from([4, 5]))
def test_independent_contexts_and_spanning_embeddings_reach_any_distributions(seed, spanned):
    """Four directions do for five words: the fifth is the constant, which a softmax ignores."""
    draw = np.random.default_rng(seed)
    hidden = draw.normal(size=(6, 8))
    table = draw.normal(size=(5, spanned)) @ draw.normal(size=(spanned, 8))
    truth = distributions(draw, 6, 5)
    W = exact_map(hidden, table, truth)
    np.testing.assert_allclose(
        np.exp(log_softmax((hidden + hidden @ W) @ table.T)), truth, atol=1e-7
    )


@pytest.mark.parametrize(
    ("rows", "dim", "spanned", "message"),
    [
        (9, 8, 4, "linearly independent, their rank is 8"),
        (6, 8, 3, "span the vocabulary .* 4 directions; they span 3"),
    ],
)
def test_without_one_condition_the_floor_is_above_zero(rows, dim, spanned, message):
    draw = np.random.default_rng(0)
    hidden = draw.normal(size=(rows, dim))
    table = draw.normal(size=(5, spanned)) @ draw.normal(size=(spanned, dim))
    table -= table.mean(0)
    truth, weights = distributions(draw, rows, 5), np.full(rows, 1 / rows)
    with pytest.raises(InputError, match=message):
        exact_map(hidden, table, truth)
    assert fit_scores(hidden @ table.T, hidden, table, truth, weights).kl > 1e-4


def test_the_softmax_part():
    part = check_softmax(0, seeds=2)
    assert part.passed
    maps = [row["map"] for row in part.tables["KL from π′ in nats per word, by width"]]
    one_seed = maps[: len(maps) // 2]
    assert one_seed[3] > 1e-5
    assert one_seed[-1] < 1e-10


@a_few
@given(SEEDS)
def test_on_a_ring_all_words_are_equally_likely_and_the_best_offset_is_none(seed):
    shift, contexts = ring_shift(seed), Contexts.of(5, 4)
    for language in (shift.base, shift.steered):
        texts = np.exp(language.log_probability(all_texts(5, 3))).reshape(5, 5, 5)
        for place in range(3):
            others = tuple(axis for axis in range(3) if axis != place)
            np.testing.assert_allclose(texts.sum(others), 0.2, atol=1e-12)
    offset, kl = best_offset(shift, contexts)
    unsteered = linear_kl(shift.base, shift.steered, np.zeros((10, 10)), contexts)
    assert np.ptp(offset) < 1e-6
    assert kl == pytest.approx(unsteered, rel=1e-9)
    assert kl > 1e-4


def test_a_fitted_map_reaches_longer_texts_than_it_saw():
    shift = ring_shift(0)
    W = fit_linear(shift, Contexts.of(5, 3))
    left = linear_kl(shift.base, shift.steered, W, Contexts.of(5, 5))
    assert left < 0.1 * best_offset(shift, Contexts.of(5, 5))[1]


def test_an_offset_is_exact_for_texts_of_one_word_and_not_beyond():
    shift = random_shift(0)
    assert best_offset(shift, Contexts.of(5, 1))[1] < 1e-12
    assert best_offset(shift, Contexts.of(5, 2))[1] > 1e-4


def test_the_swb_part():
    assert check_swb(0, seeds=2).passed


@pytest.fixture(scope="module")
def measured():
    return bench(0, steps=80)


def test_a_bench_measures_what_attaching_does(measured):
    """The KL of a steer by matrices is that of the attached model, run on every context."""
    draw = np.random.default_rng(0)
    trunk = measured.trunk
    steer = lmsteer.train(
        trunk.model, trunk.tokenizer, measured.examples(200, draw), calibrate=False, rank=3
    )
    told, total = measured.kl_of(steer), 0.0
    for label, language in measured.languages.items():
        with lmsteer.attach(trunk.model, {steer: label, steer.domain: 1.0}):
            for words in range(6):
                group = all_texts(5, words)
                ids = torch.tensor([[5, *text] for text in group])
                chances = trunk.model(input_ids=ids).logits[:, -1].double().log_softmax(-1)
                weights = np.exp(language.log_probability(group)) / 12
                truth = np.pad(language.beliefs(group) @ language.emissions, ((0, 0), (0, 1)))
                total += mean_kl(weights, truth, chances.numpy())
    assert told == pytest.approx(total, rel=1e-4)
    assert measured.floor() < told
    assert free_parameters(measured) == 2 * 8 * 5


def test_the_trunks_tokenizer_begins_texts_and_knows_the_words(measured):
    assert measured.trunk.write(np.array([[0, 4]])) == ["a e"]
    assert measured.trunk.tokenizer("a e")["input_ids"] == [5, 0, 4]


def test_training_a_trunk_leaves_the_global_random_state():
    before = torch.get_rng_state()
    bench(1, steps=1)
    assert torch.equal(before, torch.get_rng_state())


def test_the_excess_falls_with_samples():
    threads = torch.get_num_threads()
    part = check_learning(0, texts=(250, 4000), repeats=1, trunk_steps=300)
    assert torch.get_num_threads() == threads
    assert part.checks[0].passed
    rows = [row for row in part.tables["excess KL in nats per word, by number of texts"]]
    assert all(row["excess"] > 0 for row in rows)
    assert {row["solver"] for row in rows} == {"cached", "convex"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_learning_part_at_its_full_size(seed):
    assert check_learning(seed).passed


def test_a_slope_is_that_of_a_power():
    rows = [{"words": n, "excess": c / n} for n in (10, 100, 1000) for c in (1.0, 3.0)]
    assert slope(rows) == pytest.approx(-1)


def test_what_is_not_a_number_passes_no_check():
    assert Check("x", 1.0, "<", 2.0).passed
    assert not Check("x", 1.0, ">", 2.0).passed
    assert not Check("x", float("nan"), "<", 2.0).passed
    assert not Check("x", float("nan"), ">", 2.0).passed


@pytest.mark.parametrize("name", ["exact", "composition", "softmax", "swb"])
def test_each_part_is_drawn(name, tmp_path):
    pytest.importorskip("matplotlib")
    draw(PARTS[name](0, seeds=1), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"lmsteer\[plot\]"):
        draw(PARTS["swb"](0, seeds=1), tmp_path / "figure.png")
