"""Where one learning-from-n curve overtakes another: claimed only from sizes at which the order is shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log

WIDEST_STEP = 4.0
"""Ratio of two sizes up to which the place between them is estimated: curves bend, and a straight line drawn over a
wider step misses the place by more than its noise."""


@dataclass(frozen=True, slots=True)
class Crossover:
    """One contender is clearly behind at `low` examples a class and clearly ahead at `high` and at the largest size.

    That the order turns between `low` and `high` assumes that the curves cross once there. `place` is where the means,
    drawn straight in log size, cross; `None` where the step is wider than `WIDEST_STEP`.
    """

    low: float
    high: float
    place: float | None

    @property
    def wide(self) -> bool:
        """Whether the sizes lie so far apart that no place between them is given."""
        return self.high / self.low > WIDEST_STEP


@dataclass(frozen=True, slots=True)
class AtSize:
    """A contender against a reference at one size: the mean paired difference, and 1 or -1 where its sign is shown."""

    gap: float
    state: int
    num_pairs: int


def crossover(sizes: Mapping[float, AtSize]) -> Crossover | None:
    """Where the contender passes the reference, if it is shown that it does.

    It must be clearly ahead at the largest size, clearly behind at a smaller one.
    """
    order = sorted(sizes)
    behind = [n for n in order if sizes[n].state < 0]
    if len(order) < 2 or not behind or sizes[order[-1]].state <= 0:
        return None
    low = behind[-1]
    high = next(n for n in order if n > low and sizes[n].state > 0)
    place = None
    if high / low <= WIDEST_STEP:
        between = [n for n in order if low <= n <= high]
        for a, b in pairwise(between):
            ga, gb = sizes[a].gap, sizes[b].gap
            if ga <= 0 < gb:
                place = exp(log(a) + (log(b) - log(a)) * -ga / (gb - ga))
    return Crossover(low, high, place)


def turned(sizes: Mapping[float, AtSize]) -> dict[float, AtSize]:
    """The same seen from the reference."""
    return {n: AtSize(-at.gap, -at.state, at.num_pairs) for n, at in sizes.items()}
