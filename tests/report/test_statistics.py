"""The statistics against closed forms, published numbers and other implementations."""

from itertools import combinations, product
from math import isnan

import numpy as np
import pytest
from scipy import stats

from headstart.report import statistics
from headstart.report.statistics import (
    compare_examples,
    expected_best,
    expected_best_unbiased,
    friedman,
    improvement_probability,
    interquartile_interval,
    interquartile_mean,
    t_interval,
)  # fmt: skip

SCORES = [0.60, 0.70, 0.75, 0.80, 0.90]


def test_t_interval_is_scipys():
    values = np.random.default_rng(0).normal(0.8, 0.02, 5)
    found = t_interval(values)
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_t_interval_of_one_value_is_not_known_and_of_equal_values_excludes_nothing():
    assert isnan(t_interval([0.5]).low)
    assert not t_interval([0.5]).known
    assert not t_interval([0.1, 0.1, 0.1]).excludes_zero


def test_improvement_probability_and_iqm_are_rliables():
    x, y = np.array([[1, 2], [2, 2], [1, 1], [2, 1]]), np.array([[1, 1], [2, 2], [3, 3]])
    assert improvement_probability(list(x.T), list(y.T)) == pytest.approx(1 / 3)
    assert interquartile_mean(x) == 1.5


def test_improvement_probability_is_mann_whitneys_share():
    x, y = np.random.default_rng(3).normal(size=(2, 7))
    assert improvement_probability([x], [y]) == pytest.approx(stats.mannwhitneyu(x, y).statistic / 49)


def test_interquartile_interval_holds_its_estimate_and_repeats():
    tasks = [np.random.default_rng(i).normal(i, 1, 6) for i in range(4)]
    middle, low, high = interquartile_interval(tasks)
    assert low < middle < high
    assert interquartile_interval(tasks) == (middle, low, high)


def test_interquartile_interval_of_few_runs_holds_the_truth_as_often_as_it_says():
    rng, held = np.random.default_rng(0), 0
    for _ in range(300):  # of four normal tasks alike, the IQM of all runs is 0 in the long run
        _, low, high = interquartile_interval(list(rng.normal(0, 1, (4, 3))), 300)
        held += low <= 0 <= high
    assert 0.91 <= held / 300 <= 0.985
    assert isnan(interquartile_interval([np.array([0.5]), np.array([0.6])])[1]), "single runs show no spread"


def test_expected_best_has_the_published_values():
    assert [expected_best(SCORES, n) for n in range(1, 6)] == pytest.approx(
        [0.75, 0.806, 0.834, 0.85112, 0.8628], abs=5e-5
    )
    unbiased = [expected_best_unbiased(SCORES, n) for n in range(1, 6)]
    assert unbiased == pytest.approx([0.75, 0.82, 0.855, 0.88, 0.90])


def test_expected_best_is_the_mean_over_all_draws():
    for n in (2, 3):
        assert expected_best(SCORES, n) == pytest.approx(np.mean([max(draw) for draw in product(SCORES, repeat=n)]))
        assert expected_best_unbiased(SCORES, n) == pytest.approx(np.mean([max(d) for d in combinations(SCORES, n)]))


def test_friedman_and_nemenyi_are_those_of_other_implementations():
    scores = np.random.default_rng(4).normal(size=(9, 4)) + np.arange(4) * 0.6
    found = friedman(scores)
    assert (found.statistic, found.p) == pytest.approx(tuple(stats.friedmanchisquare(*scores.T)))
    reference = pytest.importorskip("scikit_posthocs").posthoc_nemenyi_friedman(scores)
    np.testing.assert_allclose(found.pairwise_p, reference.to_numpy(), atol=1e-6)


@pytest.mark.parametrize(("k", "q"), [(3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_difference_has_demsars_constants(k, q):
    """Demšar 2006, table 5(a)."""
    found = friedman(np.random.default_rng(5).normal(size=(12, k)))
    assert found.critical_difference == pytest.approx(q * np.sqrt(k * (k + 1) / 72), rel=1e-3)


def test_friedman_of_ties_everywhere_says_nothing():
    found = friedman(np.ones((4, 3)))
    assert found.p == 1.0
    assert found.mean_ranks == [2.0, 2.0, 2.0]


def test_example_comparison_counts_and_has_the_exact_mcnemar_p():
    first = np.array([True] * 70 + [False] * 30)
    second = np.array([True] * 60 + [False] * 35 + [True] * 5)
    found = compare_examples(first, second)
    assert (found.both, found.only_first, found.only_second, found.neither) == (60, 10, 5, 25)
    assert found.p == pytest.approx(stats.binomtest(5, 15, 0.5).pvalue)
    assert found.difference == pytest.approx(0.05)


def test_the_interval_over_examples_is_walds_with_half_an_example_more_on_each_count():
    rng = np.random.default_rng(6)
    first, second = rng.random(40) < 0.8, rng.random(40) < 0.7
    found = compare_examples(first, second)
    table = np.array([[found.both, found.only_first], [found.only_second, found.neither]]) + 0.5
    shares = table / table.sum()
    ahead = shares[0].sum() - shares[:, 0].sum()
    variance = (shares[0].sum() * shares[1].sum() + shares[:, 0].sum() * shares[:, 1].sum()
                - 2 * (shares[0, 0] * shares[1, 1] - shares[0, 1] * shares[1, 0])) / table.sum()  # fmt: skip
    half = stats.norm.ppf(0.975) * np.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((ahead - half, ahead + half))


@pytest.mark.parametrize(("num_examples", "half"), [(5, 0.28), (500, 0.0039)])
def test_equal_answers_leave_room_for_what_others_may_show(num_examples, half):
    found = compare_examples(np.ones(num_examples, bool), np.ones(num_examples, bool))
    assert (found.p, found.difference, found.low, found.high) == (1.0, 0.0, -found.high, pytest.approx(half, rel=0.01))


def test_confidence_is_the_one_that_is_written_everywhere():
    assert statistics.CONFIDENCE == 0.95
