"""Comparisons over several factors, such as strategy × backbone: averages, interactions, orders that turn."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import numpy as np

from headstart.report.analysis import Analysis
from headstart.report.design import Condition, Contender
from headstart.report.scored import Summary
from headstart.report.stepdown import sign_vectors

DATA, SIZE = "data", "training size"


@dataclass(frozen=True, slots=True)
class Interaction:
    """Whether the levels of one factor differ by the same at each level of another.

    p is exact over replicates, times the number of interactions that were looked at.
    """

    first: str
    second: str
    p: float
    num_replicates: int


@dataclass(frozen=True, slots=True)
class Turn:
    """Two contenders whose order is shown to turn with the level of a factor."""

    ahead: str
    behind: str
    factor: str
    here: str
    there: str
    """The level at which the order is the other way round."""


def cells(analysis: Analysis) -> tuple[list[str], dict[tuple[str, ...], Summary]]:
    """The factors, data and size among them where they vary; and the rows by their levels."""
    design = analysis.design
    datasets = {condition.dataset for condition in analysis.summaries}
    sizes = {condition.n for condition in analysis.summaries}
    names = [*design.factors, *([DATA] * (len(datasets) > 1)), *([SIZE] * (len(sizes) > 1))]
    found = {}
    for condition, rows in analysis.summaries.items():
        place = (*([condition.dataset] * (len(datasets) > 1)), *([condition.size_text] * (len(sizes) > 1)))
        for row in rows:
            found[(*row.cell.contender.values, *place)] = row
    return names, found


def marginal(analysis: Analysis) -> dict[str, dict[str, float]]:
    """The mean score of each level of the first factor at each level of the others, and over all (`""`).

    Only what every level of the first factor was run with counts, so that levels are compared on the same.
    """
    names, rows = cells(analysis)
    if len(names) < 2 or not analysis.design.factors:
        return {}
    levels = list(dict.fromkeys(key[0] for key in rows))
    shared = [
        rest for rest in dict.fromkeys(key[1:] for key in rows) if all((level, *rest) in rows for level in levels)
    ]
    if not shared:
        return {}
    found: dict[str, dict[str, float]] = {}
    for level in levels:
        means = {" · ".join(rest): rows[(level, *rest)].interval.mean for rest in shared}
        found[level] = {"": fmean(means.values()), **means}
    return found


def interactions(analysis: Analysis) -> list[Interaction]:
    """For each two factors whose levels were run with one another: whether one's effect depends on the other."""
    names, rows = cells(analysis)
    if not analysis.design.factors:
        return []
    grids = {(i, j): _grid(rows, i, j) for i, j in combinations(range(len(names)), 2)}
    known = {(names[i], names[j]): grid for (i, j), grid in grids.items() if grid is not None}
    return [
        Interaction(*pair, min(1.0, len(known) * interaction_p(grid)), grid.shape[2]) for pair, grid in known.items()
    ]


def _grid(rows: Mapping[tuple[str, ...], Summary], i: int, j: int) -> np.ndarray | None:
    """Scores `(levels of i, levels of j, replicates)`, averaged over the other factors; `None` where any is missing."""
    first, second = (list(dict.fromkeys(key[place] for key in rows)) for place in (i, j))
    rest = list(dict.fromkeys(tuple(v for k, v in enumerate(key) if k not in (i, j)) for key in rows))
    if len(first) < 2 or len(second) < 2 or len(rows) != len(first) * len(second) * len(rest):
        return None
    shared = sorted(set.intersection(*(set(row.scores) for row in rows.values())))
    if len(shared) < 2:
        return None
    grid = np.zeros((len(first), len(second), len(shared)))
    for key, row in rows.items():
        grid[first.index(key[i]), second.index(key[j])] += [row.scores[n] / len(rest) for n in shared]
    return grid


def interaction_p(grid: np.ndarray) -> float:
    """p of no interaction in scores `(A, B, R)`: of all flips of replicates' signs, the share with as large residuals.

    What is left of each replicate's table after its rows' and columns' means flips as a whole.
    """
    rest = grid - grid.mean(0, keepdims=True) - grid.mean(1, keepdims=True) + grid.mean((0, 1), keepdims=True)
    flat = rest.reshape(-1, grid.shape[2])
    sums = ((sign_vectors(grid.shape[2]) @ flat.T) ** 2).sum(1)
    return float(np.mean(sums >= sums[0] - 1e-9 * sums.max()))


def turns(analysis: Analysis) -> list[Turn]:
    """Levels of the first factor whose order is shown to turn with another factor, all else alike."""
    names, rows = cells(analysis)
    if len(names) < 2 or not analysis.design.factors:
        return []
    shown: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for rest in dict.fromkeys(key[1:] for key in rows):
        met = {key[0]: row.cell for key, row in rows.items() if key[1:] == rest}
        for one, other in combinations(met, 2):
            ahead = _ahead(analysis, met[one].condition, met[one].contender, met[other].contender)
            if ahead:
                shown.setdefault((one, other) if ahead > 0 else (other, one), []).append(rest)
    found = []
    for (one, other), places in shown.items():
        for here, there in ((a, b) for a in places for b in shown.get((other, one), [])):
            differing = [k for k in range(len(here)) if here[k] != there[k]]
            if len(differing) == 1 and one < other:
                k = differing[0]
                found.append(Turn(one, other, names[1 + k], here[k], there[k]))
    return found


def _ahead(analysis: Analysis, condition: Condition, one: Contender, other: Contender) -> int:
    d = analysis.between(condition, one, other)
    return d.seen_from(one) if d is not None and d.clear else 0
