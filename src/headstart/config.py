"""The typed spine of a config, and the binding of its leaves to the constructors they name.

Everything here runs before anything slow and reports all that is wrong at once. A config from a stranger can build
parts of the allowed packages and nothing else.
"""

import hashlib
import inspect
import json
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from headstart import bounded, guard
from headstart.bounded import DamagedError
from headstart.errors import InputError, collect, unknown
from headstart.metrics import MONITORS
from headstart.overrides import literal
from headstart.places import check_name
from headstart.ranges import NonNegative, Positive

GROUPS = {
    "backbone": "headstart.backbones.backbone.BackboneFactory",
    "strategy": "headstart.strategies.strategy.Strategy",
    "unfreeze": "headstart.strategies.unfreeze.Unfreeze",
    "augmentation": "headstart.data.augmentation.Augmentation",
    "optimizer": "torch.optim.Optimizer",
    "scheduler": "headstart.strategies.schedule.Schedule",
    "head": "headstart.training.heads.HeadFactory",
    "data": "headstart.data.source.Source",
    "logger": "headstart.tracking.Tracker",
}
"""Config groups whose node is a `_target_`, with the kind that the target must be."""
IDENTITY_SCHEMA = 1
INCIDENTAL = frozenset({"name", "choices", "overrides", "companions", "logger", "features", "trainer.num_workers"})
INCIDENTAL_DATA = frozenset({"root", "path", "name", "shifts", "cache_bytes", "missing_values", "encoding"})
"""Keys that cannot change a run's numbers, given the fingerprint of its data."""
INCIDENTAL_WEIGHTS = frozenset({"backbone.weights", "backbone.weights_key"})
"""Keys that say where weights are; what they are is the backbone's to tell."""
OFF = {"trainer.threads": None, "trainer.reuse_views": False, "data.value_range": None, "data.part": "middle"}
"""Settings that do nothing at these values, and are no part of a run then."""


def _ranged(default: Any, *limits: Any) -> Any:
    return field(default=default, metadata={"limits": limits})


def _one_of(default: str, *choices: str) -> Any:
    return field(default=default, metadata={"choices": choices})


@dataclass
class TrainerConfig:
    """How long, on what, and by which rules to train."""

    max_epochs: int = _ranged(10, Ge(1), Le(100_000))
    max_steps: int | None = _ranged(None, Ge(1))
    batch_size: int = _ranged(32, Ge(1))
    accumulate_grad_batches: int = _ranged(1, Ge(1))
    precision: str = _one_of("32-true", "32-true", "bf16-mixed", "16-mixed", "64-true")
    threads: int | None = _ranged(None, Ge(1), Le(1024))
    num_workers: int = _ranged(0, Ge(0), Le(512))
    accelerator: str = _one_of("auto", "auto", "cpu", "gpu", "cuda", "mps")
    devices: int = _ranged(1, Ge(1))
    gradient_clip_val: float | None = _ranged(None, Gt(0))
    label_smoothing: float = _ranged(0.0, Ge(0), Lt(1))
    class_weights: str = _one_of("none", "none", "balanced")
    patience: int | None = _ranged(None, Ge(1))
    min_delta: float = _ranged(0.0, Ge(0))
    monitor: str = _one_of("val/accuracy", *MONITORS)
    limit_batches: int | None = _ranged(None, Ge(1))
    reuse_views: bool = False
    deterministic: bool = True
    keep_checkpoint: bool = True


@dataclass
class FeaturesConfig:
    """Where activations of frozen backbones are kept, and how much room they may take."""

    root: str | None = None
    budget_gb: float = _ranged(20.0, Gt(0), Le(1e6))


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
    data: dict[str, Any] = field(default_factory=dict)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: dict[str, Any] = field(default_factory=dict)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    choices: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    companions: list[str] = field(default_factory=list)


SECTIONS = {"trainer": TrainerConfig, "features": FeaturesConfig}
"""Settings that lie together under one name."""
SPINE = frozenset(
    [item.name for item in fields(Config)]
    + [f"{name}.{item.name}" for name, schema in SECTIONS.items() for item in fields(schema)]
)
"""Settings that every run has, whatever it chooses."""


