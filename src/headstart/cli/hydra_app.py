"""Hydra, set up so that a config is checked, data and weights included, before anything is written."""

import argparse
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core import utils as hydra_utils
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, configure_log
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from headstart.config import schema
from headstart.config.composer import Loader, search_path
from headstart.config.explanation import COMPOSITION_ERRORS, CONFIG_NAME, check_overrides, explained
from headstart.config.overrides import as_written, key_of
from headstart.errors import InputError, unknown
from headstart.metrics import shown
from headstart.names import plain
from headstart.record import result
from headstart.record.directory import RunDirectory
from headstart.record.result import Failure
from headstart.system.bounded import DamagedError
from headstart.system.lock import Lock
from headstart.system.places import check_no_links, writable

if TYPE_CHECKING:
    from headstart.run.findings import Findings
    from headstart.run.job import Job

FLAGS = {
    "--dry-run": "hydra.sweeper.dry_run=true",
    "--retry-failed": "hydra.sweeper.retry_failed=true",
    "--fresh-seeds": "hydra.sweeper.fresh_seeds=as_many",
}
"""Options of ours, and what each stands for."""
NOT_OURS = ("config_path", "experimental_rerun")
"""Hydra's options that would read configs from any package, or run a pickle."""


class Application(Hydra):
    """Hydra's own application with guarded composition."""

    job: "Job | None" = None
    """The one run that is carried out, once it has been checked: whatever asks for its id is told by it."""

    def run_id(self, cfg: DictConfig) -> str:
        """What `${run_id:}` stands for in a config."""
        from headstart.run.prepare import job_config, prepare

        return prepare(job_config(cfg), findings=findings()).run_id if self.job is None else self.job.run_id

    def compose_config(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        with_log_configuration: bool = False,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """As Hydra's, which may do without a config of ours; and logging follows no config that was refused."""
        parser = OverridesParser.create(config_loader=self.config_loader)
        check_overrides(parser.parse_overrides(overrides), self.config_loader)
        name = config_name or CONFIG_NAME
        try:
            cfg = super().compose_config(name, overrides, run_mode, False, from_shell, validate_sweep_overrides)
        except (ValueError, TypeError, KeyError, AttributeError, AssertionError, RecursionError) as error:
            if isinstance(error, (InputError, *COMPOSITION_ERRORS)):
                raise
            reason = "configs name each other in a circle" if isinstance(error, RecursionError) else str(error)
            raise InputError(f"The config cannot be composed: {reason}. Mend the file that says so.") from error
        cfg.hydra.mode = run_mode
        if with_log_configuration:
            configure_log(cfg.hydra.hydra_logging, cfg.hydra.verbose)
        return cfg

    def run(
        self,
        config_name: str | None,
        task_function: Callable[[Any], Any],
        overrides: list[str],
        with_log_configuration: bool = True,
    ) -> JobReturn:
        """One run; raises `InputError` before its directory is made if anything is wrong with it."""
        from headstart.run.prepare import job_config, prepare

        cfg = self.compose_config(config_name, overrides, RunMode.RUN, with_log_configuration=True)
        if cfg.search.method != "none":
            raise InputError(f"search={cfg.search.method} tries many settings: add -m. For one run, use search=none.")
        job = self.job = prepare(job_config(cfg), findings=findings())
        check_no_links(Path(cfg.hydra.run.dir))
        retry = bool(OmegaConf.select(cfg, "hydra.sweeper.retry_failed"))
        outcome = _outcome_before(RunDirectory(Path(cfg.hydra.run.dir)), job, retry)
        if outcome is not None:
            done = JobReturn()
            done.status, done.return_value = hydra_utils.JobStatus.COMPLETED, outcome
            return done
        writable(str(cfg.hydra.run.dir), "hydra.run.dir")
        done = hydra_utils.run_job(
            hydra_context=HydraContext(config_loader=self.config_loader, callbacks=Callbacks()),
            task_function=partial(do_runs, job=job),
            config=cfg,
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
        )
        print(f"run     {cfg.hydra.run.dir}")
        if done.return_value is False:
            sys.stderr.write("To try it again, add --retry-failed.\n")
        return done

    def multirun(
        self,
        config_name: str | None,
        task_function: Callable[[Any], Any],
        overrides: list[str],
        with_log_configuration: bool = True,
    ) -> Any:
        """A comparison, by the configured sweeper."""
        cfg = self._comparison_config(config_name, overrides)
        _check_search(parser_of(self).parse_overrides(overrides))
        _check_launcher(cfg)
        context = HydraContext(config_loader=self.config_loader, callbacks=Callbacks())
        arguments = as_written(cfg.hydra.overrides.task)
        comparison = _comparison(cfg)(context, task_function, cfg, findings())
        done = comparison.run(arguments)
        if comparison.fresh_seeds is not None:
            from headstart.report.anew import selected_overrides

            chosen = selected_overrides(Path(cfg.hydra.sweep.dir), comparison.listed(), set(comparison.planned))
            done = comparison.run_anew(chosen) and done
        if not OmegaConf.select(cfg, "hydra.sweeper.dry_run"):
            from headstart.cli.commands import finish_comparison

            finish_comparison(Path(cfg.hydra.sweep.dir), cfg)
        return done

    def _comparison_config(self, config_name: str | None, overrides: list[str]) -> DictConfig:
        """A comparison's own config: what its runs set goes with their choices, which need not be the usual ones.

        Each run is composed with all of it, and says what does not go with its choices.
        """
        try:
            return self.compose_config(config_name, overrides, RunMode.MULTIRUN, with_log_configuration=True)
        except (InputError, *COMPOSITION_ERRORS) as error:
            of_choices = [word for word in overrides if _is_of_a_choice(word)]
            if not of_choices:
                raise
            first = error
        kept = [word for word in overrides if word not in of_choices]
        try:
            self.compose_config(config_name, kept, RunMode.MULTIRUN)  # what is wrong with these is wrong with all runs
        except (InputError, *COMPOSITION_ERRORS):
            if any(f"${{{key_of(word)}" in one for word in of_choices for one in kept):
                raise first  # noqa: B904 (whose own cause tells what was wrong)
            raise
        for word in of_choices:
            with suppress(InputError, *COMPOSITION_ERRORS):
                self.compose_config(config_name, [*kept, word], RunMode.MULTIRUN)
                kept.append(word)
        shared = [word for word in overrides if word in kept]
        cfg = self.compose_config(config_name, shared, RunMode.MULTIRUN, with_log_configuration=True)
        of_runs = {*of_choices, *as_written(cfg.hydra.overrides.task)}
        cfg.hydra.overrides.task = [word for word in overrides if word in of_runs]
        return cfg


def parser_of(app: Application) -> OverridesParser:
    return OverridesParser.create(config_loader=app.config_loader)


def _is_of_a_choice(word: str) -> bool:
    """Whether it sets something that a group's choice may have or not: `strategy.last_k=2`."""
    group, dot, _ = key_of(word).partition(".")
    return bool(dot) and group in schema.GROUPS


def _comparison(cfg: DictConfig) -> Any:
    """Who carries a comparison out: a search, if the config asks for one."""
    if cfg.search.method != "none":
        from headstart.search.search import Search

        return Search
    from headstart.sweep.sweeper import Sweep

    return Sweep


def _check_search(overrides: list[Any]) -> None:
    """Raise `InputError` for a search that is itself listed: there is one of them."""
    for one in overrides:
        if one.key_or_group.partition(".")[0].partition("/")[0] == "search" and one.is_sweep_override():
            raise InputError(f"{one.input_line} lists several, but a comparison has one search: choose one value.")


def _check_launcher(cfg: DictConfig) -> None:
    """Raise `InputError` for settings of joblib that would not be used, or with which it could start nothing."""
    if not str(cfg.hydra.launcher.get("_target_")).endswith("JoblibLauncher"):
        return
    settings = {str(name): value for name, value in cfg.hydra.launcher.items() if name != "_target_"}
    if settings["n_jobs"] == 0:
        raise InputError("hydra.launcher.n_jobs, the number of processes, must not be 0. -1 is one for each core.")
    for name, used in (("backend", (None, "loky")), ("prefer", (None, "processes")), ("require", (None,))):
        if settings[name] not in used:
            raise InputError(
                f"hydra.launcher.{name}={settings[name]} would not be used: Hydra's launcher for joblib always starts "
                "processes (loky). Leave it out."
            )
    import joblib

    try:
        joblib.Parallel(**{**settings, "verbose": 0})([])
    except Exception as error:  # what it raises depends on the setting
        raise InputError(f"hydra/launcher=joblib does not start with what hydra.launcher has: {error}") from error


def train(words: list[str]) -> int:
    """`headstart train`: one run or, with `-m`, a comparison. Returns the exit status."""
    for flag, option in FLAGS.items():
        given = [word for word in words if word.partition("=")[0] == flag]
        if not given:
            continue
        if flag != "--retry-failed" and "-m" not in words and "--multirun" not in words:
            raise InputError(f"{flag} is for comparisons: add -m.")
        _, equals, value = given[-1].partition("=")
        if equals and flag != "--fresh-seeds":
            raise InputError(f"{flag} takes no value, but got {value!r}.")
        option = f"hydra.sweeper.fresh_seeds={_fresh_seeds(value)}" if equals else option
        words = [*(word for word in words if word not in given), option]
    return hydra_main(words)


def _fresh_seeds(value: str) -> int | None:
    """How many seeds were asked for."""
    from headstart.sweep.fresh import number_asked

    return number_asked(int(value) if value.isascii() and value.isdigit() else value or "nothing")


def plan(words: list[str]) -> int:
    """`headstart plan`: what would train when, in a picture or, with `--json`, for tools."""
    as_json = "--json" in words
    rest = [word for word in words if word != "--json"]
    _refuse_for_plan(_parsed(rest))
    cfg = compose_config(rest)

    from headstart.cli.plan import show
    from headstart.run.prepare import draft, job_config

    space = []
    if cfg.search.method != "none" and not as_json:
        from headstart.search.cells import brought_ranges

        space = [f"Searched (search={cfg.search.method}): {one}" for one in brought_ranges(cfg, rest).values()]
    show(draft(job_config(cfg)), as_json)
    for line in space:
        print(plain(line))
    return 0


def compose_config(words: list[str]) -> DictConfig:
    """The config that `words` describe, guarded, as `train` would run it."""
    args = _parsed(words)
    app = _application(args)
    try:
        return app.compose_config(args.config_name or CONFIG_NAME, args.overrides, RunMode.RUN)
    except COMPOSITION_ERRORS as error:
        raise explained(error, app.config_loader, args.overrides) from error
    finally:
        GlobalHydra.instance().clear()


def prepared(words: list[str]) -> tuple["Job", Path]:
    """The one run that `words` describe, checked, and the directory that it goes to."""
    from headstart.run.prepare import job_config, prepare

    args = _parsed(words)
    if args.multirun or len(args.overrides) != len(words):
        raise InputError("Give settings alone, as strategy=fine_tune; comparisons are for headstart train -m.")
    app = _application(args)
    try:
        cfg = app.compose_config(CONFIG_NAME, args.overrides, RunMode.RUN)
        app.job = prepare(job_config(cfg), findings=findings())
        return app.job, Path(cfg.hydra.run.dir)
    except COMPOSITION_ERRORS as error:
        raise explained(error, app.config_loader, args.overrides) from error
    finally:
        GlobalHydra.instance().clear()


def hydra_main(words: list[str]) -> int:
    """What `hydra.main` does, over our configs; returns the exit status instead of leaving the process."""
    args = _parsed(words)
    app = _application(args)
    try:
        return _act(app, args)
    except COMPOSITION_ERRORS as error:
        raise explained(error, app.config_loader, args.overrides) from error
    finally:
        GlobalHydra.instance().clear()


def _parsed(words: list[str]) -> argparse.Namespace:
    parser = get_args_parser()
    actions = [action for action in parser._actions if action.dest not in NOT_OURS]
    options = [option for action in actions for option in action.option_strings]
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("-") and option not in options:
            if option.lstrip("-").partition(".")[0] in schema.SPINE:
                raise InputError(f"{word} is no option: settings are written without dashes, {word.lstrip('-')}.")
            named = [one for one in options if one.startswith("--")]
            raise unknown("option", option, [*named, *FLAGS])
    parser.error = _refuse_words  # type: ignore[method-assign,assignment]
    args = parser.parse_intermixed_args(words)
    if (args.resolve or args.package) and not args.cfg:
        raise InputError("--resolve and --package go with --cfg job, which shows the config.")
    if args.run and args.multirun:
        raise InputError("--run and -m exclude each other: give one of them.")
    return args


def _refuse_words(message: str) -> None:
    raise InputError(f"{message[:1].upper()}{message[1:].rstrip('.')}. See headstart train --help.")


def _refuse_for_plan(args: argparse.Namespace) -> None:
    """Raise `InputError` for options that a plan has no use for."""
    given = {"-m": args.multirun, "--run": args.run, "--cfg": args.cfg, "--info": args.info, "--resolve": args.resolve}
    useless = [option for option, value in given.items() if value]
    if useless:
        raise InputError(f"headstart plan shows the plan of one run: leave out {', '.join(useless)}.")


def _application(args: argparse.Namespace) -> Application:
    findings.cache_clear()  # what an earlier command of this process found may have changed, or lain elsewhere
    app = Application("headstart", Loader(search_path(args.config_dir)))
    OmegaConf.register_new_resolver("run_id", lambda *, _root_: app.run_id(_root_), replace=True)
    GlobalHydra.instance().clear()
    GlobalHydra.instance().initialize(app)
    return app


def _act(app: Application, args: argparse.Namespace) -> int:
    name, overrides = args.config_name or CONFIG_NAME, args.overrides
    if args.help:
        app.app_help(config_name=name, args_parser=get_args_parser(), args=args)
    elif args.hydra_help:
        app.hydra_help(config_name=name, args_parser=get_args_parser(), args=args)
    elif args.cfg:
        try:
            app.show_cfg(name, overrides, args.cfg, args.package, args.resolve)
        except SystemExit:  # Hydra has said so itself
            raise InputError(
                f"--package must be a part of the config, such as trainer, but is {args.package}."
            ) from None
    elif args.shell_completion:
        try:
            app.shell_completion(config_name=name, overrides=overrides)
        except ValueError as error:
            raise InputError(
                f"Say which shell, as in headstart -sc install=bash: {' '.join(str(error).split())}"
            ) from error
    elif args.info:
        app.compose_config(name, overrides, RunMode.RUN)  # some of what follows would show parts of it unchecked
        app.show_info(args.info, config_name=name, overrides=overrides)
    else:
        return _train(app, name, overrides, args.multirun)
    return 0


def _train(app: Application, name: str, overrides: list[str], multirun: bool) -> int:
    warnings.filterwarnings("ignore", module="hydra")
    if not multirun:
        return 0 if app.run(name, do_runs, overrides).return_value is True else 1
    return 0 if app.multirun(name, do_runs, overrides) else 1


def do_runs(cfg: DictConfig, job: "Job | None" = None) -> bool:
    """What every launcher calls with a composed config; true if its runs completed.

    `job`: the run that it describes, where this process has checked it just now.
    """
    from headstart.run.launched import run_launched

    return run_launched(cfg, findings(), job)


@cache
def findings() -> "Findings":
    """What this process has found of the runs that it checks and carries out, for the next of them."""
    from headstart.run.findings import Findings

    return Findings()


def _outcome_before(directory: RunDirectory, job: "Job", retry: bool) -> bool | None:
    """Whether this very run was completed before or failed, having said so; `None` if it is to be done (again).

    Raises:
        InputError: if another run was done there; it is never written over.
    """
    try:
        done = result.checked(directory, job.run_id)
    except result.OtherRunError as error:
        raise InputError(
            f"hydra.run.dir must be free for run {job.run_id}, but in {directory.path} {error}. Name another."
        ) from None
    except DamagedError:
        return None  # it is done again, and what is there set aside
    if done is None:
        return None
    if done.is_completed:
        directory.finish(job.cfg.trainer.keep_checkpoint)
        name = f"test/{done.score}"
        score = f" ({shown(name, done.metrics[name])})" if name in done.metrics else ""
        print(f"Already completed, nothing to do: {directory.path}{score}.")
        return True
    if retry:
        with Lock(directory.lock, wait=False) as lock:
            if lock.held:
                directory.set_aside()
        return None
    cause = done.error or Failure()
    reason = str(cause.message or "it does not say why").strip()
    sys.stderr.write(
        f"This run failed before: {plain(str(cause.type))}: {plain(reason.splitlines()[0])}\n"
        f"All that is known of it lies in {directory.path}. To try it again, add --retry-failed.\n"
    )
    return False
