"""What paired differences show: one of three verdicts, with intervals; and how many replicates would settle it."""

from collections.abc import Sequence
from functools import lru_cache
from math import inf, isfinite, nan, sqrt

import numpy as np

from headstart.report.statistics import CONFIDENCE, Interval, t_interval
from headstart.report.stepdown import smallest_p

BETTER, EQUAL, OPEN = "better", "practically equal", "cannot tell"
LEVEL = 0.05
POWER = 0.8
PARTS = 40
"""Equal parts of what a true standard deviation may be, over which power is averaged."""
MOST_REPLICATES = 1000
"""Replicates up to which a number is given; beyond, more seeds are not the remedy."""


def practically_equal(
    values: np.ndarray, margin: float | None, num_comparisons: int = 1, num_examples: float | None = None
) -> bool:
    """Whether the mean of `values` `(n,)` is shown to lie within ±`margin`: two one-sided t-tests at 5%.

    Shared out over `num_comparisons` (Bonferroni), so that a table of many comparisons makes no more false claims.
    Source: Schuirmann 1987. Of values that are all the same nothing is shown: they do not tell how much they vary.

    Args:
        num_examples: That each value is a difference of shares of so many examples. One of mean `margin` varies with
            a standard deviation of √(margin · (1 - margin) / examples) at the least: few examples often give the same
            score twice, which is no sign that others would.
    """
    if margin is None or len(values) < 3:
        return False
    if t_interval(values).std == 0:
        return False
    least = sqrt(margin * (1 - margin) / num_examples) if num_examples and margin < 1 else 0.0
    interval = t_interval(values, 1 - 2 * LEVEL / max(1, num_comparisons), least)
    return -margin < interval.low and interval.high < margin


def verdict(p_adjusted: float, equal: bool) -> str:
    """`better` where the adjusted test tells them apart, `practically equal` within the margin, else `cannot tell`."""
    if p_adjusted <= LEVEL:
        return BETTER
    return EQUAL if equal else OPEN


def resampled_interval(
    by_split: Sequence[float] | np.ndarray, ratio: float, num_examples: float | None = None
) -> Interval:
    """The mean over splits `(J,)` of one pool, each drawn anew, as it would be for other examples like these.

    Test sets of one pool overlap, and so do training sets: the variance of the mean is not s²/J but
    s² (1/J + `ratio`), where `ratio` is the number of test examples over that of all others (Nadeau and Bengio 2003).

    Args:
        num_examples: That each value is a difference of shares of so many examples: it is taken to vary as much as half
            an example more for each, right alone, would make it (see `answers_interval`), at the least.
    """
    values = np.asarray(by_split, dtype=float)
    plain = t_interval(values, least_std=1 / (num_examples + 2) if num_examples else 0.0)
    if not plain.known:
        return plain
    half = plain.half_width * sqrt(1 + ratio * len(values))
    return Interval(plain.mean, plain.mean - half, plain.mean + half, plain.std, plain.n)


def answers_interval(differences: np.ndarray) -> Interval:
    """`crossed_interval` of right minus right `(R, N)`, each -1, 0 or 1.

    Where two are right on nearly the same examples, few tell how often they would differ on others: none that differ of
    six is no sign that none would. So half an example more is counted for each to be right on alone (Agresti and Min
    2005), however many replicates there are: where these agree, they are no more than one.
    """
    d = np.asarray(differences, dtype=float)
    half = np.full((len(d), 1), sqrt(0.5))
    found = crossed_interval(np.concatenate([d, half, -half], axis=1))
    return Interval(float(d.mean()), max(-1.0, found.low), min(1.0, found.high), found.std, found.n)


