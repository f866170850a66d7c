"""Texts that look like numbers: a folder called 2024, a column called 0, a name like 1e3.

What is typed is read as a number, whatever it is for. Where a setting is a text, it becomes the text that was typed,
not a spelling of that number.
"""

import re
from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from headstart.config import binding, guard, schema
from headstart.config.overrides import as_written
from headstart.errors import InputError

UNQUOTED = re.compile(r"[\w.+-]+")


def keep_texts(cfg: DictConfig) -> None:
    """Set every text setting to what was typed for it in `cfg.overrides`; whole numbers of a file become text."""
    typed = dict(line.lstrip("+").partition("=")[::2] for line in as_written(cfg.overrides))
    _keep(cfg, "", {"name": str}, typed)
    _keep(cfg.features, "features.", {"root": str}, typed)
    for group in schema.GROUPS:
        node = cfg[group]  # once: looking a node up is slow, and there may be thousands of runs
        _keep(node, f"{group}.", _kinds(str(node.get("_target_")), group), typed)


def _keep(node: DictConfig, prefix: str, kinds: Mapping[str, Any], typed: Mapping[str, str]) -> None:
    for name, kind in kinds.items():
        try:
            value = node.get(name)
        except OmegaConfBaseException:  # what cannot be worked out is said where all is checked
            continue
        if OmegaConf.is_dict(value) and dict[str, str] in _parts(kind):
            if not all(isinstance(key, str) for key in value):
                node[name] = value = OmegaConf.create({str(key): item for key, item in as_written(value).items()})
            _keep(node[name], f"{prefix}{name}.", dict.fromkeys(value, str), typed)
        elif isinstance(value, (int, float, str)):
            text = _text(value, kind, typed.get(f"{prefix}{name}", "").strip())
            if text is not None:
                node[name] = text


def _text(value: Any, kind: Any, typed: str) -> str | None:
    """What a text setting shall be, `None` for as it is."""
    is_number = not isinstance(value, str)
    if UNQUOTED.fullmatch(typed) and typed != "null":
        kept = typed
    elif type(value) is int:
        kept = str(value)  # of a file, or of an interpolation
    else:
        return None
    if is_number and type(value) in _choices(kind) and kept == str(value):
        return None
    return None if kept == value else kept


@cache
def _kinds(target: str, group: str) -> dict[str, Any]:
    """The arguments of a target that may be a text, or texts by name, with their annotations."""
    try:
        hints = binding.hints_of(guard.located(target, group, object))
    except (InputError, AttributeError, NameError):  # it is refused where targets are checked
        return {}
    return {name: kind for name, kind in hints.items() if str in _choices(kind) or dict[str, str] in _parts(kind)}


def _parts(kind: Any) -> tuple[Any, ...]:
    if get_origin(kind) in (Union, UnionType):
        return tuple(part for choice in get_args(kind) for part in _parts(choice))
    return _parts(get_args(kind)[0]) if get_origin(kind) is Annotated else (kind,)


def _choices(kind: Any) -> set[Any]:
    """The plain types that an annotation allows."""
    return {get_origin(part) or part for part in _parts(kind)}
