"""Intervals over folds, which share most of what they train on."""

from math import sqrt

import numpy as np

from headstart.report.statistics import CONFIDENCE, Interval, t_interval

SQUARED = 3.84
"""The square of a normal distribution's 97.5% point. Wilson's interval of `n` hits of `n` is `SQUARED / (n + SQUARED)`
wide."""


def over_folds(values: np.ndarray, tested: float, num_scored: int | None = None) -> Interval:
    """The mean over folds with an interval that allows for training on mostly the same examples.

    The variance of the mean is taken as `(1 / K + tested / (1 - tested)) · s²` (Nadeau and Bengio 2003, section 3),
    with Student's t of K - 1 degrees.

    Args:
        values: `(K,)`, one of each fold.
        tested: Share of the examples that a fold tests on, of those that it trains and tests on.
        num_scored: Examples that all folds score, where values are scores: the interval reaches at least as far as that
            of so many examples that are all answered rightly.
    """
    plain = t_interval(values)
    if not plain.known:
        return plain
    factor = sqrt(1 + len(values) * tested / (1 - tested))
    least = 0.0 if num_scored is None else SQUARED / (num_scored + SQUARED)
    half = max(factor * plain.half_width, least)
    return Interval(plain.mean, plain.mean - half, plain.mean + half, plain.std, plain.n)


def jackknife(whole: float, without: np.ndarray) -> Interval:
    """A number of all examples with the interval that leaving out a fold at a time gives (delete-a-group jackknife)."""
    from scipy.special import stdtrit

    num = len(without)
    spread = sqrt((num - 1) / num * float(((without - without.mean()) ** 2).sum()))
    half = float(stdtrit(num - 1, 0.5 + CONFIDENCE / 2)) * spread
    return Interval(whole, whole - half, whole + half, spread, num)


def told_apart(first: np.ndarray, second: np.ndarray, tested: float) -> Interval:
    """How far the first is ahead of the second on the same folds; they are told apart if it leaves out zero."""
    return over_folds(first - second, tested)
