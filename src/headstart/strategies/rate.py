"""The learning rate of every row at every step is computed here, and nowhere else: what is drawn is what is trained."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from headstart.strategies.plan import HEAD, KINDS, Phase, Plan, Row

Factor = Callable[[int, int], float]
"""Share of the base rate at a step of so many: what `Schedule.factor` is."""


class PhaseRates:
    """Rates while one phase of a plan lasts: base × schedule × row and phase × warm-up (× what was measured).

    Args:
        plan: says how the row's rate relates to the base rate in the phase, and over which epochs the schedule runs.
        factor: the schedule.
        phase: the phase that training is in.
        steps_per_epoch: optimizer steps of an epoch.
        total_steps: optimizer steps after which training ends, if nothing ends it before.
        begun: the optimizer step at which each phase began, up to this one.
        shares: by group, what its rates are multiplied by besides; 1 where nothing is said.
    """

    def __init__(
        self,
        plan: Plan,
        factor: Factor,
        phase: int,
        steps_per_epoch: int,
        total_steps: int,
        begun: Sequence[int],
        shares: Mapping[str, float] | None = None,
    ) -> None:
        self.shares = shares or {}
        self.plan, self.factor, self.phase = plan, factor, phase
        self.steps_per_epoch, self.begun = steps_per_epoch, begun
        self.start, end = (epoch * steps_per_epoch for epoch in plan.span(phase))
        self.end = min(end, total_steps)
        self._last: tuple[int, tuple[float, list[float]]] | None = None

    def at(self, step: int, row: Row, base: float = 1.0) -> float:
        """The rate of a row for optimizer step `step` of training, counted from 0; 0 where it is frozen."""
        share, multiplier, warmup, measured = self._factors(step, row)
        return base * share * multiplier * warmup * measured

    def across(self, steps: Sequence[int], row: Row, bases: Sequence[float]) -> np.ndarray:
        """`at` for several steps and base rates at once, `(S, K)`."""
        rates = np.tile(np.array(bases, dtype=float), (len(steps), 1))
        for column in np.array([self._factors(step, row) for step in steps]).reshape(-1, 4).T:
            rates *= column[:, None]
        return rates

    def _factors(self, step: int, row: Row) -> tuple[float, float, float, float]:
        share, epochs_in = self._moment(step)
        warmup = self.plan.warmup(self.phase, row[0], epochs_in)
        return share, self.plan.phases[self.phase].multiplier(*row), warmup, self.shares.get(row[0], 1.0)

    def _moment(self, step: int) -> tuple[float, list[float]]:
        """What all rows have in common at a step: the schedule's share, and epochs since each phase began."""
        if self._last is None or self._last[0] != step:
            share = self.factor(step - self.start, self.end - self.start)
            self._last = step, (share, [(step + 1 - begun) / self.steps_per_epoch for begun in self.begun])
        return self._last[1]


def foreseen(plan: Plan, factor: Factor, epoch: int, steps_per_epoch: int, total_steps: int) -> PhaseRates:
    """Rates in `epoch` if each phase begins as early as it may."""
    begun = plan.earliest
    phase = max(index for index, start in enumerate(begun) if start <= epoch)
    starts = [start * steps_per_epoch for start in begun]
    return PhaseRates(plan, factor, phase, steps_per_epoch, total_steps, starts)


def head_alone(max_epochs: int) -> Plan:
    """The plan of a head that trains on features, at the base rate from the start to the end."""
    return Plan((HEAD,), (Phase("head", 0, {HEAD: dict.fromkeys(KINDS, 1.0)}),), max_epochs)
