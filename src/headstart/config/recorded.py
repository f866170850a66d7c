"""The config that a run's directory keeps: written resolved, and read again by the same rules."""

import pickle
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from headstart.config.earlier import up_to_date
from headstart.config.overrides import literal
from headstart.config.schema import SECTIONS, Config, check_spine
from headstart.errors import InputError
from headstart.system import bounded
from headstart.system.bounded import DamagedError


def load(path: Path) -> DictConfig:
    """The config that a run keeps in the file `path`, held against the schema; what it lacks has its default.

    Raises:
        InputError: if there is none, or it has keys or values that the schema does not know.
    """
    try:
        found = _yaml(path)
    except OSError as error:
        raise InputError(f"{path.parent} must be a run's directory, but {path} cannot be read: {error}.") from error
    except DamagedError as error:
        raise InputError(f"{path} is not a run's config: {error}.") from error
    if not isinstance(found, Mapping):
        raise InputError(f"{path} is not a run's config: it holds no settings.")
    defaults = _defaults()
    # whom it was trained with then: who launches it says so anew
    cfg = {**defaults, **up_to_date(found), "companions": []}
    try:
        for name in SECTIONS:
            if isinstance(cfg[name], Mapping):
                cfg[name] = {key: _as_in(defaults[name].get(key), value) for key, value in cfg[name].items()}
                cfg[name] = {**defaults[name], **cfg[name]}
        check_spine(cfg)
        return _created(literal(cfg))
    except OmegaConfBaseException as error:
        raise InputError(f"{path} is not a run's config: {str(error).splitlines()[0]}.") from error
    except InputError as error:
        raise InputError(*(f"{path} is not a run's config: {message}" for message in error.messages)) from error


_LAST: list[tuple[dict[str, Any], bytes]] = []
"""The values that a config was created of last, and that config."""


def _created(values: dict[str, Any]) -> DictConfig:
    """As `OmegaConf.create`, a tenth of whose time it takes where little differs from what was created last."""
    for before, kept in _LAST[:]:
        cfg = pickle.loads(kept)
        if _brought_up(cfg, before, values):
            return cast(DictConfig, cfg)
    cfg = OmegaConf.create(values)
    _LAST[:] = [(values, pickle.dumps(cfg))]
    return cfg


def _brought_up(cfg: Any, before: Any, values: Any) -> bool:
    """Set what differs in a node that was created of `before`; false if the two have not the same keys."""
    if isinstance(values, list) and isinstance(before, list):
        before, values = dict(enumerate(before)), dict(enumerate(values))
    if not isinstance(values, dict) or not isinstance(before, dict) or list(before) != list(values):
        return False
    for key, value in values.items():
        old = before[key]
        if repr(value) == repr(old):  # 1, 1.0 and true are equal, and not the same
            continue
        if not isinstance(value, dict | list) or type(value) is not type(old) or len(value) != len(old):
            cfg[key] = value
        elif not _brought_up(cfg[key], old, value):
            return False
    return True


def composed(path: Path) -> DictConfig:
    """A config that was written by `dumped(cfg, resolve=False)`: what it interpolates is worked out anew."""
    return cast(DictConfig, OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(_yaml(path))))


def _as_in(default: Any, value: Any) -> Any:
    """`value`, a whole number, as a float where the setting is one: 0 and 0.0 would be two runs."""
    return float(value) if isinstance(default, float) and type(value) is int else value


@cache
def _defaults() -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.structured(Config)))


def dumped(cfg: DictConfig, resolve: bool = True) -> str:
    """As `OmegaConf.to_yaml(cfg, resolve)`, by the same rules, but written in C where that is there."""
    import yaml

    values = OmegaConf.to_container(cfg, resolve=resolve, enum_to_str=True)
    assert isinstance(values, dict)
    # whom it is launched with is said anew each time
    return yaml.dump(
        {**values, "companions": []},
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
