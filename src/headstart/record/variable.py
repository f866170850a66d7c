"""One setting that a search varies: its range, what lies in it, and how Optuna knows it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

CHOOSABLE = frozenset({"unfreeze", "augmentation", "optimizer", "scheduler", "head"})
"""Groups of which the config itself can be searched; what else there is to choose makes cells of a comparison."""
DIGITS = 4
"""Significant digits of a number that is drawn: a person can type it."""
NEAR = 0.05
"""Share of a range at its ends in which the best setting is said to lie at a bound."""


@dataclass(frozen=True)
class Variable:
    """One setting: a number from `low` to `high`, both included, or one of `values`."""

    key: str
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    """Between two values; of whole numbers it is 1 where nothing is said."""
    log: bool = False
    whole: bool = False
    values: tuple[Any, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        found = asdict(self)
        return {**found, "values": None if self.values is None else list(self.values)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Variable":
        values = value.get("values")
        return cls(**{**value, "values": None if values is None else tuple(values)})

    @property
    def is_group(self) -> bool:
        """Whether its values are configs of a group."""
        return self.key in CHOOSABLE

    @property
    def num_values(self) -> float:
        """How many there are; infinite where every number between is one."""
        if self.values is not None:
            return len(self.values)
        step = self.step or (1 if self.whole else 0)
        return math.inf if not step else math.floor((self.high - self.low) / step + 1e-9) + 1

    def at(self, share: float) -> Any:
        """The value at a share of the way, 0 to below 1; shares spread evenly give values that do."""
        if math.isfinite(number := self.num_values) and not self.log:
            return self.nth(min(int(share * number), int(number) - 1))
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        if self.log:
            return self._rounded(math.exp(math.log(low) + share * (math.log(high) - math.log(low))))
        return self._rounded(low + share * (high - low))

    def share(self, value: float) -> float:
        """How far along the range a number lies, from 0 to 1, on its scale."""
        scale = math.log if self.log else float
        return (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))

    def nth(self, place: int) -> Any:
        """The value at a place, from 0, where there are so many."""
        if self.values is not None:
            return self.values[place]
        return self._rounded(self.low + place * (self.step or 1))

    def rounded(self, value: Any) -> Any:
        """A value that was drawn, as short as it can be told."""
        return value if self.values is not None else self._rounded(value)

    def _rounded(self, value: float) -> float:
        if self.whole:
            return int(min(max(round(value), self.low), self.high))
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def holds(self, value: Any) -> bool:
        """Whether a setting's value is one of these."""
        if self.values is not None:
            return any(value == one and type(value) is type(one) for one in self.values)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return self.low <= value <= self.high and (not self.whole or value == int(value))

    def edges(self) -> tuple[Any, ...]:
        """Values of which all others are taken to be possible if these are."""
        if self.values is not None:
            return self.values
        return (self._rounded(self.low), self._rounded(self.high))

    def is_at_bound(self, value: Any) -> bool:
        """Whether a value lies within a twentieth of the range from one of its ends: beyond might be better."""
        if self.values is not None or self.num_values < 5 or not isinstance(value, (int, float)):
            return False
        return min(self.share(value), 1 - self.share(value)) <= NEAR

    def distribution(self) -> "BaseDistribution":
        """As Optuna knows it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.values is not None:
            return CategoricalDistribution(self.values)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), self.log, 1 if self.log else int(self.step or 1))
        return FloatDistribution(self.low, self.high, self.log, self.step)

    def __str__(self) -> str:
        if self.values is not None:
            return f"{self.key}: {', '.join(map(str, self.values))}"
        kind = ", whole numbers" if self.whole else ""
        step = f", in steps of {self.step:g}" if self.step and self.step != 1 else ""
        return f"{self.key}: {self.low:g} to {self.high:g}{kind}{step}{', on a log scale' if self.log else ''}"
