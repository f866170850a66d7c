"""A run, from data to result: every part of it is built here, top to bottom, in the order that data flows."""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from headstart import metrics, notes
from headstart.config import recorded
from headstart.config.schema import TrainerConfig
from headstart.errors import InputError, disk_is_full
from headstart.names import plain_lines
from headstart.progress import Progress
from headstart.record import result
from headstart.record.directory import RunDirectory
from headstart.record.environment import environment, git
from headstart.record.recorder import PeakMemory, Recorder
from headstart.record.result import Data, Failure, Result
from headstart.record.writing import write_bytes, write_json
from headstart.run.findings import Findings
from headstart.run.job import Job
from headstart.run.parts import (
    build_backbone,
    build_head,
    build_optimizer,
    data_module,
    fitted_heads,
    frozen_features,
    kept_activations,
    stored_views,
)
from headstart.run.pools import record_of
from headstart.run.prepare import job_config, prepare
from headstart.run.scores import conclude, conclude_probe, count_parameters, keep_adapter, score
from headstart.run.unchanged import check_unchanged
from headstart.strategies import drawing
from headstart.system.lock import Lock
from headstart.training.activations import FEATURES
from headstart.training.checkpoints import resumable
from headstart.training.device import check_precision, device_of
from headstart.training.epochs import EarlyStopping, EpochRows, FlopMeter, PlateauThaw, keepers, load_weights
from headstart.training.module import TransferModule
from headstart.training.ranks import other_ranks
from headstart.training.thaw import Thaw
from headstart.training.trainer import interruptible, lightning_trainer

log = logging.getLogger(__name__)

DEFAULT_THREADS = torch.get_num_threads()
"""What the machine, or the launcher of several processes on it, gives this process where a run does not say."""

TELLING = (
    "backbone=",
    "backbone.model",
    "strategy.",
    "unfreeze",
    "augmentation",
    "optimizer",
    "scheduler",
    "head",
    "split",
)
"""Beginnings of the overrides that are shown with a run."""
NOISE = (".*does not have many workers", ".*Checkpoint directory", ".*lr_scheduler.step", ".*treespec, LeafSpec")
"""Beginnings of warnings that tell a user nothing."""
CHANGES = ("You (passed|requested) ", ".*Disabling", ".*hence setting ", ".*Using `.*` instead")
"""Beginnings of warnings by which libraries say that they do something else than they were asked to."""


@dataclass(frozen=True)
class Fit:
    """A model that has been trained, at its last weights, with a row an epoch and what it took."""

    module: TransferModule
    rows: Sequence[Mapping[str, Any]]
    flops: float
    seconds: float
    feature_flops: float
    feature_seconds: float
    peak_memory: int | None
    device: torch.device


def run(jobs: Sequence[Job], directories: Sequence[RunDirectory]) -> list[Result]:
    """Carry out one job, or several probes of the same features together, each into its own directory.

    Returns:
        The results as they were written. A run that fails is recorded as failed; what is raised is an interrupt or a
        full disk, of which no run is the cause: they leave runs to be resumed.
    """
    with notes.listening() as heard, notes.of_libraries(NOISE, CHANGES):
        share = 1 / len(jobs)
        return _run(jobs, [_open(job, place, heard, share) for job, place in zip(jobs, directories, strict=True)])


def _run(jobs: Sequence[Job], records: Sequence[Recorder]) -> list[Result]:
    try:
        settings = jobs[0].cfg.trainer
        check_precision(settings.precision, settings.accelerator)  # another machine may have prepared it
        _settle(settings)
        if jobs[0].is_probe:
            return train_heads(jobs, records)
        assert len(jobs) == 1, "only probes are trained together"
        return [train(jobs[0], records[0])]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a run that exits, or runs out of memory, fails alone
        if disk_is_full(error):
            raise
        sys.stderr.write(plain_lines(f"{_title(jobs[0])}  failed: {error}\n"))
        runs = [(record, result.read(record.directory, record.base["run_id"])) for record in records]
        return [done or record.fail(error) for record, done in runs]


def train(job: Job, record: Recorder) -> Result:
    """Train a model as its plan says, and score it on the test sets by the weights that were best on val."""
    directory = record.directory
    note = "going on from its last epoch" if directory.last.is_file() else ""
    progress = Progress(_title(job), job.cfg.trainer.max_epochs, note, _shown(job))
    with other_ranks(directory.path, job.cfg.trainer.devices, job.run_id):
        fit = _fit(job, directory, record.row, progress)
    load_weights(fit.module, directory.best, job.run_id)
    backbone, head = fit.module.backbone, fit.module.head
    scored = score(job, data_module(job), fit.module.to(fit.device).eval(), fit.device)
    reached = 1 + max(row["phase"] for row in fit.rows)
    cost = {
        "train_seconds": fit.seconds,
        "feature_seconds": fit.feature_seconds,
        "train_flops": fit.flops,
        "feature_flops": fit.feature_flops,
        "peak_memory_bytes": fit.peak_memory,
        "trainable_parameters": job.num_trainable(reached) + count_parameters(head),
        "total_parameters": count_parameters(backbone) + count_parameters(head),
        "fused_with": 0,
    }
    check_unchanged(job)
    job.examples.verify()
    keep_adapter(job, fit.module, directory)
    kept = {phase: kept.boundary for phase, kept in fit.module.kept.items()}
    done = conclude(job, record, fit.rows, scored, cost, backbone.weights, kept)
    directory.tidy(job.cfg.trainer.keep_checkpoint)
    progress.done(_last_line(done))
    return done


