"""A comparison from its overrides to its last run. What is on the disk is the truth; nothing is done twice."""

import logging
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from headstart.config import recorded, schema
from headstart.config.composer import Composer
from headstart.config.explanation import COMPOSITION_ERRORS, explained
from headstart.config.optimizer_trial import check_optimizer
from headstart.config.overrides import as_written, key_of
from headstart.errors import InputError, LaunchError, disk_is_full
from headstart.names import listed, plural
from headstart.progress import duration
from headstart.record import result
from headstart.record.directory import ATTEMPTS, SweepDirectory
from headstart.run.findings import MOST_PREPARED, PREPARED, Findings
from headstart.run.job import Job
from headstart.run.prepare import note_choices, prepare, with_overrides
from headstart.sweep.fresh import anew, fresh_seeds, number_asked
from headstart.sweep.fuse import Unit, features_of, units
from headstart.sweep.gpus import OwnGpu, check_one_gpu
from headstart.sweep.grid import Line, expand
from headstart.sweep.ledger import Ledger, ListedRun
from headstart.sweep.resources import Resources, asking, at_once, begin_cluster, tell_asked
from headstart.sweep.screen import show_dry_run, show_failures
from headstart.system.bounded import DamagedError
from headstart.system.memory import collect_new, uncollected
from headstart.system.places import check_no_links, closed, writable

log = logging.getLogger(__name__)

ELSEWHERE_SECONDS = 1.0
"""Time between two looks at runs that another process is working on."""
ON_THIS_MACHINE = ("BasicLauncher", "JoblibLauncher", "LocalLauncher")
"""Ends of the names of launchers that run jobs on the machine that they are started on."""
TO_DO = ("missing", "interrupted")
RETRY = "--retry-failed"
MOST_DEATHS = 2
"""Times that a worker may die over a run before the run is recorded as failed."""
MOST_REFUSED = 20
"""Runs that are refused, none being right, before the others are not looked at: a wrong word is told at once."""
OF_SOME_CHOICES = (" comes with ", "the chosen config does not name it")
"""What refusals of settings say that some choices of a group have and others lack."""
MOST_IDLE = 3
"""Times in a row that a launcher may come back without having begun anything."""


class StoredConfigs:
    """Stands in for Hydra's config loader in a launcher: gives each job the config that was composed and checked.

    It holds a path and is small to send; files edited meanwhile change nothing.
    """

    def __init__(self, directory: SweepDirectory) -> None:
        self.directory = directory

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """The config of the unit of runs whose ids are `sweep_overrides`: its first run's, naming the others."""
        first, *others = sweep_overrides
        cfg = master_config.copy()
        typed = OmegaConf.merge(OmegaConf.structured(schema.Config), recorded.load(self.directory.run(first).config))
        with open_dict(cfg):
            for key, value in typed.items():
                cfg[key] = value
            cfg.companions = others
            cfg.hydra.sweep.dir = str(self.directory.path)
            cfg.hydra.sweep.subdir = first
        return cfg


@dataclass(frozen=True)
class Planned(ListedRun):
    """A run that was checked, as little of it as is needed to launch it: there may be thousands."""

    features: str | None
    config: str
    """Its config as YAML; empty if it is completed."""
    asked: str
    """What it asks its launcher for, over what all ask for (`Resources.of`)."""

    def with_others(self, number: int) -> "Planned":
        """The same, but that it is planned to be done together with so many others."""
        return replace(self, config=re.sub(r"^fused_with: 0$", f"fused_with: {number}", self.config, flags=re.M))


