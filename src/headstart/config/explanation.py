"""What Hydra's errors mean, in our words, and overrides that it falls over without any."""

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override, QuotedString, Sweep
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError, InterpolationResolutionError, OmegaConfBaseException

from headstart.config import binding, elsewhere, guard, schema
from headstart.config.earlier import renamed
from headstart.config.elsewhere import found_elsewhere
from headstart.config.misread import how_to_write
from headstart.config.overrides import in_shell, key_of
from headstart.errors import InputError, unknown

CONFIG_NAME = "train"
CHOICES = frozenset({*schema.GROUPS, "trainer", "search", "experiment"})
LAUNCHER_EXTRAS = {"joblib": "joblib", "ray": "ray", "submitit_slurm": "slurm", "submitit_local": "slurm"}
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException)
INNER = frozenset({"hydra", "choices", "overrides", "companions", "fused_with", "_target_"})
"""Names in a config that nobody is told to set."""


def check_overrides(overrides: Sequence[Override], loader: ConfigLoader) -> None:
    """Raise `InputError` for overrides that Hydra itself falls over: no choice for a group, a run without a setting.

    Also for settings that are added where another choice would bring them.
    """
    for one in overrides:
        if one.is_add() and one.key_or_group.count(".") == 1:
            _check_added(one.key_or_group, loader, [str(other.input_line) for other in overrides])
        key = one.key_or_group
        if not key:
            raise InputError(f"{one.input_line} names no setting: write KEY=VALUE.")
        if one.is_delete() and (key in schema.SPINE or key in schema.GROUPS):
            raise InputError(f"{key} cannot be left out: every run has one. To change it, write {key}=VALUE.")
        if key in schema.SWITCHES and type(one.value()) in (int, float):
            raise InputError(f"{key} must be true or false, but is {one.value()}.")
        above = key.rpartition(".")[0]
        if above in schema.SPINE and above not in (*schema.GROUPS, *schema.SECTIONS):
            raise InputError(f"{above} is one value and has no settings below it: write {above}=VALUE.")
        is_choice = key in CHOICES or "/" in key or key == "hydra"
        if is_choice and not one.is_delete() and not isinstance(one.value(), (str, QuotedString, list, Sweep)):
            options, typed = loader.get_group_options(key), str(one.input_line).partition("=")[2]
            if typed in options:
                raise InputError(f"{one.input_line} is read as a number: write {in_shell(key, typed)}.")
            raise unknown(key, typed, options)
        chosen = one.value() if is_choice else None
        if (
            key in schema.GROUPS
            and isinstance(chosen, list)
            and len(chosen) > 1
            and all(isinstance(name, str) for name in chosen)
        ):
            raise InputError(
                f"A run has one {key}, but {one.input_line} lists {len(chosen)}: to compare them, use headstart "
                f"train -m and write {key}={','.join(chosen)}."
            )
        is_empty = chosen == [] and key != "experiment"
        if is_empty or (isinstance(chosen, list) and not all(isinstance(name, str) for name in chosen)):
            raise InputError(
                f"{one.input_line} must list names of configs: {', '.join(loader.get_group_options(key))}."
            )


def explained(error: Exception, loader: ConfigLoader, overrides: Sequence[str]) -> InputError:
    """Hydra's error as one message, with the choices where a name is unknown."""
    if isinstance(error, MissingConfigException) and error.options:
        group, choice = _missing(error.missing_cfg_file or "")
        found = unknown(group or "config", choice, error.options, _meant(group, choice))
        if group == "data" and ("/" in choice or Path(choice).suffix or Path(choice).is_dir()):
            found = InputError(f"{found} Where your own data lie is said by data.root=FOLDER or data.path=TABLE.")
        extra = LAUNCHER_EXTRAS.get(choice) if group == "hydra/launcher" else None
        return InputError(f"{found} It comes with pip install 'headstart[{extra}]'.") if extra else found
    if isinstance(error, OverrideParseException):
        return InputError(f"{error.override!r} cannot be read: {how_to_write(str(error.override), overrides)}")
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    text = f"{error}\n{cause}"
    named = re.search(r"full_key: (\S+)", text)
    key = getattr(cause, "full_key", None) or (named.group(1) if named else None)
    where = re.match(r"In '([^']+)'", text)
    if key and "is not Optional" in text:
        return InputError(f"{key} must have a value, but is null: leave it out for its default, or give {key}=VALUE.")
    if key and re.search(r"(Key|key) '\S+' (is )?not in", text):
        parent = str(key).rpartition(".")[0]
        if below := _below(parent, loader, overrides):
            return InputError(below.format(key=key, parent=parent))
        if now := renamed(str(key)):
            return InputError(now)
        found = _unknown(str(key), loader, overrides) or unknown("setting", key, [])
        return InputError(f"In {where.group(1)}: {found}") if where else found
    if "Ambiguous value for argument" in str(error):
        key, _, text = str(error).partition("'")[2].partition("'\n")[0].partition("=")
        return _unknown(key, loader, overrides) or InputError(
            f"{key}={text} has several values: headstart train -m compares them."
            f"{_other_ways(key, text, loader, overrides)}"
        )
    if already := re.search(r"An item is already at '([^']+)'", text):
        return InputError(f"{already[1]} is set already: to change it, write {already[1]}=VALUE, without +.")
    if isinstance(cause, (InterpolationResolutionError, GrammarParseError)):
        return InputError(
            f"{key or 'A setting'} cannot be worked out: {str(cause).splitlines()[0].rstrip('.')}. A setting may take "
            "the value of another of its run, as in ${seed} or ${data.root}, or of the environment: ${oc.env:NAME}."
        )
    reason = next((line for line in text.splitlines() if line.startswith(("Value ", "Invalid ", "Cannot "))), None)
    if reason and reason.startswith("Cannot merge"):
        reason = "a list and settings by name ({NAME: VALUE}) cannot stand for each other"
        key = key or " or ".join(word for word in overrides if word.partition("=")[2][:1] in ("[", "{"))
    if key and (wrong := re.match(r"Value ('.*') .*(Integer|Float|Boolean)\.?$", reason or "", re.DOTALL)):
        kind = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}[wrong[2]]
        return InputError(f"{key} must be {kind}, but is {wrong[1]}.")
    first = f"{key}: {reason}" if key and reason else str(cause).strip().splitlines()[0]
    return InputError(first if first.endswith(".") else f"{first}.")