def follow(job: Job, directory: RunDirectory) -> None:
    """Train along as one rank of the run in `directory`; nothing is recorded here."""
    _settle(job.cfg.trainer)
    with notes.of_libraries(NOISE, CHANGES):
        _fit(job, directory, lambda row: None, Progress(_title(job), job.cfg.trainer.max_epochs, live=False))


def _fit(job: Job, directory: RunDirectory, on_row: Callable[[Mapping[str, Any]], None], progress: Progress) -> Fit:
    """Train a model as its plan says: data → backbone → head → module → trainer → fit."""
    settings = job.cfg.trainer
    data = data_module(job)
    backbone = build_backbone(job)
    head = build_head(job, backbone.num_features)
    groups = backbone.groups(job.strategy.granularity)
    module = TransferModule(
        backbone,
        head,
        groups,
        job.task,
        job.num_outputs,
        build_optimizer(job),
        job.seed,
        [name.removeprefix("val/") for name in job.history[4:]],
        job.parts.augmentation,
        job.strategy.regularizer,
    )
    thaw = Thaw(job.plan, job.parts.scheduler, groups)
    rows, flops = EpochRows(thaw, on_row, progress), FlopMeter(thaw)
    callbacks = [thaw, PlateauThaw(thaw, directory.plateau, job.run_id), rows, flops]
    callbacks += keepers(directory.best, directory.last, rows, settings.monitor)
    if settings.patience is not None:
        callbacks.append(EarlyStopping(thaw, settings.patience, settings.min_delta, settings.monitor))
    trainer = lightning_trainer(settings, callbacks, directory.path, job.run_id)
    device = trainer.strategy.root_device
    memory, frozen = PeakMemory(device), frozen_features(job, device)
    module.keep(kept_activations(job, backbone, frozen, device))
    began = time.perf_counter()
    with interruptible():
        trainer.fit(module, data, ckpt_path=resumable(directory.last, job.run_id), weights_only=True)
    seconds = time.perf_counter() - began
    return Fit(module, rows.rows, flops.total, seconds, frozen.flops, frozen.seconds, memory.read(), device)


def train_heads(jobs: Sequence[Job], records: Sequence[Recorder]) -> list[Result]:
    """Run the frozen backbone once over the data and train every job's head on what it gives."""
    first, settings = jobs[0], jobs[0].cfg.trainer
    device = device_of(settings.accelerator)
    memory = PeakMemory(device)
    frozen = frozen_features(first, device)
    progress = Progress(_title(*jobs), settings.max_epochs, shown=_shown(first))
    source, reading = first.source, first.reading.description
    views = [view[FEATURES] for view in stored_views(first, frozen)]
    features = views[0]
    shifted = {
        name: (shift, frozen.of(shift.examples(**first.reading.arguments), shift.fingerprint, reading, counted=False))
        for name, shift in source.shifts.items()
    }
    heads = [build_head(job, features.shape[1]) for job in jobs]
    try:
        outcomes = fitted_heads(jobs, heads, views, device, progress)
    except Exception as error:
        if len(jobs) == 1 or disk_is_full(error):
            raise
        log.warning("Together the heads failed (%r); each is trained alone.", error)
        return [run([job], [record.directory])[0] for job, record in zip(jobs, records, strict=True)]
    check_unchanged(first)  # all have the same data and weights
    results = [
        conclude_probe(job, record, head, outcome, features, shifted, frozen, memory)
        for job, record, head, outcome in zip(jobs, records, heads, outcomes, strict=True)
    ]
    failed = sum(not one.is_completed for one in results)
    several = f"{len(results) - failed} trained" + (f", {failed} failed" if failed else "")
    progress.done(_last_line(results[0]) if len(results) == 1 else several)
    return results


