"""What Hydra's errors mean, in our words, and overrides that it falls over without any."""

import re
from collections.abc import Sequence
from contextlib import suppress

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override, QuotedString, Sweep
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError, InterpolationResolutionError, OmegaConfBaseException

from headstart.config import binding, guard, schema
from headstart.config.earlier import renamed
from headstart.config.overrides import in_shell, values
from headstart.errors import InputError, unknown

CONFIG_NAME = "train"
CHOICES = frozenset({*schema.GROUPS, "trainer", "experiment"})
LAUNCHER_EXTRAS = {"joblib": "joblib", "ray": "ray", "submitit_slurm": "slurm", "submitit_local": "slurm"}
SETTING = re.compile(r"[+~]{0,2}[\w./@$-]+", re.ASCII)
"""What a setting or group may be called on the command line."""
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException)


def check_overrides(overrides: Sequence[Override], loader: ConfigLoader) -> None:
    """Raise `InputError` for overrides that Hydra itself falls over: no choice for a group, a run without a setting."""
    for one in overrides:
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
        is_empty = chosen == [] and key != "experiment"
        if is_empty or (isinstance(chosen, list) and not all(isinstance(name, str) for name in chosen)):
            raise InputError(
                f"{one.input_line} must list names of configs: {', '.join(loader.get_group_options(key))}."
            )


def explained(error: Exception, loader: ConfigLoader, overrides: Sequence[str]) -> InputError:
    """Hydra's error as one message, with the choices where a name is unknown."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = (error.missing_cfg_file or "").rpartition("/")
        found = unknown(group or "config", choice, error.options)
        extra = LAUNCHER_EXTRAS.get(choice) if group == "hydra/launcher" else None
        return InputError(f"{found} It comes with pip install 'headstart[{extra}]'.") if extra else found
    if isinstance(error, OverrideParseException):
        return InputError(f"{error.override!r} cannot be read: {_how_to_write(str(error.override))}")
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    text = f"{error}\n{cause}"
    named = re.search(r"full_key: (\S+)", text)
    key = getattr(cause, "full_key", None) or (named.group(1) if named else None)
    where = re.match(r"In '([^']+)'", text)
    if key and "is not Optional" in text:
        return InputError(f"{key} must have a value, but is null: leave it out for its default, or give {key}=VALUE.")
    if key and re.search(r"(Key|key) '\S+' (is )?not in", text):
        parent, _, leaf = str(key).rpartition(".")
        if below := _below(parent, loader, overrides):
            return InputError(below.format(key=key, parent=parent))
        prefix = f"{parent}." if parent else ""
        if now := renamed(str(key)):
            return InputError(now)
        names, more = _siblings(parent, loader, overrides)
        if leaf in more:
            return InputError(
                f"{key} can be set, but the chosen config does not name it: write +{key}=VALUE to add it."
            )
        found = unknown("setting", key, [f"{prefix}{name}" for name in names])
        return InputError(f"In {where.group(1)}: {found}") if where else found
    if "Ambiguous value for argument" in str(error):
        key, _, text = str(error).partition("'")[2].partition("'\n")[0].partition("=")
        as_text = "" if key in CHOICES else f" If it is one text, write {in_shell(key, text)}."
        return InputError(f"{key}={text} has several values: add -m to compare them.{as_text}")
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
    first = f"{key}: {reason}" if key and reason else str(cause).strip().splitlines()[0]
    return InputError(first if first.endswith(".") else f"{first}.")


def _how_to_write(line: str) -> str:
    """What to type for an override that Hydra's grammar does not take, such that a shell hands it on."""
    key, equals, text = line.partition("=")
    if not equals or not SETTING.fullmatch(key):
        return "settings are KEY=VALUE, several values KEY=A,B with -m."
    said = "a value that holds more than letters of the English alphabet, digits, blanks and -_./:%+@?*|$ needs quotes."
    if "${" in text:
        return f"{said[:-1]}, and what ${{ opens must be closed, as in ${{seed}}."
    said += f" For this very text, write {in_shell(key, text)}"
    with suppress(ValueError):
        if len(several := values(text)) > 1:
            said += f"; to compare {len(several)} values, add -m and write {in_shell(key, *several)}"
    kind = {"[": "a list is [A,B]", "{": "settings by name are {NAME: VALUE}"}.get(text[:1])
    return f"{said}; {kind}." if kind else f"{said}."


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


def _siblings(parent: str, loader: ConfigLoader, overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of the settings beside an unknown one, under the choices made, and of all that its target takes."""
    try:
        cfg = loader.load_configuration(CONFIG_NAME, _chosen(overrides), RunMode.RUN)
        node = OmegaConf.select(cfg, parent) if parent else cfg
        names = [str(key) for key in node if key not in ("hydra", "choices", "overrides")]
        has_target = parent in schema.GROUPS and "_target_" in node
        return names, binding.settable(node["_target_"], parent) if has_target else []
    except (*COMPOSITION_ERRORS, InputError, TypeError):
        return [], []
