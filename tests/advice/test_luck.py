"""Regret that is luck, against simulated comparisons whose true means are known."""

import importlib

import numpy as np
import pytest

luck = importlib.import_module("luck")


def simulated(noise: float, spread: float, num: int = 400, options: int = 8, seeds: int = 3):
    """True means `(K,)` and runs `(K, S)`, with an effect of each seed that all options share."""
    rng = np.random.default_rng(1)
    for _ in range(num):
        truth = rng.normal(0.6, spread, options)
        yield truth, truth[:, None] + rng.normal(0, 0.05, seeds) + rng.normal(0, noise, (options, seeds))


@pytest.mark.parametrize(("noise", "spread", "share"), [(0.05, 0.05, 1.0), (0.03, 0.08, 1.0), (0.06, 0.02, 0.7)])
def test_the_floor_is_what_an_oracle_loses_and_crossing_seeds_bounds_it(noise, spread, share):
    """Where options differ by far less than runs scatter, it is put too low."""
    lost, told, bound = [], [], []
    for truth, runs in simulated(noise, spread):
        means = runs.mean(1)
        lost.append(means.max() - means[truth.argmax()])
        told.append(luck.floor(runs))
        bound.append(luck.most(runs))
    assert np.mean(told) == pytest.approx(share * np.mean(lost), rel=0.25)
    assert np.mean(bound) > np.mean(lost)


def test_what_is_lost_beyond_the_floor_is_what_an_adviser_really_lost():
    rng = np.random.default_rng(2)
    raw, beyond = [], []
    for truth, runs in simulated(0.05, 0.05):
        chosen = int(rng.integers(len(truth)))
        raw.append(truth.max() - truth[chosen])
        beyond.append(runs.mean(1).max() - runs.mean(1)[chosen] - luck.floor(runs))
    assert np.mean(beyond) == pytest.approx(np.mean(raw), rel=0.15)


def test_options_that_lack_seeds_are_not_held_to_be_better_for_that():
    """The second seed is a hard one: the third option was not run on it."""
    runs = np.array([[0.8, 0.5], [0.7, 0.4], [0.75, np.nan]])
    means, variance = luck.adjusted(runs)
    assert means == pytest.approx([0.65, 0.55, 0.6])
    assert variance == pytest.approx(0, abs=1e-12)
    assert luck.without_gaps(runs).shape == (2, 2)


def test_without_noise_there_is_no_floor():
    runs = np.array([[0.8, 0.5], [0.7, 0.4]])
    assert luck.floor(runs) == pytest.approx(0, abs=1e-9)
    assert luck.most(runs) == pytest.approx(0)
