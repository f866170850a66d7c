"""A comparison from its overrides to its last run. What is on the disk is the truth; nothing is done twice."""

import logging
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from headstart import config, result
from headstart.composition import Composer
from headstart.errors import InputError
from headstart.preparation import Job, job_config, prepare
from headstart.progress import duration
from headstart.sweep.fuse import Unit, units
from headstart.sweep.grid import Line, expand
from headstart.sweep.ledger import Entry, Ledger
from headstart.sweep.screen import show_dry_run

log = logging.getLogger(__name__)

ELSEWHERE_SECONDS = 1.0
"""Time between two looks at runs that another process is working on."""
MOST_DEATHS = 2
"""Times that a worker may die over a run before the run is recorded as failed."""


class StoredConfigs:
    """Stands in for Hydra's config loader in a launcher: gives each job the config that was composed and checked.

    It holds a path and is small to send; files edited meanwhile change nothing.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """The config of the unit of runs whose ids are `sweep_overrides`: its first run's, naming the others."""
        first, *others = sweep_overrides
        cfg = master_config.copy()
        with open_dict(cfg):
            for key, value in config.load(self.directory / first).items():
                cfg[key] = value
            cfg.companions = others
            cfg.hydra.sweep.dir = str(self.directory)
            cfg.hydra.sweep.subdir = first
        return cfg


class Sweep:
    """Draws up, checks and carries out the runs of one comparison; see `hydra_plugins` for its options."""

    def __init__(
        self,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
        params: Mapping[str, str],
        zip: Mapping[str, str],
        runs: Sequence[str],
        dry_run: bool,
        retry_failed: bool,
    ) -> None:
        self.context, self.task_function, self.config = hydra_context, task_function, config
        self.params, self.paired, self.runs = params, zip, runs
        self.dry_run, self.retry_failed = dry_run, retry_failed
        self.ledger = Ledger(Path(config.hydra.sweep.dir))

    def run(self, arguments: Sequence[str]) -> bool:
        """Carry the comparison out; true if every run of it is completed.

        Raises:
            InputError: with everything that is wrong with any run, before anything is written.
        """
        loader = self.context.config_loader
        jobs = self.draw(loader, expand(loader, arguments, self.params, self.paired, self.runs))
        if self.dry_run:
            show_dry_run(self.ledger, jobs.values())
            return True
        command = shlex.join(["headstart", *sys.argv[1:]])
        self.ledger.enrol(str(self.config.name), command, [_entry(job) for job in jobs.values()])
        if self.retry_failed:
            for run_id in jobs:
                self.ledger.set_failed_aside(run_id)
        self.carry_out(jobs)
        return all(self.ledger.state(run_id) == "completed" for run_id in jobs)

    def draw(self, loader: ConfigLoader, lines: Sequence[Line]) -> dict[str, Job]:
        """Compose and check every run; by run id, in order, each once."""
        composer = Composer(loader, common=list(self.config.hydra.overrides.hydra))
        jobs: dict[str, Job] = {}
        problems: dict[str, list[str]] = {}
        for line in lines:
            try:
                job = prepare(job_config(composer.compose(line)))
                jobs.setdefault(job.run_id, job)
            except InputError as error:
                for message in error.messages:
                    problems.setdefault(message, []).append(" ".join(line))
        if problems:
            raise InputError(*(_with_runs(message, where, len(lines)) for message, where in problems.items()))
        return jobs

    def carry_out(self, jobs: Mapping[str, Job]) -> None:
        """Launch what is not done, again and again, until every run has a result, from here or from elsewhere."""
        deaths = dict.fromkeys(jobs, 0)
        launcher, outlook = self._launcher(), Outlook(len(jobs))
        while True:
            states = {run_id: self.ledger.state(run_id) for run_id in jobs}
            pending = {run_id: job for run_id, job in jobs.items() if states[run_id] in ("missing", "interrupted")}
            if not pending and "running" not in states.values():
                return
            if not pending:
                time.sleep(ELSEWHERE_SECONDS)
                continue
            for run_id, job in pending.items():
                path = self.ledger.path(run_id) / "config.yaml"
                result.write_bytes(path, OmegaConf.to_yaml(job.cfg, resolve=True).encode())
            outlook.begin(len(pending))
            for batch in self._batches(pending, deaths):
                outlook.announce(sum(len(unit) for unit in batch))
                self._launch(launcher, batch)
            self._bury(pending, deaths)

    def _launcher(self) -> Launcher:
        configs = StoredConfigs(self.ledger.directory.absolute())
        context = HydraContext(config_loader=configs, callbacks=self.context.callbacks)  # type: ignore[arg-type]
        return Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=self.task_function, config=self.config
        )

    def _batches(self, pending: Mapping[str, Job], deaths: Mapping[str, int]) -> list[list[Unit]]:
        """What is launched in one go: all, or one unit after the other where they run so anyway, to tell progress.

        Runs whose worker has died go last and each alone, so that one that kills does not take others with it.
        """
        suspects: list[list[Unit]] = [[(run_id,)] for run_id in pending if deaths[run_id]]
        rest = units({run_id: job for run_id, job in pending.items() if not deaths[run_id]})
        if str(self.config.hydra.launcher._target_).endswith("BasicLauncher"):
            return [*([unit] for unit in rest), *suspects]
        return [rest, *suspects] if rest else suspects

    def _launch(self, launcher: Launcher, batch: Sequence[Unit]) -> None:
        try:
            launcher.launch([list(unit) for unit in batch], initial_job_idx=0)
        except Exception as error:
            # a worker that dies takes some launchers' whole batch with it; the disk tells what is left to do
            log.warning("The launcher stopped early: %r", error)
            if all(self.ledger.state(run_id) == "missing" for unit in batch for run_id in unit):
                raise

    def _bury(self, pending: Mapping[str, Job], deaths: dict[str, int]) -> None:
        """Count the deaths of workers; a run that keeps killing its workers is recorded as failed."""
        for run_id, job in pending.items():
            if self.ledger.state(run_id) in ("interrupted", "missing"):
                deaths[run_id] += 1
                log.warning("Run %s came to no end (%d of %d times).", run_id, deaths[run_id], MOST_DEATHS)
            if deaths[run_id] >= MOST_DEATHS:
                self.ledger.bury(run_id, f"The process that worked on this run died {MOST_DEATHS} times over.", job)


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


def _entry(job: Job) -> Entry:
    return Entry(job.run_id, tuple(job.cfg.overrides), dict(job.cfg.choices), dict(job.identity["settings"]), job.seed)


def _with_runs(message: str, where: Sequence[str], num_lines: int) -> str:
    """A problem, with the runs it concerns where it does not concern all."""
    if len(where) == num_lines:
        return message
    return f"{message} (in {len(where)} of {num_lines} runs, such as: {where[0]})"
