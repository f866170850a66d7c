"""Learning curves and what they foretell."""

import numpy as np
import pytest

from headstart.advice import curve
from headstart.advice.intervals import jackknife, over_folds, told_apart
from headstart.report.statistics import t_interval

NOISE = 0.004 * np.array([-1.0, 0.5, 0.0, 1.0, -0.5])[:, None]


def by_fold(means: list[float], noise: np.ndarray = NOISE) -> np.ndarray:
    wobble = np.random.default_rng(0).normal(0, 0.004, (5, len(means)))
    return np.array(means)[None] + noise + wobble


def law(sizes: list[int]) -> list[float]:
    return [0.9 - 1.2 * size**-0.5 for size in sizes]


def test_sizes_are_halves_and_the_one_that_is_asked_for():
    assert curve.sizes(640, 2000) == [80, 160, 320, 640]
    assert curve.sizes(640, 100) == [80, 100, 160, 320, 640]
    assert curve.sizes(40, 900) == [20, 40]


def test_a_power_law_is_followed_to_all_the_examples():
    sizes = [50, 100, 200, 400]
    found = curve.foretell(sizes, by_fold(law(sizes)), 1600, 0.25, 500)
    assert found.how == curve.LAW
    assert found.interval.mean == pytest.approx(law([1600])[0], abs=0.02)
    assert found.interval.low <= law([1600])[0] <= found.interval.high


def test_a_curve_that_jumps_is_no_power_law_and_gets_bounds():
    sizes = [50, 100, 200, 400]
    scores = by_fold([0.3, 0.32, 0.33, 0.55], 0.1 * NOISE)
    found = curve.foretell(sizes, scores, 800, 0.25, 500)
    last = over_folds(scores[:, -1], 0.25, 500)
    gain = float(scores[:, -1].mean() - scores[:, -2].mean())
    assert found.how == curve.BOUNDS
    assert found.interval.low == pytest.approx(last.low)
    assert found.interval.high == pytest.approx(last.high + gain)


def test_a_curve_that_falls_is_not_foretold_to_rise():
    sizes = [50, 100, 200, 400]
    scores = by_fold([0.6, 0.58, 0.54, 0.5], 0.1 * NOISE)
    found = curve.foretell(sizes, scores, 800, 0.25, 500)
    assert found.how == curve.BOUNDS
    assert found.interval.mean < scores[:, -1].mean()
    assert curve.bends_down(sizes, scores, 0.25)
    assert not curve.bends_down(sizes, by_fold(law(sizes)), 0.25)


def test_a_size_that_was_measured_is_not_foretold():
    sizes = [50, 100, 200, 400]
    scores = by_fold(law(sizes))
    found = curve.foretell(sizes, scores, 200, 0.25, 500)
    assert found.how == curve.MEASURED
    assert found.interval.mean == pytest.approx(scores[:, 2].mean())


def test_intervals_over_folds_are_nadeaus_and_bengios():
    values = np.array([0.5, 0.6, 0.55, 0.7, 0.65])
    plain, found = t_interval(values), over_folds(values, 0.2)
    assert found.half_width == pytest.approx(plain.half_width * np.sqrt(5 * (1 / 5 + 0.25)))
    assert told_apart(values + 0.1, values, 0.2).mean == pytest.approx(0.1)


def test_folds_without_an_error_do_not_make_it_certain():
    """As Wilson's interval of 40 right answers of 40, which scipy has."""
    from scipy.stats import binomtest

    found = over_folds(np.ones(5), 0.2, 40)
    assert found.low == pytest.approx(binomtest(40, 40).proportion_ci(method="wilson").low, abs=1e-4)


def test_the_jackknife_of_a_mean_is_its_t_interval():
    values = np.array([3.0, 5.0, 4.0, 8.0, 6.0])
    without = np.array([np.delete(values, place).mean() for place in range(5)])
    assert jackknife(values.mean(), without).half_width == pytest.approx(t_interval(values).half_width)


def test_folds_that_share_examples_are_covered_as_often_as_is_said():
    """Of accuracies in five folds of one draw of examples each, against the probability that they were drawn with."""
    rng, hits = np.random.default_rng(1), 0
    for _ in range(400):
        folds = rng.binomial(40, 0.7, 5) / 40
        interval = over_folds(folds, 0.2)
        hits += interval.low <= 0.7 <= interval.high
    assert hits / 400 >= 0.95


def test_one_size_foretells_nothing_beyond_itself():
    scores = np.array([[0.6], [0.7], [0.65], [0.6], [0.7]])
    found = curve.foretell([24], scores, 36, 0.25, 60)
    assert found.how == curve.FEWER
    assert found.interval.mean == pytest.approx(scores.mean())
