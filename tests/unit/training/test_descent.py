"""The one loop of all optimisers: what it keeps, when it looks, when it stops."""

import time

import torch

from lmsteer.training import by_gradient, descend, warmed_up


def walk(losses, **options):
    """Descend in one number that counts its steps, with a held-out loss for each count."""
    place = torch.zeros(1)
    looked = []

    def move(step):
        assert step == int(place)
        place.add_(1)

    def judge():
        looked.append(int(place))
        return losses[int(place)]

    went = descend([place], move, len(losses) - 1, judge=judge, **options)
    return int(place), looked, went


def test_the_best_state_is_left_in_place():
    place, looked, went = walk([9, 5, 3, 4, 6])
    assert (place, looked, went.steps, went.least) == (2, [1, 2, 3, 4], 4, 3)
    assert [point[1:] for point in went.course] == [[1, 5], [2, 3], [3, 4], [4, 6]]
    place, _, went = walk([9, 5, 3, 4, 6], keep_best=False)
    assert (place, went.least) == (4, 3)


def test_looks_come_at_intervals_and_at_the_end():
    assert walk([9, 8, 7, 6, 5, 4], every=2)[1] == [2, 4, 5]
    place, looked, went = walk([1, 8, 7], look_first=True)
    assert (place, looked, went.least, went.course[0]) == (0, [0, 1, 2], 1, [0.0, 0, 1])


def test_patience_counts_looks_without_a_gain():
    place, _, went = walk([9, 5, 6, 4, 5, 6, 1], patience=2)
    assert (place, went.steps, went.least) == (3, 5, 4)


def test_a_loss_that_is_not_a_number_is_no_gain():
    place, _, went = walk([9, float("nan"), float("nan")])
    assert (place, went.steps) == (0, 2)


def test_without_a_judge_the_last_state_stays():
    place, told = torch.zeros(1), []
    went = descend(
        [place],
        lambda step: place.add_(1),
        3,
        stage="walk",
        progress=lambda *seen: told.append(seen),
    )
    assert (int(place), went.steps, went.course) == (3, 3, [])
    assert told == [("walk", 1, 3), ("walk", 2, 3), ("walk", 3, 3)]


def test_the_clock_counts_steps_alone_unless_it_has_a_start():
    def slow():
        time.sleep(0.05)
        return 1.0

    place = torch.zeros(1)
    own = descend([place], lambda step: None, 3, judge=slow)
    assert own.course[-1][0] < 0.05
    since = descend([place], lambda step: None, 3, judge=slow, started=time.perf_counter())
    assert since.course[-1][0] >= 0.15


def test_steps_of_an_optimiser_follow_its_gradient_and_schedule():
    place = torch.ones(1, requires_grad=True)
    optimiser = torch.optim.SGD([place], lr=1.0)
    rates = []

    def gradient(step):
        assert place.grad is None
        rates.append(optimiser.param_groups[0]["lr"])
        place.grad = torch.ones(1)

    descend([place], by_gradient(optimiser, gradient, warmed_up(optimiser, 4, 2)), 4)
    assert rates == [0.5, 0.75, 0.5, 0.25]
    assert float(place.detach()) == 1.0 - sum(rates)
