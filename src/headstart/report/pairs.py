"""Every pair of contenders, at each data set and size and on each test set, shifted ones too, tested as one family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headstart.report.stepdown import step_down

SINGLE = 2.0**-22
"""How far, of 1, the difference of two scores may be off that were kept in single precision."""


@dataclass(slots=True)
class Pairs:
    """All pairs `first` < `second` of `k` contenders in one place, paired by replicate and split.

    `values` `(P, R)` are first minus second, nan where a replicate is missing in one or has another split.
    """

    first: np.ndarray
    second: np.ndarray
    values: np.ndarray
    unpaired: np.ndarray
    precision: float
    p_adjusted: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def row(self, i: int, j: int) -> tuple[int, int]:
        """The row of a pair, and 1, or -1 where it is kept the other way round."""
        k = self.second[-1] + 1
        low, high = min(i, j), max(i, j)
        return int(low * (2 * k - low - 1) // 2 + high - low - 1), 1 if i < j else -1


def make_pairs(
    scores: Sequence[Mapping[int, float]], splits: Sequence[Mapping[int, str]], numbers: Sequence[int]
) -> Pairs | None:
    """Pair contenders by their scores and splits, each by replicate; `numbers` are all replicates there are."""
    if len(scores) < 2:
        return None
    place = {number: i for i, number in enumerate(numbers)}
    found = np.full((len(scores), len(numbers)), np.nan)
    drawn = np.full(found.shape, -1)
    codes: dict[Any, int] = {}
    for row, (own, split) in enumerate(zip(scores, splits, strict=True)):
        for number, score in own.items():
            found[row, place[number]] = score
            drawn[row, place[number]] = codes.setdefault(split[number], len(codes))
    first, second = np.triu_indices(len(scores), 1)
    values = found[first] - found[second]
    other = np.isfinite(values) & (drawn[first] != drawn[second])
    values[other] = np.nan
    largest = float(np.nanmax(np.abs(found))) if np.isfinite(found).any() else 0.0
    return Pairs(first, second, values, other.sum(1), SINGLE * largest)


def adjust(tables: Sequence[Pairs]) -> int:
    """Adjust all comparisons of all tables together; how many there are that could be tested."""
    if not tables:
        return 0
    p = step_down(np.concatenate([table.values for table in tables]), max(table.precision for table in tables))
    for table, own in zip(tables, np.split(p, np.cumsum([len(table.values) for table in tables])[:-1]), strict=True):
        table.p_adjusted = own
    return int(np.isfinite(p).sum())
