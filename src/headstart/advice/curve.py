"""A learning curve over nested subsets, and what it may come to with more examples than were measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

import numpy as np

from headstart.advice.intervals import over_folds
from headstart.report.statistics import Interval

FEWEST_EXAMPLES = 16
"""The smallest subset."""
MOST_POINTS = 4
MEASURED, LAW, BOUNDS, FEWER = "measured", "power law", "bounds", "measured with fewer"
"""Where a foretold score comes from: it was measured at this size; a power law that had foretold the largest subset; no
more than bounds, from no gain at all to as much for each doubling as the last one brought; or it was measured at one
smaller size alone, and is taken to stay as it is there."""


@dataclass(frozen=True)
class Foretold:
    """A score at a number of training examples."""

    size: int
    interval: Interval
    how: str


def sizes(num_train: int, wanted: int) -> list[int]:
    """Numbers of training examples of the subsets, ascending: halves of `num_train`, and `wanted` where it is less."""
    found = [num_train]
    while len(found) < MOST_POINTS and found[-1] // 2 >= FEWEST_EXAMPLES:
        found.append(found[-1] // 2)
    return sorted({*found, min(wanted, num_train)})


def foretell(points: Sequence[int], scores: np.ndarray, wanted: int, tested: float, num_scored: int) -> Foretold:
    """The score at `wanted` examples from those at `points`, `(K, P)` by fold and size, more being better.

    A power law `a - b · n^-c` gains with each doubling the same share of what the doubling before gained. It is taken
    only where the sizes but the largest foretell what the largest brought, within the interval of that; one curve in
    seven does not follow such a law (LCDB 1.1: arXiv:2505.15657).
    """
    last = over_folds(scores[:, -1], tested, num_scored)
    if wanted in points:
        place = list(points).index(wanted)
        return Foretold(wanted, over_folds(scores[:, place], tested, num_scored), MEASURED)
    if len(points) < 2:
        return Foretold(wanted, last, FEWER)
    doublings, means = log2(wanted / points[-1]), scores.mean(0)
    gain = _gain(points, means, len(points) - 1)
    bounds = sorted((last.mean, last.mean + gain * doublings))
    middle, how = sum(bounds) / 2, BOUNDS
    if _follows(points, scores, tested):
        share = float(np.clip(gain / _gain(points, means, len(points) - 2), 0.0, 1.0))
        steps = doublings if share == 1 else share * (1 - share**doublings) / (1 - share)
        middle, how = last.mean + gain * steps, LAW
    half = last.half_width
    return Foretold(wanted, Interval(middle, bounds[0] - half, bounds[1] + half, last.std, last.n), how)


def bends_down(points: Sequence[int], scores: np.ndarray, tested: float) -> bool:
    """Whether more examples are shown to have made it worse, somewhere along the curve."""
    steps = [over_folds(scores[:, i + 1] - scores[:, i], tested) for i in range(len(points) - 1)]
    return any(step.excludes_zero and step.mean < 0 for step in steps)


def _gain(points: Sequence[int], means: np.ndarray, place: int) -> float:
    """What a doubling brought, from the size before `place` to it."""
    return float(means[place] - means[place - 1]) / log2(points[place] / points[place - 1])


def _follows(points: Sequence[int], scores: np.ndarray, tested: float) -> bool:
    """Whether all sizes but the largest foretell, by a power law, what the largest brought."""
    if len(points) < MOST_POINTS:
        return False
    means, end = scores.mean(0), len(points) - 1
    before, gained = _gain(points, means, end - 2), _gain(points, means, end - 1)
    if before <= 0 or gained <= 0 or _gain(points, means, end) <= 0:
        return False
    step = over_folds(scores[:, end] - scores[:, end - 1], tested)
    expected = gained * min(1.0, gained / before) * log2(points[end] / points[end - 1])
    return step.known and step.low <= expected <= step.high