def _below(parent: str, loader: ConfigLoader, overrides: Sequence[str]) -> str | None:
    """What to say of a setting below `parent`, if that is no group of settings itself."""
    group, _, name = parent.partition(".")
    if group not in schema.GROUPS or not name or "." in name:
        return None
    with suppress(*COMPOSITION_ERRORS, InputError, TypeError):
        node = loader.load_configuration(CONFIG_NAME, _chosen(overrides), RunMode.RUN)[group]
        if (found := node._get_node(name)) is not None and not OmegaConf.is_dict(found):
            kind = binding.hints_of(guard.located(node["_target_"], group, object)).get(name)
            if "dict[" in str(kind):
                return "{parent} has no entry of that name that could be changed: write +{key}=VALUE to add it."
            return "{parent} is one value and has no settings below it: write {parent}=VALUE."
    return None


def _chosen(overrides: Sequence[str]) -> list[str]:
    """The overrides that choose one config of a group."""
    return [word for word in overrides if word.partition("=")[0] in CHOICES - {"experiment"} and "," not in word]


def _missing(file: str) -> tuple[str, str]:
    """The group and the choice in the name of a config that is not there; a choice may be a path."""
    group = next((group for group in (*schema.GROUPS, "trainer", "experiment") if file.startswith(f"{group}/")), None)
    return (group, file.removeprefix(f"{group}/")) if group else (file.rpartition("/")[0], file.rpartition("/")[2])


def _meant(group: str, choice: str) -> str | None:
    """The choice of ours that is called so elsewhere."""
    return elsewhere.CHOICES.get(group, {}).get(choice.casefold().replace("-", "_"))


def _unknown(key: str, loader: ConfigLoader, overrides: Sequence[str]) -> InputError | None:
    """What to say of a setting that there is not, with what may have been meant; `None` of one that there is."""
    parent, _, leaf = key.rpartition(".")
    names, more, chosen = _siblings(parent, loader, overrides)
    if key in CHOICES or leaf in names or (not names and not parent):
        return None
    is_above = any(key_of(word).startswith(f"{key}.") for word in overrides)  # then it stands for settings of its own
    if is_above and (found := found_elsewhere(key, names, chosen, loader)):
        return found
    if leaf in more:
        return InputError(f"{key} can be set, but the chosen config does not name it: write +{key}=VALUE to add it.")
    prefix = f"{parent}." if parent else ""
    found = found_elsewhere(key, names, chosen, loader)
    return found or unknown("setting", key, [f"{prefix}{name}" for name in names])


def _check_added(key: str, loader: ConfigLoader, overrides: Sequence[str]) -> None:
    parent, _, leaf = key.partition(".")
    names, more, chosen = _siblings(parent, loader, overrides)
    if names and leaf not in (*names, *more) and (found := found_elsewhere(key, names, chosen, loader)):
        raise found


def _other_ways(key: str, text: str, loader: ConfigLoader, overrides: Sequence[str]) -> str:
    """How to write what looks like several values if it is one."""
    if key in CHOICES:
        return ""
    group, _, name = key.partition(".")
    as_list = ""
    with suppress(*COMPOSITION_ERRORS, InputError, KeyError, TypeError):
        node = loader.load_configuration(CONFIG_NAME, _chosen(overrides), RunMode.RUN)[group]
        kind = binding.hints_of(guard.located(node["_target_"], group, object)).get(name)
        as_list = f" If it is a list, write {shlex.quote(f'{key}=[{text}]')}." if "list[" in str(kind) else ""
    return f"{as_list} If it is one text, write {in_shell(key, text)}."


def _siblings(
    parent: str, loader: ConfigLoader, overrides: Sequence[str]
) -> tuple[list[str], list[str], dict[str, str]]:
    """Names of the settings beside an unknown one, and of all that its target takes, under the choices made; these."""
    try:
        cfg = loader.load_configuration(CONFIG_NAME, _chosen(overrides), RunMode.RUN)
        node = OmegaConf.select(cfg, parent) if parent else cfg
        names = [str(key) for key in node if key not in INNER]
        chosen = {str(group).partition("@")[0]: str(name) for group, name in cfg.hydra.runtime.choices.items()}
        has_target = parent in schema.GROUPS and "_target_" in node
        return names, binding.settable(node["_target_"], parent) if has_target else [], chosen
    except (*COMPOSITION_ERRORS, InputError, TypeError):
        return [], [], {}
