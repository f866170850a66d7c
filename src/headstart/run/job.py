"""A run that is known to work, with its parts at hand; see `prepare`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from headstart.backbones.backbone import BackboneFactory, Reading
from headstart.config import identity
from headstart.data.source import Examples, Source
from headstart.run.checks import monitors
from headstart.run.chosen import Parts
from headstart.run.findings import Findings, key_of
from headstart.run.sketch import Sketch
from headstart.splits.duplicates import Duplicates, find_duplicates
from headstart.splits.splitter import Split, Splitter
from headstart.strategies.plan import Plan
from headstart.strategies.strategy import Strategy
from headstart.tasks.task import Targets, Task


@dataclass(frozen=True)
class Draft:
    """A run as far as its config tells: data and weights have not been looked at."""

    cfg: DictConfig
    parts: Parts
    factory: BackboneFactory
    sketch: Sketch
    plan: Plan

    @property
    def stores_activations(self) -> bool:
        """Whether what frozen groups give may stand in for them: not where pictures are mixed, epochs are cut short, or
        training is in double precision."""
        settings, mixes = self.cfg.trainer, self.parts.augmentation.mixes
        return not mixes and settings.limit_batches is None and settings.precision != "64-true"


@dataclass(frozen=True)
class Job(Draft):
    """A run that is known to work, with its parts at hand."""

    source: Source
    split: Split
    """Which examples train, select and test at this seed."""
    identity: Mapping[str, Any]
    findings: Findings
    notes: tuple[str, ...] = ()
    """What was said while it was checked."""

    @cached_property
    def run_id(self) -> str:
        return identity.run_id(self.identity)

    @property
    def seed(self) -> int:
        return int(self.cfg.seed)

    @property
    def strategy(self) -> Strategy:
        return self.parts.strategy

    @cached_property
    def reading(self) -> Reading:
        """How this backbone reads the data, with what was set over it (`data.max_length`, say)."""
        return self.factory.reading().over({**self.source.overrides, **self.source.own_reading})

    @property
    def splitter(self) -> Splitter:
        return self.parts.split

    @property
    def is_trial(self) -> bool:
        """Whether it is a search's: it sees no answer of a test example, and is scored on val alone."""
        return bool(self.cfg.trial)

    @cached_property
    def targets(self) -> Targets:
        """What is predicted of each example; of a trial's test examples it is not known (`hidden`)."""
        labels = hidden(self.source.labels, self.split.test) if self.is_trial else self.source.labels
        return Targets(labels, self.source.classes)

    @cached_property
    def shift_targets(self) -> dict[str, np.ndarray]:
        """What is predicted of each example of the extra test sets."""
        found = {name: shift.labels for name, shift in self.source.shifts.items()}
        return {name: hidden(labels, slice(None)) for name, labels in found.items()} if self.is_trial else found

    @property
    def num_outputs(self) -> int:
        """Of a head."""
        return len(self.targets.names)

    @cached_property
    def task(self) -> Task:
        """With what it takes from the training examples."""
        task: Task = self.parts.task
        return task.fitted(self.targets.values[self.split.train], self.num_outputs)

    @property
    def history(self) -> tuple[str, ...]:
        """What is measured in every epoch."""
        return self.task.history(monitors(self.cfg, self.plan))

    @property
    def duplicates(self) -> Duplicates | None:
        """Exact copies among the examples as they are split; `None` where there can be none."""
        source, contents = self.source, self.source.contents
        if contents is None:
            return None
        shifts = {name: shift.contents for name, shift in source.shifts.items() if not source.paired_shifts}
        known = {name: copied for name, copied in shifts.items() if copied is not None}
        key = key_of(self.identity["data"], self.identity["shifts"], self.split.sha256)
        found = partial(find_duplicates, contents, source.cells, self.split, known)
        return self.findings.get("duplicates", key, found, kept=16)

    @property
    def examples(self) -> Examples:
        """All examples as this backbone reads them; those of the last job are kept."""
        key = key_of(self.identity["data"], self.reading.description)
        return self.findings.get("examples", key, lambda: self.source.examples(**self.reading.arguments), kept=1)

    def num_trainable(self, num_phases: int) -> int:
        """Parameters of the backbone that train in any of the plan's first phases."""
        phases = self.plan.phases[:num_phases]
        return sum(n for row, n in self.sketch.parameters.items() if any(phase.trains(*row) for phase in phases))

    @property
    def features_identity(self) -> dict[str, Any]:
        """Everything about the frozen backbone that can change its features; random weights follow the seed."""
        pretrained = self.identity["weights"]["weights"] is not None
        return {"backbone": self.identity["weights"], "seed": None if pretrained else self.seed}

    @property
    def augmentation_name(self) -> dict[str, Any]:
        """What the augmentation does, for the names of cached views."""
        node = OmegaConf.to_container(self.cfg.augmentation, resolve=True)
        assert isinstance(node, dict)
        return {str(name): value for name, value in node.items() if name not in ("views", "place")}

    @property
    def is_probe(self) -> bool:
        """Whether only a head is trained, on features that never change."""
        return self.plan.head_only() and self.plan.frozen_norm == "eval" and self.stores_activations


def hidden(labels: np.ndarray, places: np.ndarray | slice) -> np.ndarray:
    """Labels without those at `places`: NaN there, or -1, which no class has."""
    kept = labels.copy()
    kept[places] = np.nan if kept.dtype.kind == "f" else -1
    return kept
