"""From a config to a job that is known to work: everything that can be wrong with it is said here, all at once."""

import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from headstart import notes
from headstart.backbones.backbone import Backbone, BackboneFactory, Reading
from headstart.compat import mend_torchvision
from headstart.config import binding, identity, schema
from headstart.config.overrides import as_written, literal
from headstart.config.text_settings import keep_texts
from headstart.data.augmentation import Augmentation
from headstart.data.batches import Batches
from headstart.data.source import Examples, Source
from headstart.errors import InputError, collect
from headstart.record.directory import HISTORY, RESULT
from headstart.record.trackers import Tracker
from headstart.run.false_names import check_strategy_name
from headstart.run.pools import ask, check_columns, columns_identity, pool_of
from headstart.splits.duplicates import Duplicates, find_duplicates, remarks
from headstart.splits.splitter import Split, Splitter
from headstart.strategies.plan import HEAD, Kind, Plan, Row
from headstart.strategies.strategy import Strategy
from headstart.tasks.task import Targets, Task
from headstart.training.device import check_precision
from headstart.training.ranks import check_devices
from headstart.training.rows import rows

log = logging.getLogger(__name__)

_MEMORY: dict[tuple[str, str], tuple[Any, list[str]]] = {}
_KEPT = 16
"""Checked parts that are remembered, so that the jobs of a sweep do not check the same thing again."""


