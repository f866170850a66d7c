"""What recorded comparisons say of strategies: how far each was from an exact probe on the same features."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log2
from pathlib import Path
from typing import Any

import numpy as np

from headstart.advice.order import Gain, Order, Prior

FILE = Path(__file__).parent / "rule.json"
PROBE = "probe"
"""The exact linear probe, `strategy=feature_extraction head.solver=lbfgs`, by which all others are measured."""
USUAL = 0.3
"""What most recorded probes leave to be gained, or more."""
LEAST = 0.02
"""What any probe is taken to leave to be gained."""
SHRINKAGE = 1.0
"""Of the coefficients, in comparisons: so few say little of how a gain depends on anything."""


@dataclass(frozen=True)
class Fit:
    """A strategy's gains as a straight line in what is known beforehand, and how far they scattered about it."""

    weights: tuple[float, ...]
    spread: float
    num: int
    """Comparisons that it comes from."""

    def at(self, known: np.ndarray) -> Gain:
        """With the interval that a new comparison's gain lies in, at 90%."""
        from scipy.special import stdtrit

        mean = float(known @ np.array(self.weights))
        half = float(stdtrit(max(1, self.num - 1), 0.95)) * self.spread * (1 + 1 / max(1, self.num)) ** 0.5
        return Gain(mean, mean - half, mean + half)


@dataclass(frozen=True)
class Rule:
    """Fits by strategy, and how often advice by them was right where it could be told."""

    fits: Mapping[str, Fit]
    order: Order
    """In which options are advised, as that lost least on recorded comparisons."""
    record: Mapping[str, Any]
    """Of advice that was made without the data set it was judged on: see `scripts/judge_advice.py`."""

    def gain(
        self, strategy: str, per_class: float, probe: float, modality: str, batch_norm: bool = True
    ) -> Gain | None:
        """`None` for a strategy of which no comparison is recorded."""
        if strategy == PROBE:
            return Gain(0.0, 0.0, 0.0)
        fit = self.fits.get(strategy)
        if fit is None:
            return None
        found, share = fit.at(known(per_class, probe, modality, batch_norm)), room(probe)
        return Gain(share * found.mean, share * found.low, share * found.high)


def known(per_class: float, probe: float, modality: str, batch_norm: bool) -> np.ndarray:
    """What a gain is taken to depend on: nothing, the number of training examples of a class (in doublings of 20,
    between 5 and 53: what lies beyond was not recorded), how much is left to be gained, whether the data are texts, or
    sounds, in place of pictures, and whether the backbone has no batch norm: those recorded are transformers."""
    doublings = log2(max(1.0, per_class) / 20)
    left = min(1.0, max(0.0, 1 - probe)) - USUAL
    kinds = modality == "text", modality == "audio", not batch_norm
    return np.array([1.0, min(1.4, max(-2.0, doublings)), left, *map(float, kinds)])


def room(probe: float) -> float:
    """What a gain is a share of: where a probe leaves less than `USUAL` to be gained, gains are in proportion to it.

    Without this, a gain of ten points over probes that score half would be foretold of one that scores 95%.
    """
    return min(1.0, max(LEAST, 1 - probe) / USUAL)


@dataclass(frozen=True)
class Recorded:
    """What a strategy gained over an exact probe in one comparison, and what was known of that beforehand."""

    per_class: float
    probe: float
    modality: str
    gain: float
    batch_norm: bool = True


def fitted(points: Sequence[Recorded], shrinkage: float = SHRINKAGE) -> Fit:
    """A line through recorded gains, in `room`, its slopes shrunk towards none."""
    matrix = np.array([known(one.per_class, one.probe, one.modality, one.batch_norm) for one in points])
    gains = np.array([one.gain / room(one.probe) for one in points])
    penalty = np.diag([0.0, *[shrinkage] * (matrix.shape[1] - 1)])
    weights = np.linalg.solve(matrix.T @ matrix + penalty, matrix.T @ gains)
    spread = float(np.std(gains - matrix @ weights, ddof=1)) if len(points) > 1 else float("nan")
    return Fit(tuple(weights.tolist()), spread, len(points))


def read(path: Path = FILE) -> Rule:
    """The rule that comes with the program."""
    told = json.loads(path.read_text("utf-8"))
    fits = {name: Fit(tuple(one["weights"]), one["spread"], one["num"]) for name, one in told["fits"].items()}
    assert all(isfinite(fit.spread) for fit in fits.values()), "a spread takes two comparisons"
    order = Order(told["order"]["first"], told["order"]["backbones"], Prior(**told["order"]["prior"]))
    return Rule(fits, order, told["record"])
