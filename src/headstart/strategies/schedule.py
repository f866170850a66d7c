"""Learning-rate schedules as pure functions of progress; the plan's multipliers come on top.

A schedule gives the share of `optimizer.lr` at an optimizer step. It holds no state, so thawing a group, resuming a
run or training many probes together cannot bring it out of step.
"""

import math
from abc import ABC, abstractmethod
from typing import Annotated

from annotated_types import Ge, Le

from headstart.config.ranges import Fraction, ProperFraction

Divisor = Annotated[float, Ge(1), Le(1e9)]
"""A number from 1: what the base rate is divided by."""


class Schedule(ABC):
    """Share of the base rate, over the course of training."""

    @abstractmethod
    def factor(self, step: int, total_steps: int) -> float:
        """Share of the base rate, 0 to 1, at optimizer step `step` of `total_steps`, counted from 0."""


class Constant(Schedule):
    """The base rate throughout, after an optional linear warm-up over the share `warmup` of all steps."""

    def __init__(self, warmup: ProperFraction = 0.0) -> None:
        self.warmup = warmup

    def factor(self, step: int, total_steps: int) -> float:
        warmup_steps = round(self.warmup * total_steps)
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return self._after_warmup(min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps)))

    def _after_warmup(self, progress: float) -> float:
        return 1.0


class Cosine(Constant):
    """Half a cosine from the base rate down to the share `final` (Loshchilov & Hutter 2017), after a warm-up."""

    def __init__(self, warmup: ProperFraction = 0.05, final: Fraction = 0.0) -> None:
        super().__init__(warmup)
        self.final = final

    def _after_warmup(self, progress: float) -> float:
        return _cosine(1.0, self.final, progress)


class OneCycle(Schedule):
    """Up along a cosine for the share `rise`, then down to almost nothing (Smith & Topin 2018), rates only.

    Starts at 1 / `start_divisor` of the base rate and ends at 1 / (`start_divisor` × `end_divisor`), as torch's
    `OneCycleLR` does with its defaults; momentum is left alone.
    """

    def __init__(self, rise: Fraction = 0.3, start_divisor: Divisor = 25.0, end_divisor: Divisor = 10_000.0) -> None:
        self.rise, self.start, self.end = rise, 1 / start_divisor, 1 / (start_divisor * end_divisor)

    def factor(self, step: int, total_steps: int) -> float:
        peak, last = self.rise * total_steps - 1, total_steps - 1
        if step <= peak and peak > 0:
            return _cosine(self.start, 1.0, step / peak)
        return _cosine(1.0, self.end, (min(step, last) - max(peak, 0.0)) / max(last - max(peak, 0.0), 1.0))


class SlantedTriangular(Schedule):
    """Up in a line for the share `cut`, then down in a line to 1 / `ratio` (Howard & Ruder 2018, eq. 3)."""

    def __init__(self, cut: Fraction = 0.1, ratio: Divisor = 32.0) -> None:
        self.cut, self.ratio = cut, ratio

    def factor(self, step: int, total_steps: int) -> float:
        cut = math.floor(total_steps * self.cut)
        share = step / cut if step < cut else 1 - (step - cut) / max(1, total_steps - cut)
        return (1 + max(share, 0.0) * (self.ratio - 1)) / self.ratio


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0)))