class Sweep:
    """Draws up, checks and carries out the runs of one comparison; see `composition.SweeperConfig` for its options."""

    def __init__(
        self,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
        findings: Findings | None = None,
    ) -> None:
        self.context, self.task_function, self.config = hydra_context, task_function, config
        self.params, self.paired, self.runs = (_written(config, name) for name in ("params", "zip", "runs"))
        self.dry_run, self.retry_failed = config.hydra.sweeper.dry_run, config.hydra.sweeper.retry_failed
        self.ledger = Ledger(Path(config.hydra.sweep.dir))
        self.findings = Findings() if findings is None else findings
        self.completed: set[str] = set()
        self.damaged: dict[str, str] = {}
        self.planned: dict[str, dict[str, Any]] = {}
        self.fresh_seeds = number_asked(config.hydra.sweeper.fresh_seeds)
        """How many fresh seeds what is selected is run anew on; 0 for as many as there are, `None` for none."""
        self.idle = 0
        self.resources = Resources(config, hydra_context.config_loader)

    def run(self, arguments: Sequence[str]) -> bool:
        """Carry the comparison out; true if every run of it is completed.

        Raises:
            InputError: with everything that is wrong with any run, before anything is written; where none of the first
                `MOST_REFUSED` is right, with what is wrong with these.
        """
        loader = self.context.config_loader
        self.resources.say_if_idle()
        plans = self.draw(loader, expand(loader, arguments, self.params, self.paired, self.runs))
        self.planned = {run_id: plan.to_dict() for run_id, plan in plans.items()}
        return self.complete(plans)

    def complete(self, plans: Mapping[str, Planned], fresh: bool = False) -> bool:
        """Carry out the runs that were drawn up; true if every one is completed. `fresh`: as for `Ledger.add`."""
        is_done, place = self.completed.issuperset(plans), str(self.config.hydra.sweep.dir)
        if not is_done:
            writable(place, "hydra.sweep.dir")
        if self.dry_run:
            asked = {run_id: plan.asked for run_id, plan in plans.items()}
            show_dry_run(self.ledger, plans.values(), self.retry_failed, asked)
            return True
        if is_done and (reason := closed(Path(place))):
            log.warning(
                "All %d runs were done before. Nothing can be written to %s (%s): its listing and its report stay as "
                "they are. headstart report %s --out=DIR writes one elsewhere.",
                *(len(plans), place, reason, shlex.quote(place)),
            )
            return True
        command = shlex.join(["headstart", *(word for word in sys.argv[1:] if word != RETRY)])
        self.ledger.add(str(self.config.name), command, plans.values(), fresh)
        for run_id in self.completed.intersection(plans):
            self.ledger.tidy(plans[run_id])
        if is_done:
            sys.stderr.write(f"Done before: {plural(len(plans), 'run')}. Nothing is left to do.\n")
        try:
            if self.retry_failed:
                for run_id in self._open(plans):
                    self.ledger.set_failed_aside(run_id)
            self.carry_out(plans)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._how_to_go_on(plans, command)) from None
        left = self._open(plans)
        self._tell_failures(plans, left, command)
        return not left

    def run_anew(self, selected: Sequence[Sequence[str]]) -> bool:
        """Run what was selected, by the overrides of its runs, on fresh seeds; true if every run is completed."""
        seeds = fresh_seeds(self.listed(), self.fresh_seeds or 0)
        lines, named = anew(selected, seeds), ", ".join(map(str, seeds))
        if self.dry_run and any(self.ledger.state(run_id) in TO_DO for run_id in self.planned):
            print(f"Then what each contender has selected on val is run anew on fresh seeds {named}.")
            return True
        if not lines:
            return True
        sys.stderr.write(f"── what was selected on val, anew on fresh seeds {named}\n")
        return self.complete(self.draw(self.context.config_loader, lines), fresh=True)

    def listed(self) -> list[Mapping[str, Any]]:
        """All runs of the comparison, those that were drawn up and are not in the listing yet among them."""
        try:
            known = self.ledger.read().get("runs", [])
        except DamagedError:
            known = []
        return list(({entry["run_id"]: entry for entry in known} | self.planned).values())

    def _tell_failures(self, plans: Mapping[str, Planned], left: Sequence[str], command: str) -> None:
        found = {run_id: result.read(self.ledger.run(run_id), run_id) for run_id in left}
        failed = {run_id: done for run_id, done in found.items() if done is not None}
        show_failures([plan.to_dict() for plan in plans.values()], failed)
        if failed:
            print(f"To try them again:\n  {command} {RETRY}\n")

    def draw(self, loader: ConfigLoader, lines: Sequence[Line]) -> dict[str, Planned]:
        """Compose and check every run; by run id, in order, each once."""
        self.damaged = {}
        with uncollected():
            return self._drawn(loader, lines)

    def _drawn(self, loader: ConfigLoader, lines: Sequence[Line]) -> dict[str, Planned]:
        config_of = self.configs(loader, lines)
        plans: dict[str, Planned] = {}
        jobs: dict[str, Job] = {}
        named: dict[str, Line] = {}
        idle: set[str] = set()
        problems: dict[str, list[str]] = {}
        here = self._launcher_class.endswith(ON_THIS_MACHINE)
        is_shared = self._launcher_class.endswith("JoblibLauncher")
        looked_at = 0
        for line in lines:
            if looked_at == MOST_REFUSED and not plans:
                break  # what is wrong with so many is wrong with all, or with all of one choice: that is told at once
            looked_at += 1
            collect_new()
            try:
                job = prepare(config_of(line), here, self.findings, try_optimizer=False)
                if is_shared:
                    check_one_gpu(job.cfg.trainer.devices, job.cfg.trainer.accelerator)
                if job.run_id in plans:
                    idle |= _apart(line, named[job.run_id])
                else:
                    named[job.run_id] = line
                    plans[job.run_id] = planned = self._planned(job)
                    if planned.config and self._runs_one_by_one() and len(jobs) < MOST_PREPARED:
                        jobs[job.run_id] = job
            except COMPOSITION_ERRORS as error:
                for message in explained(error, loader, line).messages:
                    problems.setdefault(message, []).append(" ".join(line))
            except InputError as error:
                for message in error.messages:
                    problems.setdefault(message, []).append(" ".join(line))
        if not problems and len(plans) < len(lines):
            log.warning(_repeated(len(lines) - len(plans), len(lines), idle))
        if problems:
            raise InputError(*_told(problems, looked_at, len(lines)))
        if self.damaged:
            log.warning(_damage(self.damaged, len(plans)))
        # by all that belong together, whichever of them are done: it does not matter how often it is cut off
        for unit in units({run_id: plan.features for run_id, plan in plans.items()}):
            plans |= {run_id: plans[run_id].with_others(len(unit) - 1) for run_id in unit}
            for run_id in filter(jobs.get, unit):  # which this process carries out: they need not be prepared again
                jobs[run_id].cfg.fused_with = len(unit) - 1
                self.findings.keep(PREPARED, run_id, (plans[run_id].config, jobs[run_id]), MOST_PREPARED)
        return plans

    def configs(self, loader: ConfigLoader, lines: Sequence[Line]) -> Callable[[Line], DictConfig]:
        """What gives the config of a line."""

        def finish(cfg: DictConfig, choices: Mapping[str, Any]) -> None:
            note_choices(cfg, choices)
            with open_dict(cfg):
                del cfg["hydra"]

        composer = Composer(loader, common=_common(lines), finish=finish)
        return lambda line: with_overrides(*composer.composed_with(line))

    def _planned(self, job: Job) -> Planned:
        try:
            done = result.checked(self.ledger.run(job.run_id), job.run_id)
        except DamagedError as error:
            self.damaged[job.run_id] = str(error)
        else:
            if done is not None and done.is_completed:
                self.completed.add(job.run_id)
        if job.run_id not in self.completed:
            check_no_links(self.ledger.run(job.run_id).path)
            check_optimizer(job.parts.optimizer.func, job.parts.optimizer.keywords)
        text = "" if job.run_id in self.completed else recorded.dumped(job.cfg)
        overrides, choices, asked = tuple(job.cfg.overrides), dict(job.cfg.choices), self.resources.of(job)
        data = {"name": job.source.name, "fingerprint": job.source.fingerprint}
        settings = dict(job.identity["settings"])
        shared = features_of(job)
        features = None if shared is None else shared + asked  # what asks for other things is another job
        return Planned(job.run_id, overrides, choices, settings, job.seed, data, job.split.sizes, features, text, asked)

    def _open(self, plans: Iterable[str]) -> list[str]:
        """Runs that are not completed; one that is stays so, and is not looked at again."""
        for run_id in plans:
            if run_id not in self.completed and result.completed(self.ledger.run(run_id), run_id):
                self.completed.add(run_id)
        return [run_id for run_id in plans if run_id not in self.completed]

    def carry_out(self, plans: Mapping[str, Planned]) -> None:
        """Launch what is not done, again and again, until every run has a result, from here or from elsewhere."""
        deaths: Counter[str] = Counter()
        outlook = Outlook(len(plans))
        tell_asked(Counter(plans[run_id].asked for run_id in self._open(plans)))
        while True:
            states = {run_id: self.ledger.state(run_id) for run_id in self._open(plans)}
            pending = [run_id for run_id, state in states.items() if state in TO_DO]
            if not pending and "running" not in states.values():
                return
            if not pending:
                time.sleep(ELSEWHERE_SECONDS)
                continue
            for run_id in pending:
                self.ledger.write_config(run_id, plans[run_id].config)
            batches = self._batches({run_id: plans[run_id] for run_id in pending}, deaths)
            num = max(map(len, batches))
            launchers = {asked: self._launcher(num, asked) for asked in {plans[run_id].asked for run_id in pending}}
            outlook.begin(len(pending))
            for batch in batches:
                self._launch(launchers, batch, plans, deaths, outlook)

    def _launcher(self, num_units: int, asked: str) -> Launcher:
        """The launcher that was chosen, which gives its jobs what is `asked`.

        Of several processes on this machine it starts no more than there is work for.
        """
        chosen, task = asking(self.config, asked), self.task_function
        if self._launcher_class.endswith("JoblibLauncher"):
            import joblib

            chosen = chosen.copy()
            places = joblib.effective_n_jobs(chosen.hydra.launcher.n_jobs)
            # no more, so that each gets a large share of the threads; but one would run in this very process, and a run
            # that kills its worker would kill the comparison
            chosen.hydra.launcher.n_jobs = min(places, max(2, num_units))
            task = OwnGpu(task)
        configs = StoredConfigs(SweepDirectory(self.ledger.directory.path.absolute()))
        context = HydraContext(config_loader=configs, callbacks=self.context.callbacks)  # type: ignore[arg-type]
        return Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=chosen)

    def _batches(self, pending: Mapping[str, Planned], deaths: Mapping[str, int]) -> list[list[Unit]]:
        """What is launched in one go: all, or one unit after the other where they run so anyway, to tell progress.

        Runs whose worker has died go last and each alone, so that one that kills does not take others with it.
        """
        suspects: list[list[Unit]] = [[(run_id,)] for run_id in pending if deaths[run_id]]
        rest = units({run_id: plan.features for run_id, plan in pending.items() if not deaths[run_id]})
        if self._runs_one_by_one():
            return [*([unit] for unit in rest), *suspects]
        return [rest, *suspects] if rest else suspects

    def _runs_one_by_one(self) -> bool:
        return self._launcher_class.endswith("BasicLauncher")

    @property
    def _launcher_class(self) -> str:
        return str(self.config.hydra.launcher._target_)

    def _launch(
        self,
        launchers: Mapping[str, Launcher],
        batch: Sequence[Unit],
        plans: Mapping[str, Planned],
        deaths: Counter[str],
        outlook: "Outlook",
    ) -> None:
        """Launch units, count the deaths of workers, and record runs that keep killing theirs as failed.

        What a launcher returns tells only why something went wrong; what became of the runs is on the disk.
        """
        chosen = [tuple(run_id for run_id in unit if self.ledger.state(run_id) in TO_DO) for unit in batch]
        remaining = [unit for unit in chosen if unit]
        if not remaining:
            return
        before = {run_id: self.ledger.last_holder(run_id) for unit in remaining for run_id in unit}
        outlook.announce(len(before))
        groups: dict[str, list[Unit]] = {}
        for unit in remaining:
            groups.setdefault(plans[unit[0]].asked, []).append(unit)
        if len(groups) > 1:
            begin_cluster(self.config.hydra.launcher)
        found = at_once([partial(_launched, launchers[asked], units) for asked, units in groups.items()])
        causes = Causes({unit: cause for causes in found for unit, cause in causes.items()})
        causes.why = next((one.why for one in found if one.why), "")
        states = {run_id: self.ledger.state(run_id) for run_id in before}
        stuck = {run_id for unit, cause in causes.items() if cause for run_id in unit if states[run_id] in TO_DO}
        died = {run_id for run_id in before if self.ledger.last_holder(run_id) not in (None, before[run_id])}
        for unit, cause in causes.items():
            for run_id in unit:
                if states[run_id] in TO_DO and run_id in (died | stuck):
                    deaths[run_id] += 1
                    log.warning("Run %s came to no end (%d of %d times).", run_id, deaths[run_id], MOST_DEATHS)
                    if deaths[run_id] >= MOST_DEATHS:
                        self.ledger.give_up(plans[run_id], cause or f"Its worker died {MOST_DEATHS} times over.")
        self.idle = 0 if died or stuck or any(state not in TO_DO for state in states.values()) else self.idle + 1
        if self.idle >= MOST_IDLE:
            number = plural(len(before), "run")
            raise LaunchError(f"The launcher did not start {number}, {MOST_IDLE} times over", causes.why)

    def _how_to_go_on(self, plans: Mapping[str, Planned], command: str) -> str:
        done = len(plans) - len(self._open(plans))
        kept = f"{done} of {len(plans)} runs are done and stay so" if done else "no run is done yet"
        return f"Stopped; {kept}. Runs under way go on from their last epoch. To go on:\n  {command}"