def register() -> None:
    """Make the spine known to Hydra as the schema `conf/train.yaml` starts from."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=Config, provider="headstart")


def load(directory: Path) -> DictConfig:
    """The config that a run's directory keeps, held against the schema; what it lacks has its default.

    Raises:
        InputError: if there is none, or it has keys or values that the schema does not know.
    """
    path = directory / "config.yaml"
    try:
        found = _yaml(path)
    except OSError as error:
        raise InputError(f"{directory} must be a run's directory, but {path} cannot be read: {error}.") from error
    except DamagedError as error:
        raise InputError(f"{path} is not a run's config: {error}.") from error
    if not isinstance(found, Mapping):
        raise InputError(f"{path} is not a run's config: it holds no settings.")
    defaults = _defaults()
    cfg = {**defaults, **found, "companions": []}  # whom it was trained with then; who launches it says so anew
    try:
        for name in ("trainer", "features"):
            if isinstance(cfg[name], Mapping):
                cfg[name] = {key: _as_in(defaults[name].get(key), value) for key, value in cfg[name].items()}
                cfg[name] = {**defaults[name], **cfg[name]}
        check_spine(cfg)
        return OmegaConf.create(literal(cfg))
    except OmegaConfBaseException as error:
        raise InputError(f"{path} is not a run's config: {str(error).splitlines()[0]}.") from error
    except InputError as error:
        raise InputError(*(f"{path} is not a run's config: {message}" for message in error.messages)) from error


def _as_in(default: Any, value: Any) -> Any:
    """`value`, a whole number, as a float where the setting is one: 0 and 0.0 would be two runs."""
    return float(value) if isinstance(default, float) and type(value) is int else value


@cache
def _defaults() -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.structured(Config)))


def dumped(cfg: DictConfig) -> str:
    """As `OmegaConf.to_yaml(cfg, resolve=True)`, by the same rules, but written in C where that is there."""
    import yaml

    return yaml.dump(
        OmegaConf.to_container(cfg, resolve=True, enum_to_str=True),
        Dumper=_dumper(),
        sort_keys=False,
        allow_unicode=True,
    )


@cache
def _dumper() -> Any:
    import yaml
    from omegaconf._utils import get_omega_conf_dumper

    dumper: Any = type("Dumper", (getattr(yaml, "CDumper", yaml.Dumper),), {})
    dumper.add_representer(str, get_omega_conf_dumper().str_representer)
    return dumper


def _yaml(path: Path) -> Any:
    """As `OmegaConf.load`, by the same rules, but parsed in C where that is there: five times as fast."""
    import yaml
    from omegaconf._utils import get_yaml_loader

    rules = get_yaml_loader()
    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader = type("Loader", (base,), {"yaml_implicit_resolvers": rules.yaml_implicit_resolvers})
    return bounded.yaml_value(path, lambda words: yaml.load(words, loader))


def check_spine(cfg: Mapping[str, Any]) -> None:
    """Raise `InputError` for missing values, and for spine values out of their range."""
    missing = sorted(key for key, value in _flatten(cfg, "") if value == MISSING)
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


def _check_fields(prefix: str, schema: type, node: Mapping[str, Any]) -> None:
    messages: list[str] = []
    known = [prefix + item.name for item in fields(schema)]
    for name in node:
        if prefix + str(name) not in known:
            messages += unknown("setting", prefix + str(name), known).messages
    hints = _fields(schema)
    for item in fields(schema):
        value, choices, limits = node[item.name], item.metadata.get("choices"), item.metadata.get("limits")
        wrong = [] if is_dataclass(hints[item.name]) else _violations(prefix + item.name, value, hints[item.name])
        if not wrong and choices and value not in choices:
            wrong = list(unknown(prefix + item.name, value, choices).messages)
        if not wrong and limits and value is not None:
            wrong = _violations(prefix + item.name, value, Annotated[(type(value), *limits)])
        messages += wrong
    if messages:
        raise InputError(*messages)


def bind(cfg: DictConfig) -> dict[str, Any]:
    """Build the part of every group from its node; the optimizer's comes as a `partial` that lacks its parameters.

    Raises:
        InputError: with every problem of every group, each naming the full key, the value and the remedy.
    """
    container = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(container, dict)
    parts: dict[str, Any] = {}
    checks = [partial(check_spine, cast(dict[str, Any], container))]
    checks += [partial(_bind_group, parts, group, kind, container.get(group, {})) for group, kind in GROUPS.items()]
    collect(checks)
    return parts


def _bind_group(parts: dict[str, Any], group: str, kind: str, node: Mapping[str, Any]) -> None:
    module, _, name = kind.rpartition(".")
    parts[group] = construct(node, group, getattr(import_module(module), name))


def construct(node: Mapping[str, Any], key: str, kind: type) -> Any:
    """The object a `_target_` node describes, after its arguments have been checked against the constructor.

    Raises:
        InputError: if the target is not a `kind` of an allowed package, or its arguments do not fit.
    """
    if "_target_" not in node:
        raise InputError(f"{key} must choose one of its group's configs or name a _target_, but is {dict(node)!r}.")
    target = guard.located(node["_target_"], key, kind)
    hints = hints_of(target) if target.__module__.startswith("headstart") else {}
    arguments = {str(name): value for name, value in node.items() if name != "_target_"}
    for name, value in arguments.items():
        if isinstance(value, Mapping) and "_target_" in value:
            arguments[name] = construct(value, f"{key}.{name}", _class_in(hints.get(name)))
    _check_arguments(target, arguments, key, hints)
    try:
        return _optimizer(target, arguments) if key == "optimizer" else target(**arguments)
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        raise InputError(f"{key}: {error}") from error


def settable(target: str, group: str) -> list[str]:
    """Names of the arguments that an allowed target of a group takes."""
    found = guard.located(target, group, object)
    return [name for name in _parameters(found) if name not in ("params", "args", "kwargs")]


def _check_arguments(target: type, arguments: Mapping[str, Any], key: str, hints: Mapping[str, Any]) -> None:
    parameters = _parameters(target)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = [name for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    messages: list[str] = []
    for name, value in arguments.items():
        if name not in names and not takes_any:
            choices = [f"{key}.{choice}" for choice in names if choice != "params"]
            messages += unknown("setting", f"{key}.{name}", choices).messages
        elif key == "optimizer":
            messages += _optimizer_violations(name, value, parameters[name].default if name in parameters else None)
        elif name in hints:
            messages += _violations(f"{key}.{name}", value, hints[name])
    for name in names:
        required = parameters[name].default is inspect.Parameter.empty or (key, name) == ("optimizer", "lr")
        if required and name not in arguments and name != "params":
            messages += [f"{key}.{name} must be given: add {key}.{name}=VALUE."]
    if messages:
        raise InputError(*messages)


def _violations(key: str, value: Any, annotation: Any) -> list[str]:
    from pydantic import ValidationError

    try:
        _adapter(annotation).validate_python(value)
    except ValidationError as error:
        reasons = dict.fromkeys(problem["msg"].replace("Input should be ", "") for problem in error.errors())
        return [f"{key} must be {' or '.join(reasons)}, but is {'null' if value is None else repr(value)}."]
    return []


# Asked again for every run of a comparison, and slow to make anew
@cache
def _fields(schema: type) -> dict[str, Any]:
    return get_type_hints(schema)


@cache
def hints_of(target: type) -> dict[str, Any]:
    """The annotations of a target's arguments."""
    return get_type_hints(inspect.getattr_static(target, "__init__"), include_extras=True)


