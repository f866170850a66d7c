"""Many paired comparisons at once: Westfall and Young's step-down over joint sign flips.

Under the null hypothesis that two contenders do alike, which of them did better at a replicate (a seed, a fold) is a
coin's toss. All comparisons of a replicate are tossed together, as they share its split and its luck, so that what is
common to them is kept and need not be paid for: with 6 seeds and 3 contenders a clear difference can be shown at 5%,
which Holm's adjustment of the same tests can never do (3 × 0.031). Source: Westfall and Young 1993, algorithm 2.8; for
sign flips, Romano and Wolf 2005.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from headstart.seeding import stream

EXACT_UP_TO = 14
"""Replicates up to which all sign vectors are counted (2^13 up to the sign of all); above, `DRAWS` are drawn."""
DRAWS = 8192
FEWEST_DRAWS = 1000
STEADY = 0.25
_SLACK = 1e-9
_CELLS = 2_000_000
"""Entries of a table of statistics that are held at once."""
_MOST_CELLS = 100_000_000
"""Entries that are counted in all; where there are more comparisons than these allow, fewer sign vectors are drawn."""


def step_down(differences: np.ndarray | Sequence[Sequence[float]], precision: float = 0.0) -> np.ndarray:
    """p-values `(M,)` of M paired comparisons, adjusted so that the chance of any false one is at most the level.

    Args:
        differences: `(M, R)`, a row to each comparison, a column to each replicate; nan where the pair is missing.
        precision: How far a difference may be off. Sums that differ by less than that can make are ties: scores that
            were kept in single precision would otherwise break ties of equal counts.

    Returns:
        For each comparison the two-sided p, exact up to `EXACT_UP_TO` replicates; nan for rows with fewer than two
        pairs, which are no part of the family.
    """
    d = np.asarray(differences, dtype=float)
    p = np.full(len(d), np.nan)
    tested = np.isfinite(d).sum(1) >= 2
    if tested.any():
        p[tested] = _adjusted(d[tested], precision)
    return p


def smallest_p(num_replicates: int) -> float:
    """The smallest p that so many replicates can give, whatever the number of comparisons: all signs alike."""
    return min(1.0, 2.0 ** (1 - num_replicates))


@lru_cache(maxsize=8)
def sign_vectors(num_replicates: int, most: int = DRAWS) -> np.ndarray:
    """Sign vectors `(S, R)`, the observed one first; each stands for itself and its negative."""
    if num_replicates <= EXACT_UP_TO and 2 ** (num_replicates - 1) <= most:
        codes = np.arange(2 ** (num_replicates - 1))[:, None] >> np.arange(num_replicates)[None, :]
        return 1.0 - 2.0 * (codes & 1)
    signs = 1.0 - 2.0 * stream(0, "step-down", num_replicates).integers(0, 2, (most, num_replicates))
    signs[0] = 1.0  # the observed one counts, or p could be 0
    return signs


def _adjusted(d: np.ndarray, precision: float) -> np.ndarray:
    present = np.isfinite(d)
    filled, counts = np.where(present, d, 0.0), present.sum(1)
    scale = _scale(filled, counts)
    unit = np.divide(filled, scale[:, None], out=np.zeros_like(filled), where=scale[:, None] > 0)
    slack = np.divide(counts * precision, scale, out=np.zeros(len(d)), where=scale > 0) + _SLACK
    observed = np.abs(unit.sum(1))
    order = np.argsort(-observed, kind="stable")
    least = (observed - slack)[order]
    exceeding, total = np.zeros(len(d)), 0
    signs = sign_vectors(d.shape[1], int(np.clip(_MOST_CELLS // len(d), FEWEST_DRAWS, DRAWS)))
    for block in np.array_split(signs, -(-len(signs) * len(d) // _CELLS)):
        sizes = np.abs(block @ unit[order].T)
        highest = np.maximum.accumulate(sizes[:, ::-1], axis=1)[:, ::-1]  # over this and all smaller ones
        exceeding += (highest >= least).sum(0)
        total += len(block)
    p = np.empty(len(d))
    p[order] = np.maximum.accumulate(exceeding / total)
    return p


def _scale(filled: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """What sums are divided by, `(M,)`: √(n (mean square + `STEADY` × the lower quartile of all mean squares)).

    No flip of signs changes it. With the first term alone, the statistic would order flips as |t| does; but of few
    replicates some have differences of nearly one size by luck, whose |t| has no bound, and which would hide what is
    clear. The second, as in Tusher et al. 2001, keeps them small; for one comparison it changes nothing.
    """
    squares = (filled**2).sum(1) / counts
    steady = STEADY * float(np.quantile(squares, 0.25, method="lower"))
    return np.sqrt(counts * (squares + steady))
