"""What a search varies: settings with their ranges, as Hydra's grammar writes them."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, QuotedString, RangeSweep, Sweep

from headstart.config import schema
from headstart.errors import InputError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

GROUPS = frozenset({"strategy", "unfreeze", "augmentation", "optimizer", "scheduler", "head", "task", "backbone"})
"""Groups whose settings can be searched."""
CHOOSABLE = frozenset({"unfreeze", "augmentation", "optimizer", "scheduler", "head"})
"""Those of which the config itself can be searched; what else there is to choose makes cells of a comparison."""
TRAINER = frozenset({"trainer.batch_size", "trainer.accumulate_grad_batches", "trainer.gradient_clip_val"})
FIXED = frozenset({"backbone.model", "backbone.weights", "backbone.weights_key", "task.monitor"})
DIGITS = 4
"""Significant digits of a number that is drawn: a person can type it."""
TAGS = frozenset({"log", "search"})


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
        scale = math.log if self.log else float
        low, high, at = scale(self.low), scale(self.high), scale(value)
        return min(at - low, high - at) <= 0.05 * (high - low)

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


def variable(override: Override) -> Variable | None:
    """What an override lets a search vary; `None` if it gives one value, or lists several to compare.

    A range or an interval is searched, and so is a choice that is tagged: `tag(search,choice(a,b))`.

    Raises:
        InputError: for an empty or inverted range, a log scale that reaches 0, or a setting that cannot be searched.
    """
    sweep = override.value()
    if not isinstance(sweep, Sweep):
        return None
    is_range = isinstance(sweep, (RangeSweep, IntervalSweep))
    if not is_range and not sweep.tags:
        return None
    key, line = override.key_or_group, str(override.input_line)
    _check_key(key, line)
    unknown = sorted(map(str, sweep.tags - TAGS))
    if unknown:
        raise InputError(f"{line} has a tag that means nothing here: {', '.join(unknown)}. Tags are log and search.")
    log = "log" in sweep.tags
    if isinstance(sweep, ChoiceSweep):
        values = tuple(_plain(value) for value in sweep.list)
        if log or len(set(map(repr, values))) < 2:
            raise InputError(f"{line} must give at least two values, without tag log, such as tag(search,choice(1,2)).")
        return Variable(key, values=values)
    if key in schema.GROUPS:
        raise InputError(f"{line} must list configs of the group: {key}=tag(search,choice(a,b)).")
    if isinstance(sweep, IntervalSweep):
        low, high = sweep.start, sweep.end
        whole = isinstance(low, int) and isinstance(high, int)
        assert low is not None
        assert high is not None
        found = Variable(key, low, high, None, log, whole)
    else:
        assert isinstance(sweep, RangeSweep)
        found = _of_range(key, line, sweep, log)
    _check_range(found, line)
    return found


def _of_range(key: str, line: str, sweep: RangeSweep, log: bool) -> Variable:
    """Hydra's ranges end before their stop."""
    start, stop, step = sweep.start, sweep.stop, sweep.step
    assert start is not None
    assert stop is not None
    if log:
        raise InputError(f"{line} has steps, and so no log scale: write tag(log,interval(LOW,HIGH)).")
    if step <= 0:
        raise InputError(f"{line} must go up, with a step above 0, but its step is {step}.")
    number = math.ceil((stop - start) / step - 1e-9)
    if number < 2:
        raise InputError(f"{line} must have at least two values, and end above its start, but has {max(number, 0)}.")
    whole = all(isinstance(one, int) for one in (start, stop, step))
    return Variable(key, start, start + (number - 1) * step, step, False, whole)


def _check_range(found: Variable, line: str) -> None:
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        raise InputError(f"{line} must have finite ends.")
    if found.low >= found.high:
        raise InputError(f"{line} must have its lower end first, and the other above it: it holds no range.")
    if found.log and found.low <= 0:
        raise InputError(f"{line} must begin above 0, as it is on a log scale, but begins at {found.low:g}.")


def _check_key(key: str, line: str) -> None:
    """Raise `InputError` for what cannot vary within a search."""
    group, _, rest = key.lstrip("+").partition(".")
    is_setting = group in GROUPS and rest != "" and rest.rpartition(".")[2] != "_target_"
    can = key in CHOOSABLE or key in TRAINER or is_setting
    if can and key not in FIXED:
        return
    why = "a search varies settings of parts that train"
    if key == "seed":
        why = "search.seeds and search.replicates say on how many seeds a setting is measured"
    elif group in ("data", "split", "backbone", "strategy", "task"):
        why = "each of its values is a comparison of its own: list them, as in a,b"
    elif key in ("trainer.max_epochs", "trainer.max_steps"):
        why = "the length of training is what a trial costs: list the lengths to compare them"
    raise InputError(
        f"{line} cannot be searched: {why}. Ranges can be given for settings of {', '.join(sorted(GROUPS))}, and for "
        f"{', '.join(sorted(TRAINER))}."
    )


def _plain(value: Any) -> Any:
    return value.text if isinstance(value, QuotedString) else value
