"""Where one curve overtakes another, and how often the range given holds the place."""

from math import exp, log

import numpy as np
import pytest

from headstart.report.crossover import crossover


def by_seed(values):
    return dict(enumerate(values))


def test_crossing_is_found_straight_in_log_n():
    found = crossover({10: by_seed([-0.02, -0.02]), 40: by_seed([0.02, 0.02])})
    assert found.place == pytest.approx(20)
    assert found.low == pytest.approx(20, rel=0.01)
    assert found.high == pytest.approx(20, rel=0.01)


def test_never_overtaken_and_always_ahead_have_no_place():
    behind = crossover({10: by_seed([-0.2, -0.21]), 40: by_seed([-0.1, -0.11])})
    assert (behind.place, behind.low, behind.ahead_at_largest) == (None, None, False)
    ahead = crossover({10: by_seed([0.2, 0.21]), 40: by_seed([0.1, 0.11])})
    assert (ahead.place, ahead.ahead_at_smallest) == (None, True)


def test_noise_leaves_the_ends_open():
    found = crossover({10: by_seed([-0.3, 0.25, 0.01]), 40: by_seed([0.3, -0.2, 0.02])})
    assert found.open_below
    assert found.open_above


def test_one_seed_gives_a_place_without_a_range():
    found = crossover({10: {0: -0.1}, 40: {0: 0.1}})
    assert found.place == pytest.approx(20)
    assert found.open_below
    assert found.open_above


def test_only_seeds_with_every_size_count():
    assert crossover({10: {0: -0.1}, 40: {1: 0.1}}) is None
    assert crossover({10: {0: -0.1}}) is None
    assert crossover({10: {0: -0.1, 1: 9.0}, 40: {0: 0.1}}).num_seeds == 1


@pytest.mark.parametrize("n", [pytest.param(3, marks=pytest.mark.slow), 5, pytest.param(10, marks=pytest.mark.slow)])
def test_range_holds_the_true_place_as_often_as_it_says(n):
    """Curves whose true difference crosses zero at 18 examples a class; noise shared between sizes by each seed."""
    dice, sizes, hits, trials = np.random.default_rng(n), (5, 10, 20, 40), 0, 500
    truth = {size: 0.03 * log(size / 18) for size in sizes}
    at_10, at_20 = truth[10], truth[20]
    place = exp(log(10) + log(2) * -at_10 / (at_20 - at_10))  # of the curve drawn straight between the sizes
    for _ in range(trials):
        shared = dice.normal(0, 0.006, n)
        noise = {size: shared + dice.normal(0, 0.006, n) for size in sizes}
        found = crossover({size: by_seed(truth[size] + noise[size]) for size in sizes})
        low, high = (found.low or np.inf), (found.high or -np.inf)
        hits += low * 0.995 <= place <= high * 1.005
    assert hits / trials >= 0.93
