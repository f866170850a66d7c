"""What a config may do, whoever wrote it: build parts of allowed packages, and nothing else.

Every setting comes from one of three places. Our own files are trusted. Words typed on the command line are the
user's, and may say where things are written. All other files (a `--config-dir`, and the words that an experiment lists
for its runs) may be a stranger's. Each file is checked as it is read and each word before it is applied, so nothing
has acted on either; what the composition comes to is checked once more. See docs/safety.md.
"""

import inspect
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import Any

from headstart.config.overrides import words
from headstart.errors import InputError, unknown
from headstart.system.places import check_name

log = logging.getLogger(__name__)

PACKAGES = {"optimizer": ("headstart", "torch.optim", "timm.optim", "transformers.optimization")}
"""What the targets of a group may come from, if not from headstart alone."""
LAUNCHERS = {
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher": "basic",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher": "joblib",
    "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher": "ray",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher": "submitit_local",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher": "submitit_slurm",
}
"""By class, the name under which it is chosen."""
RESOURCES = frozenset(
    {"n_jobs", "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name"}
    | {"partition", "qos", "comment", "constraint", "exclude", "gres", "cpus_per_gpu", "gpus_per_task", "account"}
    | {"mem_per_gpu", "mem_per_cpu", "signal_delay_s", "max_num_timeout", "array_parallelism", "stderr_to_stdout"}
    | {f"ray.{stage}.num_{what}" for stage in ("init", "remote") for what in ("cpus", "gpus")}
)
"""Fields of launchers that ask for resources. The others name commands, folders and programs."""
SWEEPER = ("params", "zip", "runs", "resources", "dry_run", "retry_failed", "fresh_seeds")
OPEN = ("run.dir", "sweep.dir", "verbose", "launcher", *(f"sweeper.{name}" for name in SWEEPER))
"""All that can be set under `hydra.`."""
OWN_HYDRA = {
    "train": "",
    "hydra/config": "hydra",
    "hydra/output/default": "hydra",
    **{f"hydra/{group}/headstart": f"hydra.{group}" for group in ("sweeper", "help", "hydra_logging", "job_logging")},
    **{f"hydra/{group}/default": f"hydra.{group}" for group in ("hydra_help", "env")},
    **{f"hydra/launcher/{name}": "hydra.launcher" for name in LAUNCHERS.values()},
}
"""Trusted configs that may set the rest of it, each with the place where it belongs."""
FILLED_IN = frozenset({"choices", "overrides", "companions", "fused_with", "trial"})
"""What the program itself notes down in a config."""
RESOLVERS = frozenset({"now", "run_id", "oc.env"})
"""Functions that a value may call; each gives a text. Others make settings that no one has checked."""
VARIABLES = re.compile(r"HOME|USER|HOSTNAME|TMPDIR|SCRATCH|HEADSTART_\w+")
"""Environment variables that a file may read: their values end in the record of a run, so no secrets."""
_PART = r"/(?![.])(?:[\w ,=@+.-]|\$\{(?:name|seed|run_id:|now:%[%\w-]*)\})+"
_BELOW_OUTPUTS = re.compile(rf"outputs(?:{_PART})+")
PLACES = {
    "hydra.run.dir": _BELOW_OUTPUTS,
    "hydra.sweep.dir": _BELOW_OUTPUTS,
    "features.root": _BELOW_OUTPUTS,
    "logger.tracking_uri": re.compile(rf"sqlite:///outputs(?:{_PART})+"),
}
"""Where a run writes or tells of itself, and how far a file may choose that."""
_DOTTED = re.compile(r"(?:(?!__)[^\W\d]\w*[.])+(?!__)[^\W\d]\w*")


def check_file(where: str, config_path: str, package: str, node: Any, trusted: bool) -> None:
    """Raise `InputError` for what a file of a config group may not set. Nothing in it has been resolved yet.

    Args:
        where: The file, for messages.
        config_path: Its name in the search path, such as `experiment/demo`.
        package: Where its settings go: a dotted key, empty for the top.
        node: Its settings, at their place.
        trusted: Whether it is one of ours.
    """
    if trusted and OWN_HYDRA.get(config_path) == package:
        return
    if trusted and config_path.startswith("hydra/launcher/"):
        raise unknown("hydra/launcher", config_path.rpartition("/")[2], LAUNCHERS.values())
    leaves = [(key, value) for key, value in _leaves(node, "") if not trusted or _under(key, "hydra")]
    _refuse(f"{where}: {problem}" for key, value in leaves for problem in _problems(key, value, typed=False))


def check_defaults(where: str, names: Iterable[str]) -> None:
    """Raise `InputError` for what the defaults list of another's file may not name: Hydra's own configs, or secrets."""
    found: list[str] = []
    for name in names:
        found += _text_problems("defaults", name, typed=False)
        group = name.lstrip("/")
        if re.match(r"hydra(/(?!launcher(/|$))|$)", group):
            found.append(f"{group} cannot be chosen; under hydra only hydra/launcher can.")
    _refuse(f"{where}: {problem}" for problem in found)


