"""What the jobs of a comparison ask their launcher for: each what its kind of run needs, over what all ask for."""

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from headstart.config import schema
from headstart.config.guard import LAUNCHERS, RESOURCES
from headstart.errors import InputError, LaunchError, collect, unknown
from headstart.names import plural
from headstart.run.job import Job
from headstart.run.stored import are_kept

log = logging.getLogger(__name__)

Outcome = TypeVar("Outcome")

KEY = "hydra.sweeper.resources"
OBJECT_STORE_BYTES = 78_643_200
"""Of a cluster that is begun on this machine, as Ray's launcher has it: jobs hand each other next to nothing."""
HEADS = "heads"
"""Names runs that train nothing but a head, on features."""
GROUPS = (*schema.GROUPS, "trainer")
"""By whose choices runs can be named."""
FOR_ALL = ("n_jobs", "ray.init.num_cpus", "ray.init.num_gpus")
"""Fields of a launcher that are of all its jobs together."""
AS_ALL = "as hydra.launcher says"
FOR_ONE = RESOURCES.difference(FOR_ALL)
QUEUES = ("partition", "qos", "constraint", "gres", "additional_parameters")
"""Fields of SLURM that may lead to machines on which every job must ask for a GPU."""


class Resources:
    """What is asked for by which runs: `hydra.sweeper.resources`.

    It names kinds of runs, and for each fields of the chosen launcher, as they stand under `hydra.launcher`: `heads`,
    and `strategy: {lora: …}` for what was chosen of a config group. Of several that name a run the later counts. A run
    that none names and that uses no GPU asks for none.

    Raises:
        InputError: for kinds that there are not, and for what the launcher cannot be asked for.
    """

    def __init__(self, config: DictConfig, loader: ConfigLoader) -> None:
        self.launcher: DictConfig = config.hydra.launcher
        self.name = LAUNCHERS[str(self.launcher._target_)]
        node = OmegaConf.select(config, KEY)
        table = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node or {}
        if not isinstance(table, dict):
            raise InputError(f"{KEY} must hold fields of a launcher by kind of run, as {{heads: …}}, but is {table!r}.")
        self.kinds = _kinds(table, loader)
        collect([_check(kind, fields, self.launcher, self.name) for kind, fields in self.kinds.items()])

    def say_if_idle(self) -> None:
        """Say it where kinds of runs are named in vain."""
        if self.kinds and not _gives_each(self.name):
            log.warning("%s does nothing: jobs of hydra/launcher=%s take this machine as it is.", KEY, self.name)

    def of(self, job: Job) -> str:
        """What a run asks for over `hydra.launcher`, as JSON that names fields in order; empty for nothing else.

        Raises:
            InputError: for a run on a GPU that is given none.
        """
        if not _gives_each(self.name):
            return ""
        named = [fields for (group, choice), fields in self.kinds.items() if _is_of(job, group, choice)]
        asked = {name: value for fields in named for name, value in fields.items()}
        if not named and _uses_no_gpu(job, self._gpus):
            asked = dict.fromkeys(self._gpus, 0 if self.name == "ray" else None)
        bare = [name for name, value in asked.items() if "gpu" in name and not value]
        if bare and job.cfg.trainer.accelerator in ("gpu", "cuda"):
            raise InputError(
                f"{KEY} must give a GPU to a run on one, but by it {bare[0]} is {asked[bare[0]]} for a run of "
                f"trainer.accelerator={job.cfg.trainer.accelerator}. Use trainer.accelerator=auto, which takes what "
                "there is, or leave that run's kind out."
            )
        return json.dumps(asked, sort_keys=True) if asked else ""

    @cached_property
    def _gpus(self) -> list[str]:
        """Fields by which all jobs ask for GPUs, as far as a job may do without them where it ends up."""
        if self.name == "submitit_slurm" and any(self.launcher.get(name) for name in QUEUES):
            return []
        own = OmegaConf.to_container(self.launcher, resolve=True)
        fields = {name: value for name, value in schema.flatten(own, "") if name in FOR_ONE}
        return [name for name, value in fields.items() if "gpu" in name and value]


def asking(config: DictConfig, asked: str) -> DictConfig:
    """A config whose launcher gives its jobs what is `asked`."""
    if not asked:
        return config
    found = config.copy()
    found.hydra.launcher = _merged(found.hydra.launcher, json.loads(asked))
    return found


def told(asked: str) -> str:
    """`gpus_per_node=0 partition=cpu`."""
    fields = json.loads(asked).items() if asked else ()
    return " ".join(f"{name}={'null' if value is None else value}" for name, value in fields) or AS_ALL


