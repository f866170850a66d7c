"""When depth groups thaw: each schedule turns the groups a strategy may train into a list of phases."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from itertools import pairwise
from typing import Any, Literal

from headstart.config.ranges import Count, Delta, Multiplier, NonNegative
from headstart.errors import InputError, collect
from headstart.names import plural
from headstart.strategies.plan import HEAD, Plan, Plateau


@dataclass(frozen=True)
class Window:
    """A phase before the strategy's rates are known: which groups are thawed, and how they are scaled."""

    name: str
    start: int | None
    thawed: tuple[str, ...]
    scale: Mapping[str, float] = field(default_factory=dict)
    """Multipliers by group (the head's among them); 1 where a group is not named."""
    until: Plateau | None = None


class Unfreeze(ABC):
    """A schedule of thawing. The head trains in every phase.

    A group that thaws after the start climbs to its rate over `warmup_epochs`. With `restart` the rate schedule runs
    from its beginning to its end in every phase, as when each phase is a training of its own.
    """

    def __init__(self, warmup_epochs: NonNegative = 0.0, restart: bool = False) -> None:
        self.warmup_epochs, self.restart = warmup_epochs, restart

    @abstractmethod
    def windows(self, groups: Sequence[str], max_epochs: int) -> list[Window]:
        """Phases for `groups`: those of the backbone that the strategy may train, from the input to the output.

        Raises:
            InputError: if the phases cannot be carried out.
        """

    def remark(self, plan: Plan) -> str:
        """What was chosen where the settings leave it open; empty if they do not."""
        return ""


class Never(Unfreeze):
    """The backbone stays frozen."""

    def __init__(self) -> None:
        super().__init__()

    def windows(self, groups: Sequence[str], max_epochs: int) -> list[Window]:
        return [Window("head", 0, ())]


class AtStart(Unfreeze):
    """All groups train from the first step."""

    def __init__(self) -> None:
        super().__init__()

    def windows(self, groups: Sequence[str], max_epochs: int) -> list[Window]:
        return [Window("all", 0, tuple(groups))]


