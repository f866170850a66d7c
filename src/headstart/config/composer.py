"""Configs composed by Hydra's rules, guarded."""

import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository, IConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import GroupDefault, InputDefault, ResultDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf, open_dict

from headstart.config import guard, schema
from headstart.config.explanation import CHOICES, COMPOSITION_ERRORS, CONFIG_NAME, check_overrides, explained
from headstart.config.overrides import as_written
from headstart.config.user_files import use_checked_files
from headstart.errors import InputError

OTHERS = "command-line"
"""What Hydra calls the origin of a `--config-dir`'s configs."""
OURS = ("hydra", "main")


def conf_dir() -> Path:
    """The folder of config groups: inside the installed package, or beside `src/` in a checkout."""
    packaged = Path(__file__).parents[1] / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "conf"


@dataclass
class SweeperConfig:
    """`hydra.sweeper`: how the runs of a comparison are drawn up and carried out.

    Args:
        params: a grid of overrides that an experiment brings, `{strategy: "a,b", seed: "0,1,2"}`.
        zip: overrides that vary together, `{split.n_per_class: "5,10", trainer.max_epochs: "40,20"}`.
        runs: an explicit list of runs, each a line of overrides; every one is combined with the grid.
        resources: what kinds of runs ask the launcher for, `{heads: {mem_gb: 4}, strategy: {lora: {mem_gb: 32}}}`.
        dry_run: print what would be done.
        retry_failed: do failed runs again.
        fresh_seeds: run what was selected on val anew on so many seeds that nothing was selected on, or `as_many` as
            there are; only those count in the report.
    """

    params: Any = None  # dict[str, str], but the command line could not set that
    zip: Any = None
    runs: list[str] = field(default_factory=list)
    resources: Any = None
    dry_run: bool = False
    retry_failed: bool = False
    fresh_seeds: Any = None


def search_path(config_dir: str | None = None) -> ConfigSearchPath:
    """Where configs are looked for: ours, then the user's own folder if there is one."""
    setbase("1.3")
    path = create_config_search_path(str(conf_dir()))
    schema.register()
    ConfigStore.instance().store(group="hydra/sweeper", name="headstart", node=SweeperConfig, provider="headstart")
    use_checked_files()
    if config_dir is not None:
        if not config_dir.strip():
            raise InputError("--config-dir must name a folder, but is empty.")
        folder = Path(config_dir).expanduser().absolute()
        if not folder.is_dir():
            raise InputError(f"--config-dir must be a folder, but {folder} is none.")
        path.prepend(OTHERS, f"file://{folder}", SearchPathQuery(provider="schema"))
    return path