def tell_asked(counts: Mapping[str, int], noun: str = "run") -> None:
    """Say how many runs ask for what, where any asks for something of its own."""
    if any(counts):
        each = [f"{told(asked)} ({plural(count, noun)})" for asked, count in sorted(counts.items())]
        sys.stderr.write(f"── asked for: {'; '.join(each)}\n")


def begin_cluster(launcher: DictConfig) -> None:
    """Begin what all launches share: two launches of Ray at once would each begin it, and the second fail."""
    if LAUNCHERS[str(launcher._target_)] == "ray":
        from hydra_plugins.hydra_ray_launcher._launcher_util import start_ray

        init = launcher.ray.init.copy()
        try:
            start_ray(OmegaConf.merge({"object_store_memory": OBJECT_STORE_BYTES}, init))
        except Exception as error:
            raise LaunchError("Ray did not start", f"{type(error).__name__}: {error}") from error


def at_once(calls: Sequence[Callable[[], Outcome]]) -> list[Outcome]:
    """What each call returns, all of them under way at the same time; a single one in this thread.

    If one raises, that is raised when all have ended; an interrupt does not wait for them.
    """
    if len(calls) == 1:
        return [calls[0]()]
    outcomes: dict[int, Outcome] = {}
    errors: list[BaseException] = []

    def call(place: int) -> None:
        try:
            outcomes[place] = calls[place]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(place,), daemon=True) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [outcomes[place] for place in range(len(calls))]


def _gives_each(launcher: str) -> bool:
    return launcher not in ("basic", "joblib")


def _is_of(job: Job, group: str, choice: str) -> bool:
    return job.is_probe if group == HEADS else str(job.cfg.choices.get(group)) == choice


def _uses_no_gpu(job: Job, gpus: Iterable[str]) -> bool:
    accelerator = job.cfg.trainer.accelerator
    if accelerator == "cpu":
        return True
    return accelerator == "auto" and job.is_probe and bool([*gpus]) and are_kept(job)


def _kinds(table: Mapping[Any, Any], loader: ConfigLoader) -> dict[tuple[str, str], dict[str, Any]]:
    """By kind of run, what it asks for: fields of the launcher by their full names."""
    kinds: dict[tuple[str, str], dict[str, Any]] = {}
    for group, node in table.items():
        if group == HEADS:
            kinds[HEADS, ""] = _fields(node, f"{KEY}.{HEADS}")
        elif group not in GROUPS:
            raise unknown(f"kind of run in {KEY}", group, [HEADS, *GROUPS])
        else:
            for choice, fields in _mapping(node, f"{KEY}.{group}").items():
                options = loader.get_group_options(group)
                if choice not in options:
                    raise unknown(f"{group} in {KEY}", choice, options)
                kinds[group, str(choice)] = _fields(fields, f"{KEY}.{group}.{choice}")
    return kinds


def _mapping(node: Any, key: str) -> Mapping[Any, Any]:
    if not isinstance(node, Mapping):
        raise InputError(f"{key} must hold settings by name, but is {node!r}.")
    return node


def _fields(node: Any, key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.flatten(_mapping(node, key), "") if name}


def _check(kind: tuple[str, str], fields: Mapping[str, Any], launcher: DictConfig, name: str) -> Callable[[], None]:
    key = ".".join([KEY, *filter(None, kind)])

    def check() -> None:
        problems: list[str] = []
        for field, value in fields.items():
            if field not in FOR_ONE:
                problems += unknown(f"resource in {key}", field, FOR_ONE).messages
            elif isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
                problems.append(f"{key}.{field} must be at least 0, but is {value}.")
            elif _gives_each(name):
                problems += _misfits(launcher, field, value, key, name)
        if problems:
            raise InputError(*problems)

    return check


def _misfits(launcher: DictConfig, field: str, value: Any, key: str, name: str) -> list[str]:
    """What speaks against a value of a launcher's field, by the launcher itself."""
    is_text = isinstance(value, str)
    if is_text and not value.isprintable():
        return [f"{key}.{field} must be one line of printable characters, but is {value!r}."]
    if field.startswith("ray.") and (is_text or value is None):  # ray would say so when the first job starts
        return [f"{key}.{field} must be a number, but is {value!r}."]
    try:
        _merged(launcher, {field: value})
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        if "not in" in reason:
            return [f"{key}.{field} is no field of hydra/launcher={name}: leave it out, or choose another launcher."]
        if "converted to Integer" in reason:
            return [f"{key}.{field} must be a whole number, but is {value!r}."]
        return [f"{key}.{field}: {reason.rstrip('.')}."]
    return []


def _merged(launcher: DictConfig, fields: Mapping[str, Any]) -> DictConfig:
    found = launcher.copy()
    for name, value in fields.items():
        OmegaConf.update(found, name, value, force_add=name.startswith("ray.remote.") and "ray" in launcher)
    return found
