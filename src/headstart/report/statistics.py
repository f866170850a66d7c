"""The statistics of a comparison over seeds: plain arrays in, plain numbers out.

Scores are such that more is better (`Metric` turns losses round); seeds are replicates, examples are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, isfinite, nan, sqrt
from statistics import NormalDist

import numpy as np

from headstart.seeding import stream

CONFIDENCE = 0.95
_NORMAL = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
SAME = 1e-9
"""Share of numbers by which they may differ and are the same: what rounding makes of them."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its two-sided Student t-interval; `low` and `high` are nan for a single value."""

    mean: float
    low: float
    high: float
    std: float
    n: int

    @property
    def known(self) -> bool:
        """Whether there is an interval at all, which takes two values."""
        return isfinite(self.low)

    @property
    def half_width(self) -> float:
        """The smallest mean of the same spread and number whose interval would leave out zero."""
        return self.high - self.mean

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside; never true of values that are all the same, as they show no spread."""
        return self.known and self.std > 0 and (self.low > 0 or self.high < 0)


def t_interval(
    values: Sequence[float] | np.ndarray, confidence: float = CONFIDENCE, least_std: float = 0.0
) -> Interval:
    """Mean of `values` `(n,)`, n ≥ 1, with mean ± t(n - 1) · s / √n, s being `least_std` at the least."""
    from scipy.special import stdtrit

    values = np.asarray(values, dtype=float)
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Interval(mean, nan, nan, nan, n)
    is_flat = np.ptp(values) <= SAME * np.abs(values).max()
    std = max(0.0 if is_flat else float(values.std(ddof=1)), least_std)
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * std / sqrt(n)
    return Interval(mean, mean - half, mean + half, std, n)


def improvement_probability(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    """P(a run of `first` does better than one of `second`), ties half, the mean over tasks.

    One array of runs a task (Agarwal et al. 2021, section 4.3: Mann-Whitney U over the number of pairs).
    """
    shares = []
    for x, y in zip(first, second, strict=True):
        x, y = np.asarray(x, dtype=float)[:, None], np.asarray(y, dtype=float)[None, :]
        shares.append(np.mean((x > y) + 0.5 * (x == y)))
    return float(np.mean(shares))


def interquartile_mean(scores: np.ndarray, axis: int | None = None) -> np.ndarray:
    """The mean of the middle half of all scores, whatever run and task they are of (Agarwal et al. 2021)."""
    from scipy.stats import trim_mean

    return trim_mean(scores, 0.25, axis=axis)


def interquartile_interval(tasks: Sequence[np.ndarray], num_draws: int = 2000) -> tuple[float, float, float]:
    """IQM with its interval over runs, each task's own; ends are nan where no task has two runs.

    The spread is that of a bootstrap of runs within each task (stratified). Its percentiles would be too narrow by far
    (of 3 runs they hold 84% for 95%): a bootstrap of n takes n for n - 1 and knows the spread for sure. Both are put
    right, by n / (n - 1) and Student's t with as many degrees of freedom as the tasks have runs beyond their first.
    """
    from scipy.special import stdtrit

    tasks = [np.asarray(task, dtype=float) for task in tasks]
    mean = float(interquartile_mean(np.concatenate(tasks)))
    counts = np.array([len(task) for task in tasks])
    free = int(counts.sum()) - len(tasks)
    if free < 1:
        return mean, nan, nan
    rng = stream(0, "stratified-bootstrap", len(tasks))
    drawn = [task[rng.integers(0, len(task), (num_draws, len(task)))] for task in tasks]
    spread = float(interquartile_mean(np.concatenate(drawn, axis=1), axis=1).std())
    half = float(stdtrit(free, 0.5 + CONFIDENCE / 2)) * spread * sqrt(counts.sum() / free)
    return mean, mean - half, mean + half


def expected_best(scores: Sequence[float], budget: int) -> float:
    """Expected best of `budget` trials drawn with replacement from `scores` (Dodge et al. 2019, equation 5)."""
    ordered, total = np.sort(np.asarray(scores, dtype=float)), len(scores)
    ranks = np.arange(total + 1) / total
    return float(ordered @ np.diff(ranks**budget))


def expected_best_unbiased(scores: Sequence[float], budget: int) -> float:
    """Expected best of `budget` ≤ N different trials of `scores` (N,): the unbiased form (Tang et al. 2020)."""
    ordered, total = np.sort(np.asarray(scores, dtype=float)), len(scores)
    assert 1 <= budget <= total
    whole = comb(total, budget)
    weights = [comb(rank, budget - 1) / whole for rank in range(total)]
    return float(ordered @ np.array(weights))


@dataclass(frozen=True, slots=True)
class RankTest:
    """Friedman's test over `(tasks, contenders)` with Nemenyi's post-hoc; ranks count from 1, the best."""

    statistic: float
    p: float
    mean_ranks: list[float]
    critical_difference: float
    pairwise_p: list[list[float]]
    num_tasks: int


def friedman(scores: np.ndarray) -> RankTest:
    """Friedman's test on `scores` `(tasks, contenders)`, with at least 2 tasks and 3 contenders (Demšar 2006)."""
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    num_tasks, k = scores.shape
    assert num_tasks >= 2
    assert k >= 3
    tied = bool((scores == scores[:, :1]).all())  # of which scipy makes 0 / 0
    statistic, p = (0.0, 1.0) if tied else friedmanchisquare(*scores.T)
    ranks = rankdata(-scores, axis=1).mean(axis=0)
    spread = sqrt(k * (k + 1) / (6 * num_tasks))
    gaps = np.abs(ranks[:, None] - ranks[None, :]) / spread * sqrt(2)
    pairwise = np.where(gaps == 0, 1.0, studentized_range.sf(gaps, k, np.inf))
    critical = float(studentized_range.isf(1 - CONFIDENCE, k, np.inf)) / sqrt(2) * spread
    return RankTest(float(statistic), float(p), ranks.tolist(), critical, pairwise.tolist(), num_tasks)


@dataclass(frozen=True, slots=True)
class ExampleTest:
    """Two runs on the same test examples: who was right where, McNemar's exact p and Agresti and Min's interval."""

    num_examples: int
    both: int
    only_first: int
    only_second: int
    neither: int
    p: float
    difference: float
    low: float
    high: float


def compare_examples(first: np.ndarray, second: np.ndarray) -> ExampleTest:
    """Compare two `(N,)` arrays of right (true) and wrong answers on the same N examples.

    The interval is that of Agresti and Min (2005): as if half an example more fell on each of the four counts, for
    where two differ on few of a few examples or on none, drawing these again would never show how they may differ.
    """
    from scipy.stats import binom

    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    n = len(first)
    both, only_first = int(np.sum(first & second)), int(np.sum(first & ~second))
    only_second, neither = int(np.sum(~first & second)), int(np.sum(~first & ~second))
    differ = only_first + only_second
    p = float(2 * binom.cdf(min(only_first, only_second), differ, 0.5)) if differ else 1.0
    middle = (only_first - only_second) / (n + 2)
    half = _NORMAL * sqrt(((differ + 1) / (n + 2) - middle**2) / (n + 2))
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    return ExampleTest(
        n, both, only_first, only_second, neither, min(1.0, p), (only_first - only_second) / n, low, high
    )