@dataclass(frozen=True)
class Sketch:
    """A backbone without its weights: what a plan needs to know of it."""

    groups: tuple[str, ...]
    num_features: int
    parameters: Mapping[Row, int]
    """Numbers of parameters by row, adapters among them."""
    unset: Mapping[Row, str]
    """Rows with parameters that no weights set, and the setting that brings them."""

    @property
    def total_parameters(self) -> int:
        return sum(self.parameters.values())

    @property
    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The kinds of parameters in each depth group."""
        return {group: tuple(kind for name, kind in self.parameters if name == group) for group in self.groups}


@dataclass(frozen=True)
class Draft:
    """A run as far as its config tells: data and weights have not been looked at."""

    cfg: DictConfig
    parts: Mapping[str, Any]
    factory: BackboneFactory
    sketch: Sketch
    plan: Plan

    @property
    def stores_activations(self) -> bool:
        """Whether what frozen groups give may stand in for them: not where pictures are mixed, epochs are cut short, or
        training is in double precision."""
        settings, mixes = self.cfg.trainer, self.parts["augmentation"].mixes
        return not mixes and settings.limit_batches is None and settings.precision != "64-true"


@dataclass(frozen=True)
class Job(Draft):
    """A run that is known to work, with its parts at hand."""

    source: Source
    split: Split
    """Which examples train, select and test at this seed."""
    identity: Mapping[str, Any]
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
        return self.parts["strategy"]

    @cached_property
    def reading(self) -> Reading:
        """How this backbone reads the data, with what was set over it (`data.max_length`, say)."""
        reading, own = self.factory.reading(), self.source.overrides
        return Reading({**reading.arguments, **own}, {**reading.description, **own}, reading.limits)

    @property
    def splitter(self) -> Splitter:
        return self.parts["split"]

    @cached_property
    def targets(self) -> Targets:
        """What is predicted of each example."""
        return Targets(self.source.labels, self.source.classes)

    @cached_property
    def shift_targets(self) -> dict[str, np.ndarray]:
        """What is predicted of each example of the extra test sets."""
        return {name: shift.labels for name, shift in self.source.shifts.items()}

    @property
    def num_outputs(self) -> int:
        """Of a head."""
        return len(self.targets.names)

    @cached_property
    def task(self) -> Task:
        """With what it takes from the training examples."""
        task: Task = self.parts["task"]
        return task.fitted(self.targets.values[self.split.train], self.num_outputs)

    @property
    def history(self) -> tuple[str, ...]:
        """What is measured in every epoch."""
        return self.task.history(_monitors(self.cfg, self.plan))

    @property
    def duplicates(self) -> Duplicates | None:
        """Exact copies among the examples as they are split; `None` where there can be none."""
        source, contents = self.source, self.source.contents
        if contents is None:
            return None
        shifts = {name: shift.contents for name, shift in source.shifts.items() if not source.paired_shifts}
        known = {name: copied for name, copied in shifts.items() if copied is not None}
        key = _key(self.identity["data"], self.identity["shifts"], self.split.sha256)
        return _remember("duplicates", key, lambda: find_duplicates(contents, source.cells, self.split, known))

    @property
    def examples(self) -> Examples:
        """All examples as this backbone reads them; those of the last job are kept."""
        key = _key(self.identity["data"], self.reading.description)
        return _remember("examples", key, lambda: self.source.examples(**self.reading.arguments), kept=1)

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
        return {str(name): value for name, value in node.items() if name != "views"}

    @property
    def is_probe(self) -> bool:
        """Whether only a head is trained, on features that never change."""
        return self.plan.head_only() and self.plan.frozen_norm == "eval" and self.stores_activations


def prepare(cfg: DictConfig, here: bool = True) -> Job:
    """Bind and check a composed config; nothing is written and nothing trained.

    `here`: whether it will run on this machine, so that it must have what the run needs.

    Raises:
        InputError: with every problem that was found.
    """
    with notes.listening() as heard:
        job = _prepared(cfg, here)
    return replace(job, notes=tuple(heard.messages))


def _prepared(cfg: DictConfig, here: bool) -> Job:
    parts, factory, nodes = _bound(cfg)
    settings, strategy = cfg.trainer, parts["strategy"]
    found: dict[str, Any] = {}
    collect(
        [
            *([partial(check_devices, settings.devices, settings.accelerator)] if here else []),
            partial(check_precision, settings.precision, settings.accelerator, here),
            partial(_check_modalities, parts),
            partial(_check_tracker, parts["logger"]),
            partial(_check_views, parts["augmentation"], settings.reuse_views),
            lambda: found.update(source=_checked_source(parts["data"], nodes["data"], nodes["task"])),
            lambda: found.update(weights=_checked_weights(factory, nodes["backbone"], strategy.pretrained)),
            lambda: found.update(sketch=_sketch(factory, nodes["backbone"], strategy)),
        ]
    )
    source, sketch = found["source"], found["sketch"]
    collect(
        [
            lambda: found.update(split=_split(source, cfg, parts["split"], parts["task"])),
            partial(_check_overrides, source, factory.reading()),
            lambda: found.update(plan=_plan(sketch, parts, cfg)),
        ]
    )
    job_plan: Plan = found["plan"]
    collect(
        [
            partial(check_strategy_name, cfg, strategy, job_plan, sketch.kinds),
            partial(_check_monitors, cfg, parts["task"], job_plan),
            partial(_check_solver, parts["head"].solver, parts["task"], job_plan),
        ]
    )
    _note_idle(parts["augmentation"])
    what = {
        "settings": identity.settings(cfg),
        "data": source.fingerprint,
        "shifts": {name: shifted.fingerprint for name, shifted in source.shifts.items()},
        "weights": found["weights"],
        **({"columns": columns_identity(source)} if source.columns else {}),
    }
    job = Job(cfg, parts, factory, sketch, job_plan, source, found["split"], what)
    _check_copies(job)
    _check_steps(job)
    _note_random(job)
    _say_of_targets(job)
    copies = _key(what["data"], what["shifts"], job.splitter.duplicates)
    _remember("copies", copies, lambda: _say_copies(job))
    rules = _rules(job)
    return replace(job, identity={**what, "rules": rules}) if rules else job


def job_config(cfg: DictConfig, hydra: Any = None) -> DictConfig:
    """The part of a composed config that is ours, with the choices and overrides that led to it noted down."""
    hydra = cfg.get("hydra") if hydra is None else hydra
    ours = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]) if "hydra" in cfg else cfg
    if hydra is None:
        return ours
    groups = (*schema.GROUPS, "trainer", "experiment")
    chosen = {name.partition("@")[0]: choice for name, choice in hydra.runtime.choices.items()}
    with open_dict(ours):
        ours.choices = ours.choices or {name: chosen[name] for name in groups if chosen.get(name) is not None}
        ours.overrides = as_written(ours.overrides) or literal(as_written(hydra.overrides.task))
    keep_texts(ours)
    return ours


def draft(cfg: DictConfig) -> Draft:
    """What a config comes to as far as it can be said without looking at data or weights."""
    parts, factory, nodes = _bound(cfg)
    sketch = _sketch(factory, nodes["backbone"], parts["strategy"])
    plan = _plan(sketch, parts, cfg)
    check_strategy_name(cfg, parts["strategy"], plan, sketch.kinds)
    return Draft(cfg, parts, factory, sketch, plan)


def _bound(cfg: DictConfig) -> tuple[dict[str, Any], BackboneFactory, dict[str, Any]]:
    """Parts, the backbone's factory at the data's size, and the resolved nodes that they were made from."""
    mend_torchvision()
    parts = binding.bind(cfg)
    ask(parts["data"], parts["split"], parts["task"])
    nodes = {name: OmegaConf.to_container(cfg[name], resolve=True) for name in ("data", "task")}
    size = getattr(parts["data"], "size", None)
    nodes["backbone"] = [OmegaConf.to_container(cfg.backbone, resolve=True), size]
    factory: BackboneFactory = parts["backbone"]
    return parts, factory if size is None else factory.resized(size), nodes


def _plan(sketch: Sketch, parts: Mapping[str, Any], cfg: DictConfig) -> Plan:
    rate = parts["backbone"].rate
    plan: Plan = parts["strategy"].plan(sketch.kinds, parts["unfreeze"], cfg.trainer.max_epochs, rate)
    for (group, kind), setting in sketch.unset.items():
        if not any(phase.trains(group, kind) for phase in plan.phases):
            raise InputError(
                f"{setting} brings parameters of its own (kind {kind}, in the group {group}) that must train, but this "
                "strategy never trains them. Use a strategy that does, such as strategy=fine_tune or strategy=partial "
                f"strategy.last_k=null strategy.groups=[{group}], or leave {setting} out."
            )
    return plan


def outline(factory: BackboneFactory) -> Backbone:
    """The backbone on the meta device: shapes without numbers."""
    with torch.device("meta"):
        return factory.build(False)


def _check_solver(solver: str, task: Task, plan: Plan) -> None:
    if solver != "lbfgs":
        return
    task.check_exact()
    if not plan.head_only():
        raise InputError(
            "head.solver=lbfgs solves for a head on frozen features, but the strategy trains the backbone too. "
            "Use head.solver=gradient, or strategy=feature_extraction."
        )


def _check_tracker(tracker: Tracker) -> None:
    if tracker.package is not None and find_spec(tracker.package) is None:
        raise InputError(
            f"logger needs the package {tracker.package!r}, which is not installed. Install it (pip install "
            f"'headstart[{tracker.package}]'), or use logger=none: {HISTORY} and {RESULT} are always kept."
        )


def _check_modalities(parts: Mapping[str, Any]) -> None:
    data, backbone, augmentation = (parts[name].modality for name in ("data", "backbone", "augmentation"))
    if data != backbone:
        raise InputError(
            f"The backbone must read what the data holds, but data is {data} and backbone is for {backbone}. "
            f"Choose a backbone for {data}, or other data."
        )
    if augmentation not in (data, "any"):
        raise InputError(
            f"augmentation must be for {data}, but the one chosen is for {augmentation}. Use augmentation=none."
        )
    unread = parts["augmentation"].adds - parts["backbone"].optional_inputs
    if unread:
        raise InputError(
            f"The backbone must read what the augmentation adds, but {parts['backbone'].name} does not read "
            f"{', '.join(sorted(unread))}. Use augmentation=none, or another backbone."
        )


def _note_idle(augmentation: Augmentation) -> None:
    if augmentation.is_idle:
        log.warning("The augmentation changes nothing at these settings: it does what augmentation=none does.")


def _say_of_targets(job: Job) -> None:
    parts = {"train": job.split.train, "val": job.split.val, "test": job.split.test}
    values = {part: job.targets.values[places] for part, places in parts.items()}
    for remark in job.parts["task"].remarks(values, job.targets.names):
        log.warning("%s", remark)


def _note_random(job: Job) -> None:
    """Say it where parts of a backbone that was to be pretrained stay at random weights."""
    total = job.sketch.total_parameters
    frozen = total - job.num_trainable(len(job.plan.phases))
    if job.strategy.pretrained and job.identity["weights"]["weights"] is None and frozen:
        log.warning(
            "The backbone's weights are random (backbone.weights=none), and %s of its %s parameters never train: what "
            "they compute stays random.",
            *(f"{frozen:,}", f"{total:,}"),
        )


def _check_views(augmentation: Augmentation, reuse: bool) -> None:
    if reuse and augmentation.changes_examples and augmentation.views < 2:
        raise InputError(
            "With trainer.reuse_views, augmentation.views must be at least 2, as the first is the example as it is, "
            f"but is {augmentation.views}. Raise it, or set trainer.reuse_views=false."
        )


def _checked_source(source: Source, node: Mapping[str, Any], task: Any) -> Source:

    def check() -> Source:
        source.check()
        check_columns(source)
        return source

    return _remember("source", _key(node, task, dict(source.asked), source.parts_column), check)


def _checked_weights(factory: BackboneFactory, node: Any, pretrained: bool) -> dict[str, Any]:
    def check() -> dict[str, Any]:
        factory.check(pretrained)
        return factory.identity(pretrained)

    return _remember("weights", _key(node, pretrained), check)


def _sketch(factory: BackboneFactory, node: Any, strategy: Strategy) -> Sketch:
    adapter = vars(strategy.adapter) if strategy.adapter else None

    def draw() -> Sketch:
        factory.check(False)
        backbone = outline(factory)
        if strategy.adapter is not None:
            strategy.adapter.check(backbone)
            with torch.device("meta"):
                strategy.adapter.inject(backbone)
        groups = backbone.groups(strategy.granularity)
        table = rows(groups, backbone)
        counts = {row: sum(parameter.numel() for parameter in named.values()) for row, named in table.items()}
        unset = {row: backbone.unset[name] for row, named in table.items() for name in named if name in backbone.unset}
        return Sketch(tuple(group.name for group in groups), backbone.num_features, counts, unset)

    return _remember("sketch", _key(node, strategy.granularity, adapter), draw)


def _monitors(cfg: DictConfig, plan: Plan) -> list[str]:
    """Metrics that something follows: the choice of an epoch, the end of training, plateaus."""
    return [cfg.trainer.monitor, *(phase.until.monitor for phase in plan.phases if phase.until is not None)]


def _check_monitors(cfg: DictConfig, task: Task, plan: Plan) -> None:
    first, *others = _monitors(cfg, plan)
    checks = [partial(task.check_monitor, first, "trainer.monitor")]
    collect([*checks, *(partial(task.check_monitor, other, "unfreeze.monitor") for other in others)])


def _check_overrides(source: Source, reading: Reading) -> None:
    too_much = [
        f"data.{name} must be at most {_most(reading.limits[name])} for this backbone, but is {value}."
        for name, value in source.overrides.items()
        if name in reading.limits and value > reading.limits[name]
    ]
    if too_much:
        raise InputError(*too_much)


def _most(limit: float) -> float:
    """A limit as it is said: never more than it is."""
    return limit if isinstance(limit, int) else math.floor(limit * 1000) / 1000


def _split(source: Source, cfg: DictConfig, splitter: Splitter, task: Task) -> Split:
    def divide() -> Split:
        return splitter.split(pool_of(source, splitter, task), int(cfg.seed), source.columns)

    nodes = [OmegaConf.to_container(node, resolve=True) for node in (cfg.split, cfg.task)]
    known = _key(source.fingerprint, columns_identity(source), *nodes, int(cfg.seed))
    return _remember("split", known, divide, kept=64)


def _check_copies(job: Job) -> None:
    found = job.duplicates
    if found is None or job.splitter.duplicates != "error" or not (found.copies or any(found.in_shifts.values())):
        return
    raise InputError(
        "The data must hold no exact copies of examples, as split.duplicates=error says: remove them, or use "
        "split.duplicates=group, which keeps all copies of one in the same part.",
        *_remarks(job, found),
    )


def _check_steps(job: Job) -> None:
    """Raise `InputError` if `trainer.max_steps` ends training before the plan's last phase begins."""
    settings, begins = job.cfg.trainer, job.plan.earliest[-1]
    if settings.max_steps is None or not begins:
        return
    num_batches = len(Batches(job.split.train, settings.batch_size, job.seed, world=settings.devices))
    num_batches = min(num_batches, settings.limit_batches or num_batches)
    steps_before = begins * -(-num_batches // settings.accumulate_grad_batches)
    if settings.max_steps <= steps_before:
        raise InputError(
            f"trainer.max_steps must reach the last phase of the plan, which begins after {steps_before} steps "
            f"({begins} epochs) at the earliest, but is {settings.max_steps}. Raise it, or thaw earlier."
        )


def _rules(job: Job) -> list[str]:
    """What this run's numbers follow from beside its settings; their ids tell runs of before that did it otherwise."""
    settings, is_exact = job.cfg.trainer, job.parts["head"].solver == "lbfgs"
    rules = {
        "the epoch is selected by the monitor": settings.monitor != "val/accuracy" and not is_exact,
        "patience counts in the last phase": settings.patience is not None and len(job.plan.phases) > 1,
        "improvements beyond min_delta are counted in double precision": settings.patience is not None
        and settings.min_delta > 0
        and not job.is_probe,
        "a head on features trains at the rates of its plan": job.is_probe
        and not is_exact
        and (
            (job.plan.restart and len(job.plan.phases) > 1)
            or any(rate != 1 for phase in job.plan.phases for rate in phase.rates[HEAD].values())
        ),
        "a head on features reads the batches of other strategies": job.is_probe
        and not is_exact
        and (_may_differ_in_length(job) or settings.devices > 1),
    }
    return [rule for rule, holds in rules.items() if holds]


def _may_differ_in_length(job: Job) -> bool:
    return job.source.modality != "vision" and job.reading.arguments.get("padding") != "fixed"


def _say_copies(job: Job) -> None:
    """Said once for a data set, of the split that comes first; what holds for each is in its record."""
    found = job.duplicates
    for remark in () if found is None else _remarks(job, found):
        log.warning("%s", remark)


def _remarks(job: Job, found: Duplicates) -> list[str]:
    source, splitter = job.source, job.splitter
    is_given = source.parts is not None and bool({"val", "test"} & {*source.parts.tolist()})
    how = "the data themselves" if is_given else splitter.described(job.seed)
    remedy = "Remove them, or put all copies of one into the same part."
    if splitter.duplicates == "keep" and not is_given:
        remedy = "split.duplicates=group keeps all copies of one in the same part."
    return remarks(found, source.name, source.ids, source.cells, job.split, how, remedy)


def _key(*values: Any) -> str:
    return json.dumps(values, sort_keys=True, default=str)


def _remember(what: str, key: str, make: Callable[[], Any], kept: int = _KEPT) -> Any:
    """What `make` gave the last time for this key, and said; only the latest few of each kind are kept."""
    if (what, key) in _MEMORY:
        value, said = _MEMORY[what, key]
        notes.say_again(said)
        return value
    with notes.listening() as heard:
        alike = [entry for entry in _MEMORY if entry[0] == what]
        for old in alike[: max(0, len(alike) - kept + 1)]:
            del _MEMORY[old]
        value = make()
    _MEMORY[what, key] = value, heard.messages
    return value
