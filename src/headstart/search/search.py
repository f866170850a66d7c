"""A search from its overrides to its verdict: cells are drawn up and checked, workers try settings until each cell's
budget is spent, and what was chosen is run anew on fresh seeds, beside the default: an ordinary comparison.

What is on the disk is the truth: the same command goes on wherever the last one came to an end.
"""

import logging
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from headstart.config import recorded
from headstart.config.overrides import as_written
from headstart.config.schema import SearchConfig, check_section
from headstart.errors import InputError, LaunchError, disk_is_full
from headstart.record.directory import SweepDirectory
from headstart.record.search import cell_directory
from headstart.run.findings import Findings
from headstart.run.job import Job
from headstart.run.prepare import prepare
from headstart.search.cells import Cell, Drafts, config_number, outlines, trial_config
from headstart.search.screen import show_chosen, show_plan
from headstart.search.standing import Standing, fresh_seeds, words_of
from headstart.search.worker import Work
from headstart.sweep.grid import Line
from headstart.sweep.ledger import Ledger, ListedRun
from headstart.sweep.resources import Resources, asking, at_once, begin_cluster, tell_asked
from headstart.sweep.sweeper import ELSEWHERE_SECONDS, ON_THIS_MACHINE, OwnGpu, Sweep
from headstart.system.lock import holder, is_held
from headstart.system.places import writable

log = logging.getLogger(__name__)

MOST_DEATHS = 2
"""Times that a worker may die over a trial before the trial is recorded as failed."""
MOST_IDLE = 3
"""Times in a row that workers may end without any trial having come to its end."""
FEWEST_SECONDS = 2.0
"""What two trials take at the least, each from its start to its record."""
WORKERS_ELSEWHERE = 4
"""Workers that a cluster is asked for at least, where nothing is said."""