class Causes(dict[Unit, str]):
    """Why the job of each unit ended in an exception; empty where it did not, or where nobody tells."""

    why = ""
    """Why the launcher itself did."""


def _launched(launcher: Launcher, batch: Sequence[Unit]) -> Causes:
    """Launch, and say for each unit why its job ended in an exception, if it did and the launcher tells.

    Raises:
        OSError: if the disk is full; then every other run would fail too.
    """
    try:
        returned: Sequence[Any] = launcher.launch([list(unit) for unit in batch], initial_job_idx=0)
    except Exception as error:
        if disk_is_full(error):
            raise
        log.warning("The launcher stopped early: %r", error)
        causes = Causes(dict.fromkeys(batch, ""))
        causes.why = f"{type(error).__name__}: {error}"
        return causes
    causes = Causes()
    for unit, job in zip(batch, returned, strict=True):
        cause = job._return_value if job.status == JobStatus.FAILED else None
        if cause is not None and disk_is_full(cause):
            raise cause
        causes[unit] = "" if cause is None else f"{type(cause).__name__}: {cause}"
        if cause is not None:
            log.error("The job of %s, %s first, failed.", plural(len(unit), "run"), unit[0], exc_info=cause)
    return causes


class Outlook:
    """Tells a person which run of how many comes next, and about how long the rest will take."""

    def __init__(self, total: int) -> None:
        self.total = total

    def begin(self, num_pending: int) -> None:
        """A round of launching begins."""
        self.pending, self.begun, self.began = num_pending, 0, time.monotonic()

    def announce(self, num_coming: int) -> None:
        """The next runs are launched."""
        first = self.total - self.pending + self.begun + 1
        runs = f"run {first}" if num_coming == 1 else f"runs {first} to {first + num_coming - 1}"
        left = ""
        if self.begun:
            seconds = (time.monotonic() - self.began) / self.begun * (self.pending - self.begun)
            left = f", about {duration(seconds)} left"
        sys.stderr.write(f"── {runs} of {self.total}{left}\n")
        self.begun += num_coming


