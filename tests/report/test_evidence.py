"""Verdicts, intervals and numbers of seeds: against closed forms, and as often right as they say."""

import importlib
from math import inf, isnan
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from headstart.report.evidence import (
    BETTER,
    EQUAL,
    OPEN,
    answers_interval,
    crossed_interval,
    detectable,
    power,
    practically_equal,
    replicates_needed,
    resampled_interval,
    verdict,
)  # fmt: skip
from headstart.report.statistics import t_interval

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def simulate():
    """The script of simulations, which finds its other half beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        return importlib.import_module("simulate_evidence")


@pytest.fixture(scope="module")
def intervals(simulate):
    return importlib.import_module("simulate_intervals")


def test_equality_is_two_one_sided_t_tests():
    values = np.random.default_rng(0).normal(0.002, 0.006, 9)
    low, high = (stats.ttest_1samp(values, end, alternative=side).pvalue
                 for end, side in ((-0.01, "greater"), (0.01, "less")))  # fmt: skip
    assert practically_equal(values, 0.01) == (max(low, high) < 0.05)
    assert not practically_equal(values, 0.001)
    assert not practically_equal(values, None)
    assert not practically_equal(values[:2], 10.0), "two pairs show nothing"


def test_a_verdict_is_better_only_by_the_test_and_equal_only_by_the_margin():
    close, wide = np.array([0.001, -0.001, 0.0005, 0.0]), np.array([0.1, -0.05, 0.2, 0.02])
    assert practically_equal(close, 0.01)
    assert not practically_equal(wide, 0.01)
    assert verdict(0.05, True) == BETTER
    assert verdict(0.06, True) == EQUAL
    assert verdict(0.06, False) == OPEN
    assert verdict(np.nan, False) == OPEN


@pytest.mark.parametrize("gap", [0.0, 0.004, np.float32(0.7) - np.float32(0.696)])
def test_equal_differences_do_not_show_that_others_would_be_equal(gap):
    assert not practically_equal(np.full(5, gap), 0.01)
    assert not practically_equal(0.3 + np.full(5, gap) - 0.3, 0.01)


@pytest.mark.parametrize(("examples", "shown"), [(None, True), (50, False), (10_000, True)])
def test_scores_on_few_examples_vary_more_than_a_few_of_them_show(examples, shown):
    values = np.array([0.0, 0.0, 0.001, 0.0, 0.0])
    assert practically_equal(values, 0.01, num_examples=examples) == shown


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("examples", [6, 50, 200])
def test_two_that_differ_by_the_margin_are_seldom_called_equal_on_few_examples(intervals, seeds, examples):
    assert intervals.equal_claims_on_few(2000, seeds, examples).measured < 0.06


def test_an_interval_over_splits_of_one_pool_is_nadeau_and_bengios():
    values, ratio = np.array([0.01, 0.03, 0.02, 0.05]), 0.25
    half = stats.t.ppf(0.975, 3) * values.std(ddof=1) * np.sqrt(1 / 4 + ratio)
    found = resampled_interval(values, ratio)
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert isnan(resampled_interval([0.01], ratio).low)


def test_crossed_seeds_and_examples_give_what_each_alone_gives_where_the_other_brings_nothing():
    rng = np.random.default_rng(0)
    seeds = rng.normal(0, 0.02, 6)
    found, alone = crossed_interval(np.repeat(seeds[:, None], 300, axis=1)), t_interval(seeds)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
    examples = rng.normal(0.1, 0.5, 300)
    found, alone = crossed_interval(np.repeat(examples[None], 6, axis=0)), t_interval(examples)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
    assert crossed_interval(examples[None]).high == pytest.approx(alone.high)


def test_answers_that_agree_leave_room_for_what_other_examples_may_show():
    """As of one model where no seed brings anything; wide for six examples, nothing for many."""
    alike = answers_interval(np.zeros((1, 6)))
    assert (alike.mean, alike.low) == (0, -alike.high)
    assert alike.high > 0.2
    many = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], (3, 5000), p=[0.1, 0.8, 0.1])
    found, plain = answers_interval(many), crossed_interval(many)
    assert (found.mean, found.low, found.high) == pytest.approx((plain.mean, plain.low, plain.high), abs=1e-4)


def test_splits_of_one_pool_that_give_the_same_leave_room_too():
    assert resampled_interval([0.0] * 3, 0.2).high == 0
    found = resampled_interval([0.0] * 3, 0.2, num_examples=6)
    assert found.high == pytest.approx(stats.t.ppf(0.975, 2) / 8 * np.sqrt(1 / 3 + 0.2))
    assert resampled_interval([0.1, 0.3, 0.2], 0.2, 600) == resampled_interval([0.1, 0.3, 0.2], 0.2)


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("kind", ["ORDINARY", "NEARLY_RIGHT", "NEARLY_WRONG"])
def test_intervals_of_few_examples_hold_the_truth(intervals, kind, seeds):
    assert intervals.fixed_coverage(300, getattr(intervals, kind), seeds, 6).measured > 0.92
    assert intervals.pool_coverage(300, seeds, 0.0, 40, 0.08).measured > 0.92
    assert intervals.agreeing_coverage(300, seeds, 20, 0.05).measured > 0.92
    assert intervals.example_claims(300, 0.95, 6)[1].measured > 0.92


def test_power_is_that_of_the_noncentral_t_of_a_pair_fewer_and_nothing_below_six_pairs():
    t = stats.nct(9, 0.8 * np.sqrt(10))
    assert power(1.0, 0.8, 11) == pytest.approx(t.sf(stats.t.ppf(0.975, 9)))
    assert power(1.0, 9.0, 5) == 0
    scatter = np.sqrt(5 / stats.chi2(5).rvs(20_000, random_state=0))  # what the true one may be, given 1 of 6 pairs
    mean = stats.nct(9, 0.8 * np.sqrt(10) / scatter).sf(stats.t.ppf(0.975, 9)).mean()
    assert power(1.0, 0.8, 11, known_from=6) == pytest.approx(mean, abs=0.01)
    assert detectable(1.0, 5) == inf
    assert power(1.0, detectable(1.0, 12), 12) == pytest.approx(0.8)


def test_more_seeds_are_asked_for_smaller_differences_and_none_beyond_a_thousand():
    assert replicates_needed(1.0, 1.0) < replicates_needed(1.0, 0.5)
    assert replicates_needed(1.0, 0.5) < replicates_needed(1.0, 0.5, num_comparisons=5)
    assert replicates_needed(1.0, 1.0, known_from=3) > replicates_needed(1.0, 1.0, known_from=10)
    assert replicates_needed(1.0, 1.0, known_from=10_000) == replicates_needed(1.0, 1.0)
    assert replicates_needed(1.0, 0.01) is None
    assert replicates_needed(1.0, 100.0) >= 6


def holds(line, promise, at_most):
    """Whether a simulated share is no further from its promise than three standard errors."""
    error = 3 * np.sqrt(promise * (1 - promise) / line.rounds)
    return line.measured <= promise + error and (at_most or line.measured >= promise - error)


@pytest.mark.parametrize(("contenders", "rounds"), [(2, 80), (3, 60), (12, 15)])
def test_words_call_equals_better_no_more_often_than_they_promise(simulate, contenders, rounds):
    line = simulate.null_claims(rounds, contenders, 6, simulate.binomial)
    assert holds(line, 0.05, at_most=True), line


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("a is better than b on d: 80.0% against 70.0%, 10.0 points ahead.", True),
        ("a is the best of 3 on d: 80.0%, 2.0 points ahead of b, the next.", True),
        ("Of the two it is better on d and e, worse on f; on the other it cannot be told.", True),
        ("a is shown to be the best on 2; 1 leave it open.", True),
        ("b against a, by examples a class: worse with 5; not told apart with 10.", True),
        ("Of the 2 others, worse: b; cannot be told: c.", True),
        ("It cannot be told whether a or b is better on d: 80.0% against 79.0%, 1.0 points apart.", False),
        ("The cheapest, b takes 1 s; it is 2 points behind, and whether it is worse cannot be told.", False),
        ("b against a, by examples a class: not told apart with 5 and 10.", False),
    ],
)
def test_what_counts_as_a_claim_in_simulations(simulate, text, claims):
    assert simulate.claiming(text) == claims


def test_nothing_and_no_crossover_is_claimed_among_equals_at_several_sizes_more_often_than_promised(simulate):
    for line in simulate.null_sizes(12, 6):
        assert holds(line, 0.05, at_most=True), line


def test_factors_are_said_to_depend_on_one_another_where_they_do_and_no_more_often_than_promised(simulate):
    for line in simulate.null_factors(40, "strategy and backbone", 7):
        assert holds(line, 0.05, at_most=True), line
    depends, turns = simulate.factors_power(8, "strategy and backbone", 10, 0.12)
    assert depends.measured == 1
    assert turns.measured >= 0.75


def test_many_tables_are_controlled_together(simulate):
    assert holds(simulate.null_tables(15, 5, 6), 0.05, at_most=True)


def test_own_and_shifted_test_sets_are_controlled_together(simulate):
    assert holds(simulate.null_shifts(30, 3, 6), 0.05, at_most=True)


def test_claims_over_data_sets_are_controlled(simulate):
    for line in simulate.null_data_sets(20, 8, 2):
        assert holds(line, 0.05, at_most=True), line


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_hold_their_own_truth_as_often_as_they_say(intervals, seeds):
    assert holds(intervals.seeds_coverage(1500, seeds), 0.95, at_most=False)
    assert 0.93 <= intervals.pool_coverage(400, seeds, 0.0).measured <= 0.98
    for models in (intervals.ORDINARY, intervals.NEARLY_RIGHT):
        line = intervals.fixed_coverage(600, models, seeds, 472)
        assert 0.93 - 2 * line.error <= line.measured <= 0.98 + 2 * line.error, line


def exact_coverage(replicates: int, examples: float, spread: float) -> float:
    """Of the interval over replicates and many examples that bring `examples` times the scatter that both count, where
    replicates bring `spread` times it; by quadrature over what their variance is found to be."""
    parts = (np.arange(400) + 0.5) / 400
    found = spread * stats.chi2.ppf(parts, replicates - 1) / (replicates - 1)
    variance = found + examples
    half = stats.t.ppf(0.975, (replicates - 1) * variance / found) * np.sqrt(variance)
    return float((2 * stats.norm.cdf(half / np.sqrt(examples + spread)) - 1).mean())


@pytest.mark.parametrize("replicates", [3, 5, 10])
def test_the_interval_over_seeds_and_examples_holds_what_it_says_whatever_brings_the_scatter(replicates):
    shares = [(examples, spread) for examples in (0, 0.1, 0.3, 1, 3, 10) for spread in (1, 1.3, 2, 4, 10, 50)]
    assert all(0.94 <= exact_coverage(replicates, *share) <= 0.965 for share in shares)


def test_equality_within_a_margin_is_claimed_no_more_often_than_promised_at_the_margin(simulate, intervals):
    assert holds(intervals.equal_claims(2000, 6), 0.05, at_most=True)
    assert holds(simulate.equal_words(20, 2, 6), 0.05, at_most=True)


@pytest.mark.parametrize("seeds", [6, 8, 12])
def test_the_difference_that_so_many_seeds_show_is_shown(intervals, seeds):
    assert intervals.detecting(250, seeds).measured == pytest.approx(0.8, abs=0.09)


@pytest.mark.parametrize(("seeds", "effect"), [(6, 1.0), (3, 1.0)])
def test_the_seeds_that_are_asked_for_show_the_difference_that_is_named(intervals, seeds, effect):
    assert intervals.settling(60, seeds, effect).measured >= 0.7
    assert intervals.settled(60, seeds, effect).measured >= 0.75


def test_fresh_seeds_show_the_best_without_its_luck(intervals):
    chosen, fresh, error = intervals.selection_bias(2000, 6, 6)
    assert chosen > 10 * error
    assert abs(fresh) < 3 * error


def test_what_is_said_of_selection_and_of_test_examples_is_right_on_average(intervals):
    true, said = intervals.optimism(1500, 6, 3)
    assert said == pytest.approx(true, abs=0.15)
    true, said = intervals.examples_share(1500, 6, 0.015)
    assert said == pytest.approx(true, abs=0.06)


@pytest.mark.slow
def test_the_whole_table_holds(simulate):
    for line in simulate.table(500):
        print(line.text(), flush=True)
        if line.promised == "at most 5%":
            assert line.measured <= 0.06 + 2 * line.error, line
        elif line.promised == "95%":
            assert 0.93 - 2 * line.error <= line.measured <= 0.99, line
        elif line.promised == "80%":
            assert line.measured >= 0.78 - 2 * line.error, line
