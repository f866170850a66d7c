"""The thaw plan: phases × (depth group, kind) → learning-rate multiplier, as pure data.

A plan knows no torch module, so it can be printed, drawn, hashed, tested and saved. `training/thaw.py` applies it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, get_args

Kind = Literal["weight", "bias", "norm", "norm_bias", "adapter"]
"""What a parameter is within its group; `norm` is a normalisation layer's scale, `norm_bias` its shift."""
KINDS: tuple[Kind, ...] = get_args(Kind)
FrozenNorm = Literal["eval", "batch_stats", "train"]
"""How norm layers in frozen parts normalise: by the statistics they came with; by the batch's, keeping theirs; by the
batch's, updating theirs. Dropout and drop-path are off in frozen parts whichever it is."""
ThawedNorm = Literal["train", "eval"]
"""How norm layers in parts that train normalise: by the batch's statistics, updating theirs; by theirs as they came."""
HEAD = "head"
"""The last depth group of every plan: the classifier alone. It always trains."""

Row = tuple[str, Kind]


@dataclass(frozen=True)
class Plateau:
    """A phase that ends when `monitor` has not improved by `min_delta` for `patience` epochs."""

    patience: int
    min_delta: float
    monitor: str
    restore_best: bool


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with one set of rates; a multiplier of 0 means frozen."""

    name: str
    start: int | None
    """First epoch, from 0; `None` when the phase before ends on a plateau."""
    rates: Mapping[str, Mapping[Kind, float]]
    until: Plateau | None = None
    """What ends the phase where no epoch does."""

    def multiplier(self, group: str, kind: Kind) -> float:
        return self.rates[group][kind]

    def trains(self, group: str, kind: Kind | None = None) -> bool:
        """Whether the row, or any row of the group, may move in this phase."""
        rates = self.rates[group]
        return rates[kind] > 0 if kind is not None else any(rates.values())


@dataclass(frozen=True)
class Plan:
    """What trains when, at which rate relative to the run's own rate and schedule."""

    groups: tuple[str, ...]
    """Depth groups from the input to the output; the last is the head."""
    phases: tuple[Phase, ...]
    max_epochs: int
    frozen_norm: FrozenNorm = "eval"
    thawed_norm: ThawedNorm = "train"
    warmup_epochs: float = 0.0
    """Epochs over which a group that thaws after the start climbs from 0 to its rate."""
    restart: bool = False
    """Whether the schedule runs from its beginning to its end in every phase, not once over all of them."""
    granularity: Literal["blocks", "stages"] = "blocks"

    def __post_init__(self) -> None:
        assert self.groups[-1] == HEAD, self.groups
        assert self.phases, "a plan has at least one phase"
        for phase in self.phases:
            assert set(phase.rates) == set(self.groups), phase.name
        assert not self.restart or all(phase.start is not None for phase in self.phases), "restarts need known ends"

    @property
    def earliest(self) -> list[int]:
        """The first epoch of each phase; the earliest possible one where the phase before waits for a plateau."""
        begun: list[int] = []
        for index, phase in enumerate(self.phases):
            until = self.phases[index - 1].until if index else None
            # a phase's first epoch is its best so far
            begun.append(phase.start if phase.start is not None else begun[-1] + (until.patience if until else 1) + 1)
        return begun

    def phase_at(self, epoch: int) -> int:
        """Index of the phase that epoch `epoch` lies in, by the calendar alone (plateaus are not foreseen)."""
        started = [i for i, phase in enumerate(self.phases) if phase.start is not None and phase.start <= epoch]
        return started[-1]

    def span(self, phase: int) -> tuple[int, int]:
        """The epochs, first and past the last, over which the schedule runs while `phase` lasts."""
        if not self.restart:
            return 0, self.max_epochs
        starts = [*(p.start or 0 for p in self.phases), self.max_epochs]
        return starts[phase], starts[phase + 1]

    def thawed_in(self, phase: int, group: str) -> int | None:
        """Index of the phase, at or before `phase`, from which the group has trained without a break."""
        if not self.phases[phase].trains(group):
            return None
        while phase > 0 and self.phases[phase - 1].trains(group):
            phase -= 1
        return phase

    def head_only(self) -> bool:
        """Whether nothing but the head ever trains."""
        return all(phase.trains(group) == (group == HEAD) for phase in self.phases for group in self.groups)

    def trained(self, phase: int) -> tuple[str, ...]:
        """The groups of the backbone in which anything trains up to and in this phase."""
        so_far = self.phases[: phase + 1]
        return tuple(group for group in self.groups[:-1] if any(p.trains(group) for p in so_far))

    def untouched(self, phase: int) -> tuple[str, ...]:
        """The lowest groups in which nothing trains up to and in this phase: what they compute never changes till then.

        None where frozen norm layers follow the batch.
        """
        if self.frozen_norm != "eval":
            return ()
        lowest = next(iter(self.trained(phase)), HEAD)
        return self.groups[: self.groups.index(lowest)]

    def probes(self, phase: int) -> bool:
        """Whether up to and in this phase the head alone trains, on features that have not changed since the start."""
        return self.untouched(phase) == self.groups[:-1]

    def warmup(self, phase: int, group: str, epochs_in: Sequence[float]) -> float:
        """Share of its rate that the group has reached; `epochs_in[p]` is the time in epochs since phase p began."""
        since = self.thawed_in(phase, group)
        if not since or not self.warmup_epochs:
            return 1.0
        return min(1.0, epochs_in[since] / self.warmup_epochs)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, as `plan.json` holds it."""
        return {"schema": 1, "kinds": list(KINDS), **_plain(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Plan":
        """The inverse of `to_dict`."""
        known = {key: value for key, value in data.items() if key in cls.__dataclass_fields__}
        phases = tuple(
            Phase(**{**phase, "until": Plateau(**phase["until"]) if phase.get("until") else None})
            for phase in known.pop("phases")
        )
        return cls(**{**known, "groups": tuple(known["groups"]), "phases": phases})

    def digest(self) -> str:
        """sha256 of the plan's JSON."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float)):
        return value
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
