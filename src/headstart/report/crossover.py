"""Where one learning-from-n curve overtakes another, with the uncertainty of that place."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import log

import numpy as np

from headstart.report.statistics import t_interval

GRID = 400


@dataclass(frozen=True, slots=True)
class Crossover:
    """Where a contender passes the reference as n grows.

    `place` is the last upward crossing of the mean difference, `None` if the contender is ahead (or behind) at
    every n measured. `low`..`high` is the 95% confidence set within the measured range; an open end means that
    the data do not bound it on that side.
    """

    place: float | None
    low: float | None
    high: float | None
    open_below: bool
    open_above: bool
    ahead_at_smallest: bool
    ahead_at_largest: bool
    num_seeds: int


def crossover(differences: Mapping[float, Mapping[int, float]]) -> Crossover | None:
    """Find the crossover from paired differences by n and seed: `{n: {seed: contender - reference}}`.

    Each seed's difference is drawn straight in log n between the sizes measured; an n belongs to the confidence
    set while the t-interval over seeds holds zero there (a t-test turned round, so it is as right at three seeds
    as the t-interval is). `None` with fewer than two sizes or no seed that has them all.
    """
    sizes = sorted(differences)
    seeds = sorted(set.intersection(*(set(differences[n]) for n in sizes))) if sizes else []
    if len(sizes) < 2 or not seeds:
        return None
    values = np.array([[differences[n][seed] for n in sizes] for seed in seeds])
    mean = values.mean(axis=0)
    place = _last_upward(sizes, mean)
    logs = np.log(sizes)
    grid = np.union1d(np.linspace(logs[0], logs[-1], GRID), logs)
    undecided = np.zeros(len(grid), dtype=bool)
    if len(seeds) > 1:
        curves = np.array([np.interp(grid, logs, curve) for curve in values])
        for i, column in enumerate(curves.T):
            interval = t_interval(column)
            undecided[i] = interval.low <= 0 <= interval.high
    else:
        undecided[:] = True
    low, high = _ends(grid[undecided], place)
    below, above = bool(undecided[0]), bool(undecided[-1])
    return Crossover(place, low, high, below, above, bool(mean[0] > 0), bool(mean[-1] > 0), len(seeds))


def _last_upward(sizes: list[float], mean: np.ndarray) -> float | None:
    place = None
    for (n0, d0), (n1, d1) in pairwise(zip(sizes, mean, strict=True)):
        if d0 <= 0 < d1:
            place = float(np.exp(log(n0) + (log(n1) - log(n0)) * -d0 / (d1 - d0)))
    return place


def _ends(undecided: np.ndarray, place: float | None) -> tuple[float | None, float | None]:
    """The smallest and largest undecided size; where all is decided, the crossing between two grid points, if any."""
    if len(undecided):
        return float(np.exp(undecided[0])), float(np.exp(undecided[-1]))
    return place, place