class Repository(ConfigRepository):
    """Configs by name; those of a `--config-dir` add to ours, and lie in it."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        if config_path.startswith("/") or ".." in config_path.split("/"):
            raise InputError(f"A config is named from the top of its folder, so {config_path!r} cannot be one.")
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.provider != OTHERS:
            return super().load_config(config_path)
        folder = Path(source.path).resolve()
        file = folder.joinpath(source._normalize_file_name(config_path)).resolve()
        if not file.is_relative_to(folder):
            raise InputError(f"{config_path} must lie in {folder}, but is a link to {file}.")
        if config_path == "schema" or re.match(r"hydra/(?!launcher/)", config_path):
            raise InputError(f"{file} cannot take the place of our own: a --config-dir adds groups and launchers.")
        found = super().load_config(config_path)
        if found is not None:
            words = [word for one in found.defaults_list or [] for word in _chosen(one)]
            guard.check_defaults(str(file), words)
        return found


def _chosen(default: InputDefault) -> list[str]:
    """The groups and names in one entry of a defaults list, as written."""
    if isinstance(default, GroupDefault):
        values = default.value if isinstance(default.value, list) else [default.value]
        return [str(word) for word in (default.group, *values)]
    return [str(getattr(default, "path", ""))]


class Loader(ConfigLoaderImpl):
    """Composes configs as Hydra does, each file and word of which is checked before anything acts on it."""

    def __init__(self, path: ConfigSearchPath) -> None:
        self.config_search_path, self.repository = path, Repository(path)

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """As Hydra's. Raises `InputError` for what a config may not do."""
        parser = OverridesParser.create(config_loader=self)
        guard.check_words(parser.parse_overrides(overrides), typed=True)
        cfg = super().load_configuration(config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
        guard.check_composed(cfg)
        guard.check_words(parser.parse_overrides(guard.sweeper_words(as_written(cfg.hydra.sweeper))), typed=False)
        return cfg

    def _process_config_searchpath(self, *_: Any) -> None:
        """`hydra.searchpath` may name packages, which Hydra would import: it is refused with the rest of `hydra`."""

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        found = super()._load_single_config(default, repo)
        name, trusted = str(default.config_path), found.is_schema_source or found.provider in OURS
        where = f"{found.path.removeprefix('file://')}/{name}.yaml"
        guard.check_file(where, name, default.package or "", as_written(found.config), trusted)
        return found


class Composer:
    """Composes many runs of one comparison: once for each set of choices, values set on top of that.

    Hydra takes some 90 ms to compose a config; setting a value on one takes half of one. Values that are `common` to
    all runs are set once.
    """

    def __init__(
        self,
        loader: ConfigLoader,
        common: Sequence[str] = (),
        config_name: str = CONFIG_NAME,
        finish: Callable[[DictConfig, Mapping[str, Any]], None] = lambda cfg, choices: None,
    ) -> None:
        """`finish` is called once for each set of choices, with the config and what was chosen of each group."""
        self.loader, self.config_name, self.common, self.finish = loader, config_name, list(common), finish
        self.parser = OverridesParser.create(config_loader=loader)
        self.kept: dict[tuple[str, ...], bytes] = {}
        self.parsed: dict[str, Override] = {}

    def compose(self, overrides: Sequence[str]) -> tuple[DictConfig, DictConfig]:
        """The config of one run, and the choices and overrides of its `hydra` node.

        Raises:
            InputError: for an unknown choice or key, or a value of the wrong type.
        """
        cfg, words = self.composed_with(overrides)
        with open_dict(cfg):
            hydra = cfg.pop("hydra")
        hydra.overrides.task = words
        return cfg, hydra

    def composed_with(self, overrides: Sequence[str]) -> tuple[DictConfig, list[str]]:
        """As `compose`, with a `hydra` node that says nothing of the overrides, and these as they were read."""
        try:
            parsed = [self._parse(line) for line in overrides]
            check_overrides(parsed, self.loader)
            values = [one for one in parsed if _is_plain_value(one.input_line or "")]
            first = [one for one in parsed if one not in values or one.input_line in self.common]
            if len({one.key_or_group for one in parsed}) < len(parsed):
                first = parsed  # a key is set twice, and the later value counts
            key = tuple(one.input_line or "" for one in first)
            if key not in self.kept:
                # read four times as fast as a config is copied
                self.kept[key] = pickle.dumps(self._load(key))
            cfg = pickle.loads(self.kept[key])
            ConfigLoaderImpl._apply_overrides_to_config([one for one in values if one not in first], cfg)
        except COMPOSITION_ERRORS as error:
            raise explained(error, self.loader, overrides) from error
        return cfg, [one.input_line or "" for one in parsed]

    def _load(self, overrides: Sequence[str]) -> DictConfig:
        cfg = self.loader.load_configuration(self.config_name, list(overrides), RunMode.RUN)
        chosen = {"runtime": {"choices": cfg.hydra.runtime.choices}, "overrides": {"task": []}}
        with open_dict(cfg):
            cfg.hydra = OmegaConf.create(chosen)  # the rest is large
        self.finish(cfg, chosen["runtime"]["choices"])
        return cfg

    def _parse(self, line: str) -> Override:
        if line not in self.parsed:
            (self.parsed[line],) = self.parser.parse_overrides([line])
        return self.parsed[line]


def _is_plain_value(line: str) -> bool:
    """Whether an override sets a value of ours, and chooses, adds or deletes nothing."""
    key = line.partition("=")[0]
    return key not in CHOICES and key[:1] not in "+~" and not key.startswith("hydra") and "/" not in key
