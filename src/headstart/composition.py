"""Configs composed by Hydra's rules, guarded, with its errors in our words."""

from collections.abc import Sequence
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from headstart import config
from headstart.errors import InputError, unknown

CONFIG_NAME = "train"
HYDRA_PACKAGES = ("hydra", "hydra_plugins", "headstart")
"""What `hydra.*` targets (launchers, sweepers, callbacks) may come from."""
CHOICES = frozenset({*config.GROUPS, "trainer", "experiment"})
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException)


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
        folder = Path(config_dir).absolute()
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

    Hydra takes some 90 ms to compose a config; setting values on one takes a few.
    """

    def __init__(self, loader: ConfigLoader, config_name: str = CONFIG_NAME, common: Sequence[str] = ()) -> None:
        self.loader, self.config_name, self.common = loader, config_name, list(common)
        self.parser = OverridesParser.create(config_loader=loader)
        self.composed: dict[tuple[str, ...], DictConfig] = {}

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The config of one run, with its `hydra` node.

        Raises:
            InputError: for an unknown choice or key, or a value of the wrong type.
        """
        try:
            parsed = self.parser.parse_overrides(list(overrides))
            values = [one for one in parsed if _is_plain_value(one.input_line or "")]
            choices = tuple(one.input_line or "" for one in parsed if one not in values)
            if choices not in self.composed:
                cfg = self.loader.load_configuration(self.config_name, [*self.common, *choices], RunMode.RUN)
                check_targets(cfg)
                self.composed[choices] = cfg
            cfg = self.composed[choices].copy()
            ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
        except COMPOSITION_ERRORS as error:
            raise explained(error, self.loader, overrides) from error
        cfg.hydra.overrides.task = [one.input_line for one in parsed]
        return cfg


def explained(error: Exception, loader: ConfigLoader, overrides: Sequence[str]) -> InputError:
    """Hydra's error as one message, with the choices where a name is unknown."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = (error.missing_cfg_file or "").rpartition("/")
        return unknown(group or "config", choice, error.options)
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = getattr(cause, "full_key", None)
    reason = str(getattr(cause, "msg", None) or cause).splitlines()[0]
    if key and "not in" in reason:
        parent = str(key).rpartition(".")[0]
        prefix = f"{parent}." if parent else ""
        return unknown("setting", key, [f"{prefix}{name}" for name in _siblings(parent, loader, overrides)])
    if "Ambiguous value for argument" in str(error):
        return InputError(f"{str(error).splitlines()[0]} To compare several values, add -m.")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if cause is error else f"{key}: {reason}"
    return InputError(first if first.endswith(".") else f"{first}.")


def _is_plain_value(line: str) -> bool:
    """Whether an override sets a value of ours, and chooses, adds or deletes nothing."""
    key = line.partition("=")[0]
    return key not in CHOICES and key[:1] not in "+~" and not key.startswith("hydra") and "/" not in key


def _siblings(parent: str, loader: ConfigLoader, overrides: Sequence[str]) -> list[str]:
    """Names of the settings beside an unknown one, under the choices made."""
    choices = [word for word in overrides if word.partition("=")[0] in CHOICES - {"experiment"} and "," not in word]
    try:
        cfg = loader.load_configuration(CONFIG_NAME, choices, RunMode.RUN)
        node = OmegaConf.select(cfg, parent) if parent else cfg
        return [str(key) for key in node if key not in ("hydra", "choices", "overrides")]
    except (*COMPOSITION_ERRORS, TypeError):
        return []