class WorkerConfigs:
    """Stands in for Hydra's config loader in a launcher: each job is a worker of the search."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """The config of a worker: what it is called says where it logs."""
        cfg = master_config.copy()
        with open_dict(cfg):
            cfg.hydra.sweep.dir = str(self.place)
            cfg.hydra.sweep.subdir = f"search/workers/{sweep_overrides[0]}"
        return cfg


class Verdict(Sweep):
    """The comparison that a search ends with: chosen settings and defaults, on fresh seeds."""

    def __init__(self, search: "Search", standings: Sequence[Standing]) -> None:
        super().__init__(search.context, search.task_function, search.config, search.findings)
        self.contenders: dict[Line, DictConfig] = {}
        bases: dict[Path, DictConfig] = {}
        for standing in standings:
            chosen = standing.chosen
            points: list[Mapping[str, Any]] = [{}] if chosen is None or not chosen.number else [{}, chosen.params]
            for point in points:
                path = standing.directory.config(config_number(standing.space, point))
                base = bases.setdefault(path, recorded.composed(path))
                for seed in fresh_seeds(standing.record, search.search):
                    line = (*standing.record.overrides, *words_of(point), f"seed={seed}")
                    cfg = trial_config(base, point, seed, is_trial=False)
                    cfg.choices = {**cfg.choices, "search": "tuned" if point else "default"}
                    self.contenders[line] = cfg

    def configs(self, loader: ConfigLoader, lines: Sequence[Line]) -> Callable[[Line], DictConfig]:
        return lambda line: self.contenders[line]

    def run(self, arguments: Sequence[str] = ()) -> bool:
        return self.complete(self.draw(self.context.config_loader, list(self.contenders)))


class Search:
    """Draws up, checks and carries out the search in each cell of a comparison, and the comparison that ends it."""

    def __init__(
        self,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
        findings: Findings | None = None,
    ) -> None:
        self.context, self.task_function, self.config = hydra_context, task_function, config
        self.search = cast(SearchConfig, OmegaConf.to_object(config.search))
        self.findings = Findings() if findings is None else findings
        self.sweep = SweepDirectory(Path(config.hydra.sweep.dir))
        self.command = shlex.join(["headstart", *sys.argv[1:]])
        self.deaths: Counter[str] = Counter()
        self.fresh_seeds = None
        """What is chosen is run anew without being asked."""
        self.resources = Resources(config, hydra_context.config_loader)
        self.asked: dict[str, str] = {}
        """By cell, what its workers ask their launcher for, over what all ask for."""
        self.why = ""
        """Why workers ended early, the last time that any did."""

    def run(self, arguments: Sequence[str]) -> bool:
        """Carry the search out; true if every run of the comparison that ends it is completed.

        Raises:
            InputError: with everything that is wrong with any cell, before anything is written.
        """
        self.resources.say_if_idle()
        cells = self.draw(arguments)
        self.asked = {cell.record.cell: self.resources.of(cell.default) for cell in cells}
        tell_asked(Counter(self.asked.values()), "cell")
        if self.config.hydra.sweeper.dry_run:
            show_plan(self.sweep, cells, self.search)
            return True
        if not self._is_done(cells):
            writable(str(self.config.hydra.sweep.dir), "hydra.sweep.dir")
        for cell in cells:
            cell_directory(self.sweep, cell.record.cell).write(cell.record, cell.configs)
        standings = [Standing(self.sweep, cell.record.cell, self.search) for cell in cells]
        try:
            self.carry_out(standings, {cell.record.cell: cell.default for cell in cells})
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._how_to_go_on(standings)) from None
        self._finish(standings)
        show_chosen(standings)
        return Verdict(self, standings).run()

    def _is_done(self, cells: Sequence[Cell]) -> bool:
        """Whether every cell's budget was spent before, so that nothing is written."""
        names = [cell.record.cell for cell in cells]
        if not all(cell_directory(self.sweep, name).is_laid_down for name in names):
            return False
        standings = [Standing(self.sweep, name, self.search) for name in names]
        self._look(standings)
        return all(standing.is_done for standing in standings)

    def draw(self, arguments: Sequence[str]) -> list[Cell]:
        """The cells of the comparison, checked."""
        check_section("search", cast(dict[str, Any], OmegaConf.to_container(self.config.search, resolve=True)))
        sweeper, loader = self.config.hydra.sweeper, self.context.config_loader
        params, paired, runs = (_written(sweeper, name) for name in ("params", "zip", "runs"))
        budgets = [name for name in ("trials", "epochs", "hours") if getattr(self.search, name) is not None]
        if sweeper.fresh_seeds is not None:
            raise InputError("A search runs anew what it chose, on search.seeds fresh seeds: leave --fresh-seeds out.")
        if len(budgets) > 1:
            named = " and ".join(f"search.{name}" for name in budgets)
            raise InputError(f"A search has one budget, but {named} are given. Leave one of them.")
        here = str(self.config.hydra.launcher._target_).endswith(ON_THIS_MACHINE)

        def checked(cfg: DictConfig) -> Job:
            return prepare(cfg, here, self.findings)

        cells = Drafts(loader, outlines(loader, arguments, params, paired, runs), self.search, checked).draw()
        if self.search.stopping != "none" and any(cell.default.cfg.trainer.devices > 1 for cell in cells):
            raise InputError(
                "search/stopping=halving pauses trials of one process: set trainer.devices=1, or search/stopping=none."
            )
        longest = max(cell.record.max_epochs for cell in cells)
        if self.search.epochs is not None and self.search.epochs < 2 * longest:
            raise InputError(
                f"search.epochs must pay for the default and one other setting, {2 * longest} epochs "
                f"(trainer.max_epochs={longest}), but is {self.search.epochs}."
            )
        if self.search.hours is not None and 3600 * self.search.hours < FEWEST_SECONDS:
            raise InputError(
                f"search.hours must pay for the default and another setting, {FEWEST_SECONDS / 3600:.1g} at the least "
                f"(no trial takes less than a second), but is {self.search.hours:g}."
            )
        return cells

    def carry_out(self, standings: Sequence[Standing], defaults: Mapping[str, Job]) -> None:
        """Start workers, again and again, until every cell's budget is spent, from here or from elsewhere."""
        idle = 0
        while True:
            before = self._look(standings)
            if all(standing.is_done for standing in standings):
                return
            if not self._could_begin(standings):
                time.sleep(ELSEWHERE_SECONDS)
                continue
            self._launch([standing.record.cell for standing in standings])
            progressed = self._look(standings) > before
            self._count_deaths(standings, defaults)
            idle = 0 if progressed or not self._could_begin(standings) else idle + 1
            if idle >= MOST_IDLE:
                raise LaunchError(
                    f"The launcher's workers brought no trial to its end, {MOST_IDLE} times over", self.why
                )

    def _finish(self, standings: Sequence[Standing]) -> None:
        """Do what workers did not come to that were killed at the very end of a trial."""
        for standing in standings:
            for trial in standing.trials:
                done = standing.ended.get(trial.number)
                if done is not None and done.is_completed:
                    self.sweep.run(trial.run_id).finish(keep_checkpoint=False)

    def _look(self, standings: Sequence[Standing]) -> int:
        """Look at the disk; trials drawn and ended in all."""
        for standing in standings:
            standing.look()
        epochs = sum(int(done.cost.get("epochs") or 0) for one in standings for done in one.paused.values())
        return epochs + sum(len(standing.trials) + 10**6 * len(standing.ended) for standing in standings)

    def _could_begin(self, standings: Sequence[Standing]) -> bool:
        """Whether a worker would find something to do: what others are at is waited for."""
        for standing in standings:
            if standing.may_draw or standing.promotion() is not None:
                return True
            if standing.knows_finalists and standing.missing_replicates():
                return True
            if any(not is_held(self.sweep.run(one.run_id).lock) for one in standing.open):
                return True
        return False

    def _launch(self, cells: Sequence[str]) -> None:
        """Start workers, for cells that ask for other things others, all at once."""
        groups: dict[str, list[str]] = {}
        for cell in cells:
            groups.setdefault(self.asked.get(cell, ""), []).append(cell)
        if len(groups) > 1:
            begin_cluster(self.config.hydra.launcher)
        at_once([partial(self._launch_workers, asked, own) for asked, own in groups.items()])

    def _launch_workers(self, asked: str, cells: Sequence[str]) -> None:
        place = self.sweep.path.absolute()
        number = self.num_workers(len(cells))
        chosen = asking(self.config, asked).copy()
        task: TaskFunction = Work(place, tuple(cells), self.search)
        if self._launcher_class.endswith("JoblibLauncher"):
            chosen.hydra.launcher.n_jobs = number
            task = OwnGpu(task)
        context = HydraContext(config_loader=cast(Any, WorkerConfigs(place)), callbacks=self.context.callbacks)
        launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=chosen)
        try:
            returned: Sequence[Any] = launcher.launch([[str(n)] for n in range(number)], initial_job_idx=0)
        except Exception as error:
            if disk_is_full(error) or isinstance(error, InputError):
                raise
            log.warning("The launcher stopped early: %r", error)
            self.why = f"{type(error).__name__}: {error}"
            return
        for job in returned:
            cause = job._return_value
            if isinstance(cause, InputError) or (isinstance(cause, BaseException) and disk_is_full(cause)):
                raise cause
            if isinstance(cause, BaseException):
                log.error("A worker of the search failed.", exc_info=cause)
                log.warning("A worker of the search failed: %r", cause)
                self.why = f"{type(cause).__name__}: {cause}"

    def num_workers(self, num_cells: int) -> int:
        """How many workers a launch starts."""
        if self._launcher_class.endswith("BasicLauncher"):
            return 1
        if self.search.workers is not None:
            return self.search.workers
        if self._launcher_class.endswith("JoblibLauncher"):
            import joblib

            return max(2, joblib.effective_n_jobs(self.config.hydra.launcher.n_jobs))
        return max(num_cells, WORKERS_ELSEWHERE)

    @property
    def _launcher_class(self) -> str:
        return str(self.config.hydra.launcher._target_)

    def _count_deaths(self, standings: Sequence[Standing], defaults: Mapping[str, Job]) -> None:
        """Record trials that keep killing their workers as failed."""
        ledger = Ledger(self.sweep.path)
        for standing in standings:
            for trial in standing.open:
                directory = self.sweep.run(trial.run_id)
                if is_held(directory.lock) or not holder(directory.lock):
                    continue
                self.deaths[trial.run_id] += 1
                log.warning("The worker of trial %s died (%d times).", trial.run_id, self.deaths[trial.run_id])
                if self.deaths[trial.run_id] >= MOST_DEATHS:
                    entry = listed(standing, trial.run_id, trial.params, trial.seed, defaults)
                    ledger.give_up(entry, f"Its worker died {MOST_DEATHS} times over.")

    def _how_to_go_on(self, standings: Sequence[Standing]) -> str:
        self._look(standings)
        done = sum(len(standing.ended) for standing in standings)
        return (
            f"Stopped; trials that have ended stay so: {done}. Those under way go on from their last epoch. "
            f"To go on:\n  {self.command}"
        )


def listed(
    standing: Standing, run_id: str, params: Mapping[str, Any], seed: int, defaults: Mapping[str, Job]
) -> ListedRun:
    """A trial as a comparison lists its runs."""
    job = defaults[standing.record.cell]
    settings = {**job.identity["settings"], **params, "seed": seed}
    data = {"name": job.source.name, "fingerprint": job.source.fingerprint}
    words = (*standing.record.overrides, *words_of(params), f"seed={seed}")
    return ListedRun(run_id, words, dict(standing.record.choices), settings, seed, data, job.split.sizes)


def _written(sweeper: DictConfig, name: str) -> Any:
    node = sweeper.get(name)
    return as_written(node) if OmegaConf.is_config(node) else ([] if name == "runs" else {})