def check_words(words: Iterable[Any], typed: bool) -> None:
    """Raise `InputError` for what overrides (as Hydra parses them) may not set; `typed` are the command line's own."""
    found: list[str] = []
    for word in words:
        key = word.key_or_group.replace("/", ".")
        if _under(key, "hydra") and (not typed or word.is_delete()):
            found.append(f"{word.input_line}: hydra.* can be set once, for all runs, and not be deleted.")
            continue
        for value in _values(word):
            for leaf, content in _leaves(value, key):
                found += [f"{word.input_line}: {problem}" for problem in _problems(leaf, content, typed)]
    _refuse(found)


def check_composed(cfg: Any) -> None:
    """Raise `InputError` if the launcher, the sweeper or the name that a whole config came to cannot be taken."""
    from omegaconf import OmegaConf

    for key in cfg:
        if key != "hydra":
            OmegaConf.select(cfg, str(key), throw_on_missing=False)  # what is worked out must suit its setting
    check_name(str(cfg.name), "name")
    found: list[str] = []
    launcher, sweeper = OmegaConf.to_container(cfg.hydra.launcher, resolve=True), cfg.hydra.sweeper
    if not isinstance(launcher, Mapping) or launcher.get("_target_") not in LAUNCHERS:
        raise unknown("hydra/launcher", cfg.hydra.runtime.choices.get("hydra/launcher"), LAUNCHERS.values())
    for key, value in _leaves({name: value for name, value in launcher.items() if name != "_target_"}, ""):
        full = f"hydra.launcher.{key}"
        if any(part.startswith("_") for part in key.split(".")):
            found.append(f"{full} cannot be set: a launcher is chosen by hydra/launcher=NAME.")
        if isinstance(value, str) and not value.isprintable():
            found.append(f"{full} must be one line of printable characters, but is {value!r}.")
    for name in ("params", "zip"):
        if sweeper.get(name) is not None and not OmegaConf.is_dict(sweeper[name]):
            found.append(f"hydra.sweeper.{name} must hold values by setting, such as {{seed: '0,1'}}.")
    verbose = cfg.hydra.verbose
    names = list(verbose) if OmegaConf.is_list(verbose) else [verbose]
    if not isinstance(verbose, bool) and not all(isinstance(name, str) for name in names):
        found.append(f"hydra.verbose must be true, false or names of loggers, but is {verbose!r}.")
    _refuse(found)


def sweeper_words(sweeper: Mapping[str, Any]) -> list[str]:
    """The overrides that `hydra.sweeper` lists for its runs, which an experiment may have brought."""
    pairs = [pair for name in ("params", "zip") for pair in (sweeper.get(name) or {}).items()]
    assigned = [f"{key}={'null' if value is None else value}" for key, value in pairs]
    try:
        return [*assigned, *(word for line in sweeper.get("runs") or [] for word in words(str(line)))]
    except ValueError:  # a quote or bracket that is not closed is said where the runs are drawn up
        return assigned


def forget_places(cfg: Any) -> None:
    """Take out of a record's config where the run wrote or told of itself, as far as no file may choose that."""
    from omegaconf import OmegaConf

    for key in ("features.root", "logger.tracking_uri"):
        value = OmegaConf.select(cfg, key)
        if value is not None and not PLACES[key].fullmatch(str(value)):
            log.warning("%s=%s of the record is not used, but the default of this machine.", key, value)
            OmegaConf.update(cfg, key, None)


def located(target: Any, key: str, kind: type) -> type:
    """The class that a `_target_` names: of `kind`, and defined in a package that the group of `key` allows.

    Raises:
        InputError: if it is anything else.
    """
    _refuse(_target_problems(f"{key}._target_", target))
    module, _, name = str(target).rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{key}._target_ must name an importable object, but {target!r} cannot be imported: {error}."
        ) from error
    if not (inspect.isclass(found) and issubclass(found, kind)):
        raise InputError(f"{key}._target_ must be a {kind.__name__}, but {target} is not one.")
    if not _allowed(f"{found.__module__}.{found.__qualname__}", key):  # a module may hold what it imported
        raise InputError(f"{key}._target_ must name a class where it is defined, but {target} is {found!r}.")
    return found


def _problems(key: str, value: Any, typed: bool) -> Iterator[str]:
    """What speaks against one setting, as it was written."""
    place = re.sub(r"\[\d+\]", "", key)
    if place.partition(".")[0] in FILLED_IN:
        yield f"{key} is filled in by the program and cannot be set."
    if isinstance(value, str):
        yield from _text_problems(place, value, typed)
    elif value is not None and not isinstance(value, (bool, int, float, Mapping, Sequence)):
        yield f"{key} must be a number, a text, a list or settings by name, but is {value!r}."
    if _under(place, "hydra"):
        yield from _hydra_problems(place, value, typed)
    elif place.rpartition(".")[2] == "_target_":
        yield from _target_problems(key, value)
    if typed:
        return
    rule = PLACES.get(place)
    if rule is not None and value is not None and not (isinstance(value, str) and rule.fullmatch(value)):
        yield (
            f"{key}={value} can be set on the command line alone: a file may choose a place below outputs/ and no other"
        )
    if isinstance(value, str) and "${" in value and any(name.startswith(f"{place}.") for name in PLACES):
        yield f"{key} must be settings by name, but is {value!r}."