def _written(cfg: DictConfig, name: str) -> Any:
    """An option of the sweeper as it is written, empty if it is not given; what it interpolates is each run's own."""
    node = OmegaConf.select(cfg, f"hydra.sweeper.{name}")
    return as_written(node) if OmegaConf.is_config(node) else {}


def _damage(found: Mapping[str, str], total: int) -> str:
    """What is said of runs whose records cannot be used."""
    shown = [f"{run_id} ({why})" for run_id, why in list(found.items())[:5]] + ["…"] * (len(found) > 5)
    return (
        f"Records that cannot be used: {len(found)} of {plural(total, 'run')}: {', '.join(shown)}. Such runs are done "
        f"again; what is there is set aside in their {ATTEMPTS}/."
    )


def _common(lines: Sequence[Line]) -> list[str]:
    """Overrides that every run has."""
    shared = set(lines[0]).intersection(*lines[1:]) if lines else set()
    return [word for word in lines[0] if word in shared] if lines else []


def _apart(line: Line, other: Line) -> set[str]:
    """Settings in which two lines differ."""
    return {key_of(word) for word in {*line} ^ {*other}}


def _repeated(count: int, total: int, idle: set[str]) -> str:
    """What is said of runs that are the same though they are listed apart."""
    told = f"{count} of {total} runs {'is' if count == 1 else 'are'} named more than once, and done once"
    if not idle:
        return f"{told}."
    return (
        f"{told}: they differ by what is said of {listed(sorted(idle))} alone, which comes to the same. Of a setting "
        "that is given twice, the last counts."
    )


def _told(problems: Mapping[str, Sequence[str]], looked_at: int, num_lines: int) -> Iterator[str]:
    """Each problem, with the runs that it concerns where it does not concern all, and how others can do without it."""
    for message, where in problems.items():
        if len(where) == num_lines:
            yield message
            continue
        among = f"{num_lines:,}" if looked_at == num_lines else f"the first {looked_at:,}"
        key, words = message.partition(" ")[0], where[0].split()
        word = next((one for one in words if f"{key_of(one)}.".startswith(f"{key}.")), "").lstrip("+~")
        concerned = {line for text, lines in problems.items() if text.startswith(f"{key} ") for line in lines}
        others = ""
        if word and len(concerned) < looked_at and any(sign in message for sign in OF_SOME_CHOICES):
            others = f" hydra.sweeper.runs lists runs with settings of their own: {word} in some of them only."
        yield f"{message}{others} (in {len(where)} of {among} runs, such as: {where[0]})"