@cache
def _parameters(target: type) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(target).parameters


@cache
def _adapter(annotation: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(annotation, config=ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False))


def _optimizer(target: type, arguments: Mapping[str, Any]) -> Callable[..., Any]:
    from headstart.optimizer_trial import check_optimizer

    check_optimizer(target, arguments)
    return partial(target, **arguments)


def _optimizer_violations(name: str, value: Any, default: Any) -> list[str]:
    """As `_violations`, for constructors that are not ours: a value must be like the default."""
    own = {"lr": Positive, "weight_decay": NonNegative}
    if name in own:
        return _violations(f"optimizer.{name}", value, own[name])
    if isinstance(default, (bool, int, float)):
        return _violations(f"optimizer.{name}", value, bool if isinstance(default, bool) else float)
    if isinstance(default, tuple) and not (isinstance(value, list) and len(value) == len(default)):
        return [f"optimizer.{name} must be {len(default)} values, as in {list(default)}, but is {value!r}."]
    return []


def _class_in(annotation: Any) -> type:
    choices = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return next((choice for choice in choices if inspect.isclass(choice) and choice is not type(None)), type(None))


def settings(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config, flat (`{"optimizer.lr": 1e-3, …}`), without what cannot change a run's numbers."""
    container = OmegaConf.to_container(cfg, resolve=True)
    flat = dict(_flatten(container, ""))
    dropped = INCIDENTAL | {f"data.{name}" for name in INCIDENTAL_DATA} | INCIDENTAL_WEIGHTS
    keep = {
        key: value
        for key, value in flat.items()
        if not any(key == name or key.startswith(f"{name}.") for name in dropped)
    }
    for key, value in OFF.items():
        if keep.get(key) == value:
            keep.pop(key, None)
    return keep


def run_id(identity: Mapping[str, Any]) -> str:
    """The name of a run: 12 hexadecimal digits of the sha256 over everything that can change its numbers."""
    text = json.dumps({"schema": IDENTITY_SCHEMA, **identity}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _flatten(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node
