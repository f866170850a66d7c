"""In which order options are advised: what their features foretell, shrunk towards rules of thumb as far as it is weak.

`Order` is what recorded comparisons are judged by, and what `choose` goes by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2

import numpy as np

from headstart.advice.intervals import over_folds, told_apart

FORETOLD, WEIGHED, LARGEST, LARGEST_OF_EQUALS = "foretold", "weighed", "largest", "largest of equals"
"""Which backbone comes first: the best foretold; the best by features as far as they can be trusted, and by size beyond
that; the one with most parameters; that among those which features do not tell from the best."""
FEWEST_DOUBLINGS = 0.1
"""Shrinks the slope by size, in squared doublings of parameters: backbones of one size say nothing of it."""
STUDENT = 2.776
"""The 97.5% point of Student's t with four degrees, which half-widths over five folds are multiples of."""
AHEAD = 100.0
"""Beyond all scores."""
TESTED = 1 / 4


@dataclass(frozen=True)
class Gain:
    """What a strategy may score beyond an exact probe, in the measure by which features are rated."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Looked:
    """A backbone, as far as it is known before anything is trained."""

    name: str
    num_parameters: float
    foretold: float
    """The score of its probe."""
    by_fold: np.ndarray
    """`(K,)`, the probe's, on folds that all backbones have."""


@dataclass(frozen=True)
class Prior:
    """How far backbones of other data sets were apart, by nothing but their size."""

    slope: float
    """Of the score, for each doubling of parameters."""
    spread: float
    """Of backbones about that line."""
    widest: float
    """Doublings between the smallest and the largest that were recorded: nothing is said of more."""
    num: int
    """Comparisons of several backbones that it comes from."""

    def ahead(self, looked: Sequence[Looked]) -> dict[str, float]:
        """How far each backbone is taken to be above their mean: its features' share grows with their certainty.

        The mean of a normal posterior: `prior + spread² / (spread² + error²) · (foretold - prior)`, the error being
        that of the difference over folds (Nadeau and Bengio).
        """
        if len(looked) < 2:
            return {one.name: 0.0 for one in looked}
        expected = self.slope * centred([one.num_parameters for one in looked], self.widest)
        folds = np.array([one.by_fold for one in looked])
        above, found = folds - folds.mean(0), {}
        for place, one in enumerate(looked):
            told = over_folds(above[place], TESTED)
            error = told.half_width / STUDENT
            share = self.spread**2 / (self.spread**2 + error**2 or 1.0)
            found[one.name] = float(expected[place] + share * (told.mean - expected[place]))
        return found


@dataclass(frozen=True)
class Order:
    """A way to put options in order."""

    first: str | None = None
    """The strategy that comes first wherever it is foretold to gain anything; `None`: the one foretold to gain most."""
    backbones: str = FORETOLD
    prior: Prior | None = None

    def values(self, looked: Sequence[Looked], gains: Mapping[tuple[str, str], Gain]) -> dict[tuple[str, str], float]:
        """Of each backbone and strategy, the highest coming first."""
        if not gains:
            return {}
        base = {one.name: one.foretold for one in looked}
        if self.backbones == WEIGHED and self.prior is not None:
            mean = float(np.mean(list(base.values())))
            base = {name: mean + ahead for name, ahead in self.prior.ahead(looked).items()}
        places = self._places(looked)
        return {
            key: base[key[0]] + gain.mean + AHEAD * (places[key[0]] + (key[1] == self.first and gain.mean > 0))
            for key, gain in gains.items()
        }

    def _places(self, looked: Sequence[Looked]) -> dict[str, float]:
        """Below one, by size, where size decides; what is told from the best is behind all others."""
        if self.backbones not in (LARGEST, LARGEST_OF_EQUALS):
            return {one.name: 0.0 for one in looked}
        behind = set(apart_from_best(looked)) if self.backbones == LARGEST_OF_EQUALS else set()
        ordered = sorted(looked, key=lambda one: (one.name not in behind, one.num_parameters))
        return {one.name: place / len(ordered) for place, one in enumerate(ordered)}


def apart_from_best(looked: Sequence[Looked]) -> list[str]:
    """Backbones whose features are told to be worse than the best one's, by paired differences over folds."""
    best = max(looked, key=lambda one: float(one.by_fold.mean()))
    return [one.name for one in looked if told_apart(best.by_fold, one.by_fold, TESTED).excludes_zero]


def centred(parameters: Sequence[float], widest: float) -> np.ndarray:
    """Doublings of parameters from their mean `(B,)`, no two being further apart than `widest`."""
    doublings = np.array([log2(max(1.0, one)) for one in parameters])
    doublings -= doublings.mean()
    return doublings * min(1.0, widest / (float(np.ptp(doublings)) or 1.0))


def fitted(comparisons: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Prior:
    """From each comparison's parameters and scores by backbone; those of one backbone say nothing."""
    several = [(centred(sizes, np.inf), np.array(scores)) for sizes, scores in comparisons if len(sizes) > 1]
    if not several:
        return Prior(0.0, 0.0, 0.0, 0)
    x = np.concatenate([sizes for sizes, _ in several])
    y = np.concatenate([scores - scores.mean() for _, scores in several])
    slope = float(x @ y / (x @ x + FEWEST_DOUBLINGS))
    freedom = max(1, sum(len(sizes) - 1 for sizes, _ in several))
    spread = float(np.sqrt(((y - slope * x) ** 2).sum() / freedom))
    return Prior(slope, spread, max(float(np.ptp(sizes)) for sizes, _ in several), len(several))