def _hydra_problems(place: str, value: Any, typed: bool) -> Iterator[str]:
    if not any(_under(place, f"hydra.{name}") for name in OPEN):
        named = place.split(".")
        first = ".".join(named[: 3 if named[1:2] in (["run"], ["sweep"], ["sweeper"]) else 2])
        yield f"{first} cannot be set. Under hydra only these can: {', '.join(OPEN)}."
    elif _under(place, "hydra.launcher") and not typed:
        field = place.removeprefix("hydra.launcher.")
        plain = isinstance(value, (bool, int, float)) or (isinstance(value, str) and "${" not in value)
        if field not in RESOURCES or not (value is None or plain):
            yield (
                f"{place} can be set on the command line alone, as what a launcher is given may be commands that it "
                "runs. A file may ask for resources (docs/safety.md lists them), in plain numbers and words."
            )


def _text_problems(place: str, text: str, typed: bool) -> Iterator[str]:
    if "${" not in text:
        return
    for name, argument in _resolvers(text):
        if name not in RESOLVERS:
            yield f"{place} calls ${{{name}:…}}, but a value may call {', '.join(sorted(RESOLVERS))} alone."
        elif name == "run_id" and place not in ("hydra.run.dir", "hydra.sweep.dir"):
            yield f"{place} calls ${{run_id:}}, which only hydra.run.dir and hydra.sweep.dir can."
        elif name == "oc.env" and not typed and not VARIABLES.fullmatch(argument):
            yield (
                f"{place} reads the environment variable {argument}, whose value would end in the record of the run. "
                "A file may read HOME, USER, HOSTNAME, TMPDIR, SCRATCH and HEADSTART_…, the command line any."
            )


def _resolvers(text: str) -> Iterator[tuple[str, str]]:
    """Name and first argument of every function that a value calls, however deep in it."""
    from omegaconf.grammar.gen.OmegaConfGrammarParser import OmegaConfGrammarParser
    from omegaconf.grammar_parser import parse

    nodes: list[Any] = [parse(text)]
    while nodes:
        node = nodes.pop()
        nodes += getattr(node, "children", None) or []
        if isinstance(node, OmegaConfGrammarParser.InterpolationResolverContext):
            arguments = node.sequence()
            yield node.resolverName().getText(), arguments.getChild(0).getText() if arguments else ""


def _target_problems(key: str, target: Any) -> list[str]:
    if not _allowed(target, key):
        return [
            f"{key} must lie in {', '.join(_packages(key))}, but is {target!r}. To allow a package of your own, set "
            "the environment variable HEADSTART_ALLOW=PACKAGE."
        ]
    module = str(target).rpartition(".")[0]
    return [] if _is_module(module) else [f"{key} must name a class in a module, but there is no module {module!r}."]


@cache
def _is_module(name: str) -> bool:
    """Whether there is a module of that name, found without importing anything."""
    first, *parts = name.split(".")
    try:
        spec = find_spec(first)
        for part in parts:
            if spec is not None:
                spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations or [])
    except (ImportError, ValueError):
        return False
    return spec is not None


def _allowed(target: Any, key: str) -> bool:
    dotted = isinstance(target, str) and _DOTTED.fullmatch(target)
    return bool(dotted) and any(str(target).startswith(f"{package}.") for package in _packages(key))


def _packages(key: str) -> tuple[str, ...]:
    own = (name.strip() for name in os.environ.get("HEADSTART_ALLOW", "").split(","))
    return (*PACKAGES.get(key.partition(".")[0], ("headstart",)), *filter(None, own))


def _under(key: str, parent: str) -> bool:
    return key == parent or key.startswith((f"{parent}.", f"{parent}["))


def _values(word: Any) -> list[Any]:
    """The value of an override, or all of them if it has several."""
    if not word.is_sweep_override():
        return [word.value()]
    elements = getattr(word.value(), "list", None) or []
    return [type(word)._convert_value(element) for element in elements]


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Every value with its full key; `data.shifts[0]` for those of lists."""
    if isinstance(node, Mapping) and node:
        for name, child in node.items():
            yield from _leaves(child, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list) and node:
        for place, child in enumerate(node):
            yield from _leaves(child, f"{key}[{place}]")
    else:
        yield key, node


def _refuse(problems: Iterable[str]) -> None:
    found = tuple(dict.fromkeys(problems))
    if found:
        raise InputError(*found)
