"""Configs composed by Hydra's rules, guarded."""

import pickle
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf, open_dict

from headstart import config
from headstart.errors import InputError
from headstart.explanation import CHOICES, COMPOSITION_ERRORS, CONFIG_NAME, check_overrides, explained

HYDRA_PACKAGES = ("hydra", "hydra_plugins", "headstart")
"""What `hydra.*` targets (launchers, sweepers, callbacks) may come from."""


def conf_dir() -> Path:
    """The folder of config groups: inside the installed package, or beside `src/` in a checkout."""
    packaged = Path(__file__).parent / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "conf"


def search_path(config_path: str | None = None, config_dir: str | None = None) -> ConfigSearchPath:
    """Where configs are looked for: ours, after the user's own folder if there is one."""
    setbase("1.3")
    config.register()
    path = create_config_search_path(str(config_path or conf_dir()))
    if config_dir is not None:
        folder = Path(config_dir).expanduser().absolute()
        if not folder.is_dir():
            raise InputError(f"--config-dir must be a folder, but {folder} is none.")
        path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    return path


def check_targets(cfg: DictConfig) -> None:
    """Raise `InputError` for any `_target_` in the config that lies outside the allowed packages."""
    for key in cfg:
        packages = HYDRA_PACKAGES if key == "hydra" else config.ALLOWED_PACKAGES
        config.check_targets(OmegaConf.select(cfg, str(key), throw_on_missing=False), str(key), packages)


class Composer:
    """Composes many runs of one comparison: once for each set of choices, values set on top of that.

    Hydra takes some 90 ms to compose a config; setting a value on one takes half of one. Values that are `common` to
    all runs are set once.
    """

    def __init__(self, loader: ConfigLoader, common: Sequence[str] = (), config_name: str = CONFIG_NAME) -> None:
        self.loader, self.config_name, self.common = loader, config_name, list(common)
        self.parser = OverridesParser.create(config_loader=loader)
        self.composed: dict[tuple[str, ...], bytes] = {}
        self.parsed: dict[str, Override] = {}

    def compose(self, overrides: Sequence[str]) -> tuple[DictConfig, DictConfig]:
        """The config of one run, and the choices and overrides of its `hydra` node.

        Raises:
            InputError: for an unknown choice or key, or a value of the wrong type.
        """
        try:
            parsed = [self._parse(line) for line in overrides]
            check_overrides(parsed, self.loader)
            values = [one for one in parsed if _is_plain_value(one.input_line or "")]
            first = [one for one in parsed if one not in values or one.input_line in self.common]
            if len({one.key_or_group for one in parsed}) < len(parsed):
                first = parsed  # a key is set twice, and the later value counts
            key = tuple(one.input_line or "" for one in first)
            if key not in self.composed:
                # read four times as fast as a config is copied
                self.composed[key] = pickle.dumps(self._load(key))
            cfg = pickle.loads(self.composed[key])
            ConfigLoaderImpl._apply_overrides_to_config([one for one in values if one not in first], cfg)
        except COMPOSITION_ERRORS as error:
            raise explained(error, self.loader, overrides) from error
        with open_dict(cfg):
            hydra = cfg.pop("hydra")
        hydra.overrides.task = [one.input_line for one in parsed]
        return cfg, hydra

    def _load(self, overrides: Sequence[str]) -> DictConfig:
        cfg = self.loader.load_configuration(self.config_name, list(overrides), RunMode.RUN)
        check_targets(cfg)
        chosen = {"runtime": {"choices": cfg.hydra.runtime.choices}, "overrides": {"task": []}}
        with open_dict(cfg):
            cfg.hydra = OmegaConf.create(chosen)  # the rest is large
        return cfg

    def _parse(self, line: str) -> Override:
        if line not in self.parsed:
            (self.parsed[line],) = self.parser.parse_overrides([line])
        return self.parsed[line]


def _is_plain_value(line: str) -> bool:
    """Whether an override sets a value of ours, and chooses, adds or deletes nothing."""
    key = line.partition("=")[0]
    return key not in CHOICES and key[:1] not in "+~" and not key.startswith("hydra") and "/" not in key