def execute(cfg: DictConfig, findings: Findings, prepared: Job | None = None) -> bool:
    """What a launcher calls for one composed config and its companions; true if all their runs are completed.

    `findings` are of the runs that this process did before; `prepared` is the job of a config that was checked just
    now, so that it need not be again.

    Each run is worked on by one process at a time; those that are done, or that another is at, are left alone.
    """
    notes.show()
    hydra = HydraConfig.get()
    first = Path(hydra.runtime.output_dir)
    others = [first.parent / name for name in cfg.companions]
    configs = {first: cfg} | {path: recorded.load(RunDirectory(path).config) for path in others}
    # a comparison's runs lie in directories of their names, which is what they must come to
    names = {path: path.name if hydra.mode == RunMode.MULTIRUN else None for path in configs}
    with ExitStack() as locks:
        free = [path for path in configs if locks.enter_context(Lock(RunDirectory(path).lock, wait=False)).held]
        mine = [path for path in free if result.read(RunDirectory(path), names[path]) is None]
        for path in mine:
            RunDirectory(path).remove_drafts()
        if mine:
            with notes.quiet():  # what there is to say was shown when the runs were drawn up
                if prepared is None:
                    jobs = {path: prepare(job_config(configs[path], hydra), findings=findings) for path in mine}
                else:
                    jobs = dict.fromkeys(mine, prepared)
                    notes.say_again(prepared.notes)  # for the log, which has been opened since
            changed = [path for path, job in jobs.items() if names[path] not in (None, job.run_id)]
            if hydra.mode == RunMode.MULTIRUN and len(changed) < len(mine):  # the comparison may have waited long
                check_unchanged(next(job for path, job in jobs.items() if path not in changed))
            same = [path for path in mine if path not in changed]
            if same:
                run([jobs[path] for path in same], [RunDirectory(path) for path in same])
            if changed:
                raise InputError(*(_changed(path, jobs[path]) for path in changed))
    return all(result.completed(RunDirectory(path), names[path]) for path in configs)


def _changed(directory: Path, job: Job) -> str:
    return (
        f"{directory} is the place of run {directory.name}, but its config, data or weights now make run {job.run_id}: "
        "they were changed after the comparison was drawn up. Start the comparison again."
    )


def _open(job: Job, directory: RunDirectory, heard: notes.Notes, share: float = 1.0) -> Recorder:
    """Begin a run's record: its config and plan are on the disk before anything is trained.

    `share`: of the time that passes, what is this run's, where several are done together.
    """
    directory.path.mkdir(parents=True, exist_ok=True)
    why = result.damage(directory, job.run_id)
    if why is not None:
        aside = directory.set_aside(keep=[directory.log])  # which is being written to
        log.warning("The record that was here cannot be used: %s. It lies in %s now.", why, aside)
    if not directory.log.exists():
        note = "Trained together with other runs; the log is in the first one's directory.\n"
        write_bytes(directory.log, note.encode())
    write_bytes(directory.config, recorded.dumped(job.cfg).encode())
    write_json(directory.plan, job.plan.to_dict())
    write_bytes(
        directory.drawing,
        drawing.svg(job.plan, job.parts.scheduler, job.parts.rate).encode(),
    )
    source = job.source
    base = {
        "run_id": job.run_id,
        "choices": dict(job.cfg.choices),
        "settings": dict(job.identity["settings"]),
        "overrides": list(job.cfg.overrides),
        "seed": job.seed,
        "task": job.task.name,
        "data": Data(
            name=source.name,
            fingerprint=source.fingerprint,
            split_sha256=job.split.sha256,
            sizes=job.split.sizes,
            **{job.task.outputs: list(job.targets.names)},
            more={**source.facts, **record_of(source, job.splitter, job.split)},
            duplicates=None if job.duplicates is None else job.duplicates.record,
        ),
        "environment": {**environment(), "threads": torch.get_num_threads()},
        "git": git(str(Path.cwd())),
        "rerun": result.repeat_command(directory.path),
    }
    return Recorder(directory, base, job.cfg.name, job.parts.logger, [job.notes, heard.messages], share)


def _settle(settings: TrainerConfig) -> None:
    """Bring process-wide switches in line with the run."""
    torch.set_num_threads(settings.threads or DEFAULT_THREADS)
    torch.use_deterministic_algorithms(settings.deterministic, warn_only=True)
    # what no operation reads need not be filled first: that is for debugging, and costs time in every step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


def _title(job: Job, *others: Job) -> str:
    """`fine_tune optimizer.lr=0.001 seed=0 [0123456789ab]`: what most likely tells a run from those beside it."""
    strategy = job.cfg.choices.get("strategy", "run")
    if others:
        return f"{strategy}, {1 + len(others)} heads together [{job.run_id} …]"
    told = [word for word in job.cfg.overrides if word.startswith(TELLING)]
    return f"{' '.join([strategy, *told])} seed={job.seed} [{job.run_id}]"


def _shown(job: Job) -> list[str]:
    """What is shown of an epoch beside the losses."""
    return [f"val/{job.task.score}", job.cfg.trainer.monitor]


def _last_line(done: Result) -> str:
    if not done.is_completed or done.selection is None:
        return f"failed: {(done.error or Failure()).message}"
    found, monitor = done.metrics, done.selection.metric
    own = f"test/{monitor.removeprefix('val/')}"
    test = [name for name in dict.fromkeys([f"test/{done.score}", own]) if name in found and name != "test/loss"]
    tested = ", ".join(metrics.shown(name, found[name]) for name in test)
    best = (
        f"best {metrics.shown(monitor, found[monitor])} at epoch {found['best_epoch'] + 1}"  # as they are counted above
    )
    return f"{tested} ({best})"