class Gradual(Unfreeze):
    """Head first; every `every` epochs the next `num_groups` groups, from the head down (Howard & Ruder 2018).

    With `every="auto"` the thaws are spread evenly over the epochs there are, so that every phase has its share;
    where there are fewer epochs than groups, more than `num_groups` thaw at a time.
    """

    def __init__(
        self,
        every: Count | Literal["auto"] = "auto",
        num_groups: Count = 1,
        warmup_epochs: NonNegative = 0.0,
        restart: bool = False,
    ) -> None:
        super().__init__(warmup_epochs, restart)
        self.every, self.num_groups = every, num_groups

    def windows(self, groups: Sequence[str], max_epochs: int) -> list[Window]:
        if self.every == "auto":
            return self._spread(groups, max_epochs)
        thawed = _from_the_head_down(groups, self.num_groups)
        last = (len(thawed) - 1) * self.every
        if last >= max_epochs:
            num_thaws = (max_epochs - 1) // self.every
            fewer = f", or unfreeze.num_groups={-(-len(groups) // num_thaws)}" if num_thaws else ""
            raise InputError(
                f"Every group must thaw before training ends, but with unfreeze.every={self.every} and "
                f"unfreeze.num_groups={self.num_groups} the last of {plural(len(groups), 'group')} "
                f"({', '.join(groups)}) would thaw at epoch {last} of trainer.max_epochs={max_epochs} (epochs "
                f"count from 0). Set trainer.max_epochs={last + 1} or more{fewer}, or have fewer groups "
                "(strategy.granularity=stages, if "
                "they are blocks)."
            )
        return [Window(_name(t), i * self.every, t) for i, t in enumerate(thawed)]

    def _spread(self, groups: Sequence[str], max_epochs: int) -> list[Window]:
        if max_epochs == 1 and groups:
            raise InputError(
                "Gradual unfreezing trains the head alone at first, so that trainer.max_epochs must be 2 or more, but "
                "it is 1. Raise it, or use unfreeze=at_start."
            )
        thawed = _from_the_head_down(groups, max(self.num_groups, -(-len(groups) // max(1, max_epochs - 1))))
        return [Window(_name(t), i * max_epochs // len(thawed), t) for i, t in enumerate(thawed)]

    def remark(self, plan: Plan) -> str:
        if self.every != "auto" or len(plan.phases) < 2:
            return ""
        found = [{group for group in plan.groups if phase.trains(group)} for phase in plan.phases]
        most = max(len(after - before) for before, after in pairwise(found))
        return (
            f"unfreeze.every=auto: {plural(len(plan.phases) - 1, 'thaw')}, of at most {plural(most, 'group')}, "
            f"{'is' if len(plan.phases) == 2 else 'are'} spread over {plan.max_epochs} epochs."
        )


class OnPlateau(Unfreeze):
    """The next `num_groups` groups thaw when `monitor` stops improving, like early stopping.

    With `restore_best` the weights of the phase's best epoch by `monitor` are put back before the next groups thaw.
    """

    def __init__(
        self,
        patience: Count = 1,
        min_delta: Delta = 0.0,
        num_groups: Count = 1,
        monitor: str = "val/loss",
        restore_best: bool = False,
        warmup_epochs: NonNegative = 0.0,
    ) -> None:
        super().__init__(warmup_epochs)
        self.plateau = Plateau(patience, min_delta, monitor, restore_best)
        self.num_groups = num_groups

    def windows(self, groups: Sequence[str], max_epochs: int) -> list[Window]:
        thawed = _from_the_head_down(groups, self.num_groups)
        last = len(thawed) - 1
        earliest = last * (self.plateau.patience + 1)  # a phase's first epoch is its best so far
        if earliest >= max_epochs:
            raise InputError(
                f"Every group must have a chance to thaw, but {last} plateaus of unfreeze.patience="
                f"{self.plateau.patience} do not fit into trainer.max_epochs={max_epochs}. Groups: "
                f"{', '.join(groups)}. Set trainer.max_epochs={earliest + 1} or more, or raise unfreeze.num_groups, or "
                f"have fewer groups (strategy.granularity=stages, if they are blocks)."
            )
        return [
            Window(_name(t), None if i else 0, t, until=self.plateau if i < last else None)
            for i, t in enumerate(thawed)
        ]


class HeadFirst(Unfreeze):
    """The head alone for `epochs` (None: half of all), then all groups with every rate, the head's too, × `rate`."""

    def __init__(
        self,
        epochs: Count | None = None,
        rate: Multiplier = 1.0,
        warmup_epochs: NonNegative = 0.0,
        restart: bool = False,
    ) -> None:
        super().__init__(warmup_epochs, restart)
        self.epochs, self.rate = epochs, rate

    def windows(self, groups: Sequence[str], max_epochs: int) -> list[Window]:
        epochs = self.epochs or max(1, max_epochs // 2)
        if epochs >= max_epochs:
            raise InputError(
                f"The groups ({', '.join(groups)}) must thaw before training ends, but unfreeze.epochs={epochs} "
                f"of head training leave none of trainer.max_epochs={max_epochs}. Set unfreeze.epochs below it, or "
                "raise trainer.max_epochs."
            )
        scale = dict.fromkeys([*groups, HEAD], self.rate)
        return [Window("head", 0, ()), Window("all", epochs, tuple(groups), scale)]


class Phases(Unfreeze):
    """An explicit list: `{start: EPOCH, groups: [PATTERN, …], rate: X, rates: {PATTERN: X, …}, name: …}`.

    `groups` are thawed in that phase, all others frozen; `rate` scales every row of the phase, `rates` those of
    matching groups (`head` among them) on top of it. Patterns are shell patterns over group names.
    """

    def __init__(self, phases: list[dict[str, Any]], warmup_epochs: NonNegative = 0.0, restart: bool = False) -> None:
        super().__init__(warmup_epochs, restart)
        self.phases = phases

    def windows(self, groups: Sequence[str], max_epochs: int) -> list[Window]:
        if not self.phases:
            raise InputError("unfreeze.phases must hold at least one phase, such as [{start: 0, groups: ['*']}].")
        windows: list[Window] = []
        collect(partial(self._append, windows, i, phase, groups) for i, phase in enumerate(self.phases))
        starts = [window.start or 0 for window in windows]
        if starts[0] != 0 or sorted(set(starts)) != starts or starts[-1] >= max_epochs:
            raise InputError(
                f"Phases must start at epoch 0, then in rising order, before trainer.max_epochs={max_epochs}, but "
                f"unfreeze.phases start at {starts}. Their groups: {', '.join(groups)}."
            )
        return windows

    def _append(self, windows: list[Window], index: int, phase: Mapping[str, Any], groups: Sequence[str]) -> None:
        key = f"unfreeze.phases[{index}]"
        if unknown := set(phase) - {"start", "groups", "rate", "rates", "name"}:
            raise InputError(f"{key} has unknown keys {sorted(unknown)}; it takes start, groups, rate, rates, name.")
        start, rate, rates = phase.get("start", 0), phase.get("rate", 1.0), phase.get("rates") or {}
        patterns, name = phase.get("groups", []), phase.get("name", "")
        if not isinstance(patterns, list) or not all(isinstance(one, str) for one in [*patterns, name]):
            raise InputError(
                f"{key}: groups must be a list of names or patterns and name a text, but got {dict(phase)}."
            )
        if not isinstance(rates, Mapping):
            raise InputError(f"{key}: rates must be rates by pattern, such as {{head: 0.1}}, but got {rates!r}.")
        numbers = [rate, *rates.values()]
        if not _is_epoch(start) or not all(map(_is_rate, numbers)):
            raise InputError(
                f"{key}: start must be an epoch from 0 and rates must be above 0 (1e-6 to 1000), but got {dict(phase)}."
            )
        thawed = match(patterns, groups, f"{key}.groups")
        scale = dict.fromkeys([*groups, HEAD], float(rate))
        for pattern, value in rates.items():
            for group in match([pattern], [*thawed, HEAD], f"{key}.rates"):
                scale[group] = rate * value
        windows.append(Window(str(phase.get("name", _name(thawed))), start, thawed, scale))


def match(patterns: Sequence[str], groups: Sequence[str], key: str) -> tuple[str, ...]:
    """The groups, in depth order, that any of the shell `patterns` names; one that names none is an error."""
    empty = [pattern for pattern in patterns if not any(fnmatchcase(group, pattern) for group in groups)]
    if empty:
        raise InputError(f"{key} must name groups of the model, but {empty} match none. Groups: {', '.join(groups)}.")
    return tuple(group for group in groups if any(fnmatchcase(group, pattern) for pattern in patterns))


def _from_the_head_down(groups: Sequence[str], num_groups: int) -> list[tuple[str, ...]]:
    """What is thawed in each phase: nothing, then ever `num_groups` more."""
    if num_groups > len(groups):
        raise InputError(
            f"unfreeze.num_groups must be at most the number of groups that train, {len(groups)}, but is {num_groups}. "
            f"Groups: {', '.join(groups)}."
        )
    cuts = [*range(len(groups), 0, -num_groups), 0]
    return [tuple(groups[cut:]) for cut in cuts]


def _is_epoch(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_rate(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 1e-6 <= value <= 1000


def _name(thawed: Sequence[str]) -> str:
    return f"from {thawed[0]}" if thawed else "head"
