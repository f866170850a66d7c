"""The parts of a run, bound to the constructors that a config names: all that is wrong is said at once, before
anything slow. A config from a stranger can build parts of the allowed packages and nothing else."""

import inspect
import types
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from headstart.config import guard
from headstart.config.earlier import renamed
from headstart.config.ranges import Penalty, Positive, violations
from headstart.config.schema import GROUPS, check_spine
from headstart.errors import InputError, collect, unknown


def bind(cfg: DictConfig | Mapping[str, Any], try_optimizer: bool = True) -> dict[str, Any]:
    """Build the part of every group from its node; the optimizer's comes as a `partial` that lacks its parameters.

    `cfg`: the config, or what it comes to, resolved.

    `try_optimizer`: whether it is made once and takes a step, to see that it can; torch needs seconds to get ready for
    that, and a finished run needs no optimizer.

    Raises:
        InputError: with every problem of every group, each naming the full key, the value and the remedy.
    """
    container = resolved(cfg) if isinstance(cfg, DictConfig) else cfg
    parts: dict[str, Any] = {}
    checks = [partial(check_spine, container)]
    checks += [
        partial(_bind_group, parts, group, kind, container.get(group, {}), try_optimizer)
        for group, kind in GROUPS.items()
    ]
    collect(checks)
    return parts


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """A config as plain values; a millisecond or two, so that who needs it twice hands it on."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))


def _bind_group(parts: dict[str, Any], group: str, kind: str, node: Mapping[str, Any], try_optimizer: bool) -> None:
    module, _, name = kind.rpartition(".")
    parts[group] = construct(node, group, getattr(import_module(module), name), try_optimizer)


def construct(node: Mapping[str, Any], key: str, kind: type, try_optimizer: bool = True) -> Any:
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
        return _optimizer(target, arguments, try_optimizer) if key == "optimizer" else target(**arguments)
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
            messages += [renamed(f"{key}.{name}") or str(unknown("setting", f"{key}.{name}", choices))]
        elif key == "optimizer":
            messages += _optimizer_violations(name, value, parameters[name].default if name in parameters else None)
        elif name in hints and isinstance(value, str) and not value.strip():
            messages += [f"{key}.{name} must not be empty: give a value, or leave it out for its default."]
        elif name in hints:
            messages += violations(f"{key}.{name}", value, hints[name])
    for name in names:
        required = parameters[name].default is inspect.Parameter.empty or (key, name) == ("optimizer", "lr")
        if required and name not in arguments and name != "params":
            messages += [f"{key}.{name} must be given: add {key}.{name}=VALUE."]
    if messages:
        raise InputError(*messages)


@cache
def hints_of(target: type) -> dict[str, Any]:
    """The annotations of a target's arguments."""
    return get_type_hints(inspect.getattr_static(target, "__init__"), include_extras=True)


@cache
def _parameters(target: type) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(target).parameters


def _optimizer(target: type, arguments: Mapping[str, Any], is_tried: bool) -> Callable[..., Any]:
    if is_tried:
        from headstart.config.optimizer_trial import check_optimizer

        check_optimizer(target, arguments)
    return partial(target, **arguments)


def _optimizer_violations(name: str, value: Any, default: Any) -> list[str]:
    """As `violations`, for constructors that are not ours: a value must be like the default."""
    own = {"lr": Positive, "weight_decay": Penalty, "foreach": bool | None, "fused": bool | None}
    if name in own:
        return violations(f"optimizer.{name}", value, own[name])
    if isinstance(default, (bool, int, float)):
        return violations(f"optimizer.{name}", value, bool if isinstance(default, bool) else float)
    if isinstance(default, tuple) and not (isinstance(value, list) and len(value) == len(default)):
        return [f"optimizer.{name} must be {len(default)} values, as in {list(default)}, but is {value!r}."]
    return []


def _class_in(annotation: Any) -> type:
    choices = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return next((choice for choice in choices if inspect.isclass(choice) and choice is not type(None)), type(None))