def crossed_interval(differences: np.ndarray) -> Interval:
    """The mean of `(R, N)` differences, R replicates on the same N examples, for other seeds and other examples.

    Both are drawn: the variance of the mean is what replicates bring, plus what examples bring beyond the scatter that
    both count (two-way random effects). Degrees of freedom are Satterthwaite's, but with the share of the variance that
    replicates bring in place of its square: whatever that share, 94.2 to 96.4% are held with three replicates and more
    by exact calculation, where the square holds 92.2 to 95%. One replicate leaves the examples alone.
    """
    from scipy.special import stdtrit

    d = np.asarray(differences, dtype=float)
    replicates, examples = d.shape
    mean = float(d.mean())
    if examples < 2:
        return Interval(mean, nan, nan, nan, replicates)
    by_example = float(d.mean(0).var(ddof=1)) / examples
    if replicates < 2:
        half = float(stdtrit(examples - 1, 0.5 + CONFIDENCE / 2)) * sqrt(by_example)
        return Interval(mean, mean - half, mean + half, nan, replicates)
    by_replicate = float(d.mean(1).var(ddof=1)) / replicates
    rest = d - d.mean(0) - d.mean(1)[:, None] + mean
    both = float((rest**2).sum()) / ((replicates - 1) * (examples - 1)) / (replicates * examples)
    beyond = max(by_example - both, 0.0)
    variance = by_replicate + beyond
    if variance == 0:
        return Interval(mean, mean, mean, 0.0, replicates)
    bottom = by_replicate / variance / (replicates - 1) + (beyond / variance) ** 2 / (examples - 1)
    free = 1 / bottom
    half = float(stdtrit(min(free, 1e6), 0.5 + CONFIDENCE / 2)) * sqrt(variance)
    return Interval(mean, mean - half, mean + half, sqrt(variance), replicates)


@lru_cache(maxsize=64)
def _ratios(known: int | None) -> np.ndarray:
    """True standard deviations over one that was estimated from `known` pairs: midpoints of equal parts of what they
    may be (normal theory). A `known` of `None` takes the estimate for the truth."""
    from scipy.special import chdtri

    if known is None:
        return np.ones(1)
    parts = (np.arange(PARTS) + 0.5) / PARTS
    return np.sqrt((known - 1) / chdtri(known - 1, parts))


def power(
    std: float, difference: float, num_pairs: int, num_comparisons: int = 1, known_from: int | None = None
) -> float:
    """The chance that a paired test of `num_pairs` shows a true `difference` whose pairs scatter by `std`.

    It is that of a t-test of one pair fewer, which is what the coarse p of few sign flips costs.
    `known_from` is the number of pairs that `std` was estimated from, two at least: the chance is then the mean over
    what the true one may be, which of few pairs is much less than if the estimate were the truth.
    """
    from scipy.special import nctdtr, stdtrit

    if smallest_p(num_pairs) > LEVEL:
        return 0.0
    if std == 0:
        return float(difference != 0)
    free = num_pairs - 2
    critical = float(stdtrit(free, 1 - LEVEL / 2 / max(1, num_comparisons)))
    effects = abs(difference) / std * sqrt(num_pairs - 1) / _ratios(known_from)
    shares = np.nan_to_num(1 - nctdtr(free, np.minimum(effects, 36), critical), nan=1.0)
    return float(shares.mean())


def replicates_needed(
    std: float, difference: float, num_comparisons: int = 1, known_from: int | None = None
) -> int | None:
    """The fewest pairs that show a true `difference` in 80% of comparisons like this; none up to a thousand: `None`."""
    low, high = 1, MOST_REPLICATES
    if power(std, difference, high, num_comparisons, known_from) < POWER:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = power(std, difference, middle, num_comparisons, known_from) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high


def detectable(std: float, num_pairs: int, num_comparisons: int = 1, known_from: int | None = None) -> float:
    """The true difference that `num_pairs` show in 80% of comparisons like this; infinite where none can reach 5%."""
    if smallest_p(num_pairs) > LEVEL:
        return inf
    low, high = 0.0, 100 * std
    for _ in range(60):
        middle = (low + high) / 2
        enough = power(std, middle, num_pairs, num_comparisons, known_from) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high


def effect_size(interval: Interval | None) -> float:
    """Mean over standard deviation of paired differences (Cohen's d_z)."""
    if interval is None or not interval.known:
        return nan
    return interval.mean / interval.std if interval.std > 0 else nan if interval.mean == 0 else inf


def finite(value: float) -> float:
    """`value`, or nan where it has no end."""
    return value if isfinite(value) else nan
