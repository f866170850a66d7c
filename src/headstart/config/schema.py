"""The typed spine of a config: what every run has, whatever parts it chooses."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache, partial
from typing import Annotated, Any, get_type_hints

from annotated_types import Ge, Gt, Le
from omegaconf import MISSING

from headstart.config.ranges import MOST, violations
from headstart.errors import InputError, collect, unknown
from headstart.system.places import check_name

SPACE = "space"
"""What of a part's node says what a search varies of it; no setting of a run."""
GROUPS = {
    "backbone": "headstart.backbones.backbone.BackboneFactory",
    "strategy": "headstart.strategies.strategy.Strategy",
    "unfreeze": "headstart.strategies.unfreeze.Unfreeze",
    "augmentation": "headstart.data.augmentation.Augmentation",
    "optimizer": "torch.optim.Optimizer",
    "scheduler": "headstart.strategies.schedule.Schedule",
    "head": "headstart.training.heads.HeadFactory",
    "task": "headstart.tasks.task.Task",
    "data": "headstart.data.source.Source",
    "split": "headstart.splits.splitter.Splitter",
    "logger": "headstart.record.trackers.Tracker",
}
"""Config groups whose node is a `_target_`, with the kind that the target must be."""


def _ranged(default: Any, *limits: Any) -> Any:
    return field(default=default, metadata={"limits": limits})


def _one_of(default: str, *choices: str) -> Any:
    return field(default=default, metadata={"choices": choices})


@dataclass
class TrainerConfig:
    """How long, on what, and by which rules to train."""

    max_epochs: int = _ranged(10, Ge(1), Le(100_000))
    max_steps: int | None = _ranged(None, Ge(1), Le(MOST))
    batch_size: int = _ranged(32, Ge(1), Le(MOST))
    accumulate_grad_batches: int = _ranged(1, Ge(1), Le(MOST))
    precision: str = _one_of("32-true", "32-true", "bf16-mixed", "16-mixed", "64-true")
    threads: int | None = _ranged(None, Ge(1), Le(1024))
    num_workers: int = _ranged(0, Ge(0), Le(512))
    accelerator: str = _one_of("auto", "auto", "cpu", "gpu", "cuda", "mps")
    devices: int = _ranged(1, Ge(1))
    strategy: str = _one_of("auto", "auto", "fsdp2")
    gradient_clip_val: float | None = _ranged(None, Gt(0), Le(1e9))
    patience: int | None = _ranged(None, Ge(1), Le(100_000))
    min_delta: float = _ranged(0.0, Ge(0), Le(1e9))
    monitor: str = "${task.monitor}"
    limit_batches: int | None = _ranged(None, Ge(1), Le(MOST))
    reuse_views: bool = False
    deterministic: bool = True
    compile: bool = False
    keep_checkpoint: bool = True


@dataclass
class FeaturesConfig:
    """Where activations of frozen backbones are kept, and how much room they may take."""

    root: str | None = None
    budget_gb: float = _ranged(20.0, Gt(0), Le(1e6))


@dataclass
class SearchConfig:
    """How settings are searched in each cell of a comparison; it changes no run."""

    method: str = _one_of("none", "none", "random", "tpe", "gp", "cmaes", "qmc")
    stopping: str = _one_of("none", "none", "halving")
    trials: int | None = _ranged(None, Ge(2), Le(100_000))
    epochs: int | None = _ranged(None, Ge(1), Le(MOST))
    hours: float | None = _ranged(None, Gt(0), Le(1e6))
    probes: int = _ranged(256, Ge(2), Le(10_000))
    replicates: int = _ranged(3, Ge(1), Le(100))
    level: float = _ranged(0.05, Gt(0), Le(1))
    seeds: int = _ranged(5, Ge(2), Le(1000))
    seed: int = _ranged(0, Ge(0), Le(2**31 - 1))
    workers: int | None = _ranged(None, Ge(1), Le(10_000))
    reduction: int = _ranged(3, Ge(2), Le(100))
    paused_gb: float = _ranged(20.0, Gt(0), Le(1e6))


@dataclass
class Config:
    """The spine: every run is one of these."""

    seed: int = _ranged(0, Ge(0), Le(2**31 - 1))
    name: str = "comparison"
    backbone: dict[str, Any] = field(default_factory=dict)
    strategy: dict[str, Any] = field(default_factory=dict)
    unfreeze: dict[str, Any] = field(default_factory=dict)
    augmentation: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    head: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: dict[str, Any] = field(default_factory=dict)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    trial: bool = False
    choices: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    companions: list[str] = field(default_factory=list)
    fused_with: int = _ranged(0, Ge(0))


SECTIONS = {"trainer": TrainerConfig, "features": FeaturesConfig, "search": SearchConfig}
"""Settings that lie together under one name."""

SPINE = frozenset(
    [item.name for item in fields(Config)]
    + [f"{name}.{item.name}" for name, schema in SECTIONS.items() for item in fields(schema)]
)
"""Settings that every run has, whatever it chooses."""

SWITCHES = frozenset(
    f"{name}.{item.name}" for name, schema in SECTIONS.items() for item in fields(schema) if item.type in (bool, "bool")
)
"""Those of them that are true or false; a number would be taken for one of these."""


def register() -> None:
    """Make the spine known to Hydra as the schema `conf/train.yaml` starts from."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=Config, provider="headstart")


def check_spine(cfg: Mapping[str, Any]) -> None:
    """Raise `InputError` for missing values, and for spine values out of their range."""
    missing = sorted(key for key, value in flatten(cfg, "") if value == MISSING)
    if missing:
        raise InputError(*(f"{key} must be given: add {key}=VALUE." for key in missing))
    lost = [item.name for item in fields(Config) if item.name not in cfg]
    if lost:
        raise InputError(*(f"{name} cannot be left out: every run has one." for name in lost))
    bad = [name for name in SECTIONS if not isinstance(cfg[name], Mapping)]
    if bad:
        raise InputError(*(f"{name} must be settings by name, but is {cfg[name]!r}." for name in bad))
    nodes = [("", Config, cfg), *((f"{name}.", schema, cfg[name]) for name, schema in SECTIONS.items())]
    checks = [partial(_check_fields, *node) for node in nodes]
    collect([*checks, partial(check_name, str(cfg.get("name")), "name")])


def check_section(name: str, node: Mapping[str, Any]) -> None:
    """Raise `InputError` for values of one section that are out of their range."""
    _check_fields(f"{name}.", SECTIONS[name], node)


def _check_fields(prefix: str, schema: type, node: Mapping[str, Any]) -> None:
    messages: list[str] = []
    known = [prefix + item.name for item in fields(schema)]
    for name in node:
        if prefix + str(name) not in known:
            messages += unknown("setting", prefix + str(name), known).messages
    hints = _fields(schema)
    for item in fields(schema):
        value, choices, limits = node[item.name], item.metadata.get("choices"), item.metadata.get("limits")
        wrong = [] if is_dataclass(hints[item.name]) else violations(prefix + item.name, value, hints[item.name])
        if not wrong and choices and value not in choices:
            wrong = list(unknown(prefix + item.name, value, choices).messages)
        if not wrong and limits and value is not None:
            wrong = violations(prefix + item.name, value, Annotated[(type(value), *limits)])
        messages += wrong
    if messages:
        raise InputError(*messages)


# Asked again for every run of a comparison, and slow to make anew
@cache
def _fields(schema: type) -> dict[str, Any]:
    return get_type_hints(schema)


def flatten(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node
