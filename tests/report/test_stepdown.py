"""Adjusted p-values against brute force, and the error that they promise."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from headstart.report.stepdown import DRAWS, STEADY, smallest_p, step_down


def slow(differences: np.ndarray) -> list[float]:
    """Westfall and Young's step-down by the book, from the statistics of every sign vector."""
    mean_squares = [float(np.mean(row**2)) for row in differences]
    steady = STEADY * sorted(mean_squares)[(len(mean_squares) - 1) // 4]

    def t(values: np.ndarray) -> np.ndarray:
        sizes = [abs(row.mean()) / np.sqrt(np.mean(row**2) + steady) for row in values]
        return np.array(sizes)

    observed = t(differences)
    order = sorted(range(len(observed)), key=lambda row: -observed[row])
    tables = [t(differences * np.array(signs)) for signs in product((1, -1), repeat=differences.shape[1])]
    p, before = [0.0] * len(order), 0.0
    for place, row in enumerate(order):
        rest = order[place:]
        before = max(before, float(np.mean([table[rest].max() >= observed[row] - 1e-9 for table in tables])))
        p[row] = before
    return p


@pytest.mark.parametrize("shape", [(1, 6), (3, 5), (6, 7), (10, 4)])
def test_adjusted_p_is_what_every_sign_vector_by_hand_gives(shape: tuple[int, int]):
    differences = np.random.default_rng(shape[0]).normal(0.6, 1, shape)
    assert step_down(differences) == pytest.approx(slow(differences))


def test_one_comparison_is_scipys_exact_permutation_test():
    differences = np.random.default_rng(3).normal(0.5, 1, 9)
    reference = stats.permutation_test(
        (differences,), lambda x, axis=-1: np.sum(x, axis=axis), permutation_type="samples", n_resamples=np.inf,
        vectorized=True,
    )  # fmt: skip
    assert step_down(differences[None])[0] == pytest.approx(reference.pvalue)


def test_single_precision_breaks_no_ties():
    counts = np.array([[342, 336, 321, 324, 334, 324, 334, 340], [324, 328, 325, 324, 323, 320, 323, 336]])
    first, second = (np.float32(counts) / np.float32(472)).astype(float)
    assert step_down((counts[0] - counts[1])[None] / 472) == pytest.approx([0.0625])
    assert step_down((first - second)[None], 2.0**-22) == pytest.approx([0.0625])
    assert step_down((first - second)[None])[0] < 0.05, "without a precision the decision flips"


def test_differences_larger_than_the_precision_are_none_of_ties():
    differences = np.array([[1.0, 2.0, 3.0, 5.0, 8.0, 13.0]]) * 1e-4
    assert step_down(differences, 2.0**-22) == pytest.approx([2 / 64])


def test_many_comparisons_are_counted_within_bounds():
    scores = np.random.default_rng(1).normal(size=(250, 20))
    first, second = np.triu_indices(250, 1)
    p = step_down(scores[first] - scores[second])
    assert np.isfinite(p).all()


def test_three_contenders_and_six_seeds_can_be_told_apart():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 0.01, (3, 6)) + np.array([[0.0], [0.1], [0.2]])
    pairs = np.array([scores[1] - scores[0], scores[2] - scores[0], scores[2] - scores[1]])
    assert step_down(pairs) == pytest.approx([2 / 64] * 3)
    assert smallest_p(6) == 2 / 64


def test_differences_of_one_size_by_luck_do_not_hide_a_clear_one():
    clear, lucky = np.array([0.089, 0.10, 0.078, 0.095, 0.08, 0.092]), np.array([1, -1, 1, 1, -1, 1]) * 0.01
    other = np.random.default_rng(0).normal(0, 0.01, (3, 6))
    assert step_down(np.vstack([clear, lucky, other]))[0] == pytest.approx(2 / 64)


def test_ties_count_as_equal_and_zeros_as_nothing():
    differences = np.array([[0.1, 0.2, 0.3, 0.1, 0.2], [0.0] * 5, [0.1, 0.1, 0.1, 0.1, 0.1]])
    assert step_down(differences) == pytest.approx([0.0625, 1.0, 0.0625])


def test_missing_pairs_are_left_out_and_a_row_with_one_pair_is_no_test():
    gap = np.nan
    differences = np.array([[1.0, 2, 1, 2, 1, 2], [1.0, 2, 1, 2, gap, gap], [1.0, gap, gap, gap, gap, gap]])
    p = step_down(differences)
    assert p[0] == pytest.approx(2 / 64)
    assert p[1] == pytest.approx(2 / 16, abs=0.01)
    assert np.isnan(p[2])


@pytest.mark.parametrize("num_replicates", [5, 8, 20])
@pytest.mark.parametrize("num_contenders", [2, 4])
def test_a_false_claim_comes_in_at_most_5_percent_of_null_sweeps(num_contenders: int, num_replicates: int):
    rng, false = np.random.default_rng(1), 0
    rounds = 300
    for _ in range(rounds):
        scores = rng.binomial(300, 0.7, (num_contenders, num_replicates)) / 300
        first, second = np.triu_indices(num_contenders, 1)
        false += bool((step_down(scores[first] - scores[second])[:] <= 0.05).any())
    assert false / rounds <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / rounds)


def test_many_replicates_are_drawn_and_never_give_zero():
    assert step_down(np.ones((1, 40)))[0] == pytest.approx(1 / DRAWS)
