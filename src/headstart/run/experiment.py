"""A run, from data to result: every part of it is built here, top to bottom, in the order that data flows."""

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from headstart import notes
from headstart.errors import disk_is_full
from headstart.names import plain_lines
from headstart.progress import Progress
from headstart.record import result
from headstart.record.directory import RunDirectory
from headstart.record.recorder import PeakMemory, Recorder
from headstart.record.result import Result
from headstart.run.attention import weigh_channels
from headstart.run.averages import average_of, moving_average
from headstart.run.begin import begin_record
from headstart.run.cotuning import relate, with_source
from headstart.run.heads import fitted_heads
from headstart.run.job import Job
from headstart.run.parts import build_backbone, build_head, build_optimizer, data_module, some_training_batches
from headstart.run.scores import (
    count_parameters,
    keep_adapter,
    keep_model_files,
    of_layers,
    record_probe,
    record_scores,
    record_trial,
    score,
    score_val,
)
from headstart.run.screen import last_line, shown_of_epochs, title
from headstart.run.stored import frozen_features, kept_activations, stored_views
from headstart.run.unchanged import check_unchanged
from headstart.training.activations import FEATURES
from headstart.training.averaging import Ema, Start
from headstart.training.checkpoints import resumable, write_whole
from headstart.training.device import check_precision, device_of, set_process_up
from headstart.training.epochs import (
    EarlyStopping,
    EpochRows,
    FlopMeter,
    Pause,
    PausedError,
    PlateauThaw,
    keepers,
    load_weights,
)
from headstart.training.module import TransferModule
from headstart.training.ranks import other_ranks
from headstart.training.relative_rates import NUM_BATCHES, RelativeRates
from headstart.training.sharpness import SharpnessAware
from headstart.training.source_head import count_source
from headstart.training.thaw import Thaw
from headstart.training.trainer import interruptible, is_sharded, lightning_trainer, more_than_one_value

log = logging.getLogger(__name__)

NOISE = (
    ".*does not have many workers",
    ".*Checkpoint directory",
    ".*lr_scheduler.step",
    ".*treespec, LeafSpec",
    r"FSDP2-wrapped module \(FSDP\w*Backbone\) returned a view",  # into which no head writes
)
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
    is_paused: bool = False
    """Whether it was left before its end, to go on from there."""
    earlier: float = 0.0
    """Seconds of the epochs that it found done when it went on."""
    average: Ema | Start | None = None
    """What averaged its weights, or what they are yet to be mixed with."""


def run(jobs: Sequence[Job], directories: Sequence[RunDirectory], until: int | None = None) -> list[Result]:
    """Carry out one job, or several probes of the same features together, each into its own directory.

    `until`: epochs after which a trial of a search is paused, its last checkpoint kept; heads on features are not.

    Returns:
        The results as they were written. A run that fails is recorded as failed; what is raised is an interrupt or a
        full disk, of which no run is the cause: they leave runs to be resumed.
    """
    with notes.listening() as heard, notes.of_libraries(NOISE, CHANGES):
        pairs, share = zip(jobs, directories, strict=True), 1 / len(jobs)
        return _run(jobs, [begin_record(job, directory, heard, share) for job, directory in pairs], until)


def _run(jobs: Sequence[Job], records: Sequence[Recorder], until: int | None) -> list[Result]:
    try:
        settings = jobs[0].cfg.trainer
        check_precision(settings.precision, settings.accelerator)  # another machine may have prepared it
        set_process_up(settings.threads, settings.deterministic)
        if jobs[0].is_probe:
            return train_heads(jobs, records)
        assert len(jobs) == 1, "only probes are trained together"
        return [train_model(jobs[0], records[0], *filter(None, [until]))]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a run that exits, or runs out of memory, fails alone
        if disk_is_full(error):
            raise
        sys.stderr.write(plain_lines(f"{title(jobs[0])}  failed: {result.message_of(error)}\n"))
        runs = [(record, result.read(record.directory, record.base["run_id"])) for record in records]
        # what a paused trial left is not what became of it now
        return [done if done and done.status != "stopped" else record.fail(error) for record, done in runs]


def train_model(job: Job, record: Recorder, until: int | None = None) -> Result:
    """Train a model as its plan says, and score it on the test sets by the weights that were best on val."""
    directory = record.directory
    note = "going on from its last epoch" if directory.last.is_file() else ""
    progress = Progress(title(job), job.cfg.trainer.max_epochs, note, shown_of_epochs(job))
    with other_ranks(directory.path, job.cfg.trainer.devices, job.run_id):
        fit = _fit(job, directory, record.row, progress, until)
    record.earlier = fit.earlier
    backbone, head = fit.module.backbone, fit.module.head
    reached = 1 + max(row["phase"] for row in fit.rows)
    cost: dict[str, Any] = {
        "train_seconds": fit.seconds + fit.earlier,
        "feature_seconds": fit.feature_seconds,
        "train_flops": fit.flops,
        "feature_flops": fit.feature_flops,
        "peak_memory_bytes": fit.peak_memory,
        "trainable_parameters": job.num_trainable(reached) + count_source(backbone) + count_parameters(head),
        "total_parameters": count_parameters(backbone) + count_parameters(head),
        "fused_with": 0,
    }
    kept = {phase: kept.boundary for phase, kept in fit.module.kept.items()}
    if job.is_trial:
        check_unchanged(job)
        job.examples.verify()
        status = "stopped" if fit.is_paused else "completed"
        done = record_trial(job, record, fit.rows, cost, backbone.weights, kept, status)
        if not fit.is_paused:
            directory.tidy(keep_checkpoint=False)
        progress.done(last_line(done))
        return done
    if is_sharded(job.cfg.trainer):  # other devices have left with their parts of it
        fit = replace(fit, module=_module(job))
    best = load_weights(fit.module, directory.best, job.run_id)
    write_whole(directory.best, best, fit.module, job.run_id)
    data, module = data_module(job), fit.module.to(fit.device).eval()
    began = time.perf_counter()
    average = average_of(job, module, fit.average, directory, fit.rows)
    cost["train_seconds"] += time.perf_counter() - began
    scored = score(job, data, module, fit.device)
    val = score_val(job, data, module, fit.device)
    check_unchanged(job)
    job.examples.verify()
    keep_adapter(job, fit.module, directory)
    keep_model_files(job, directory)
    told = kept, average.record, of_layers(module)
    done = record_scores(job, record, average.rows, scored, val, cost, backbone.weights, *told)
    directory.tidy(job.cfg.trainer.keep_checkpoint)
    progress.done(last_line(done))
    return done


def follow(job: Job, directory: RunDirectory) -> None:
    """Train along as one rank of the run in `directory`; nothing is recorded here."""
    set_process_up(job.cfg.trainer.threads, job.cfg.trainer.deterministic)
    with notes.of_libraries(NOISE, CHANGES):
        _fit(job, directory, lambda row: None, Progress(title(job), job.cfg.trainer.max_epochs, live=False))


def begin(job: Job, directory: RunDirectory, epochs: int) -> Sequence[Mapping[str, Any]]:
    """Train the first epochs of a run and leave it as a kill would, to go on from there; nothing is scored on test.

    Returns:
        The rows of its history so far.
    """
    with notes.listening() as heard, notes.of_libraries(NOISE, CHANGES):
        record = begin_record(job, directory, heard)
        set_process_up(job.cfg.trainer.threads, job.cfg.trainer.deterministic)
        return _fit(job, directory, record.row, Progress(title(job), job.cfg.trainer.max_epochs), epochs).rows


def rehearse(job: Job, directory: RunDirectory, watch: Any) -> None:
    """Train as a run does, while a callback (`watch`) looks on, and ends it by what it raises; nothing is recorded."""
    set_process_up(job.cfg.trainer.threads, job.cfg.trainer.deterministic)
    with notes.of_libraries(NOISE, CHANGES):
        silent = Progress("", job.cfg.trainer.max_epochs, speaks=False)
        _fit(job, directory, lambda row: None, silent, watch=[watch])


def _fit(
    job: Job,
    directory: RunDirectory,
    on_row: Callable[[Mapping[str, Any]], None],
    progress: Progress,
    until: int | None = None,
    watch: Sequence[Any] = (),
) -> Fit:
    """Train a model as its plan says: data → module → trainer → fit."""
    settings = job.cfg.trainer
    data = data_module(job)
    module = _module(job)
    backbone, groups = module.backbone, module.groups
    if settings.compile:
        module.compile_backbone()
    thaw = Thaw(job.plan, job.parts.scheduler, groups, settings.max_steps)
    rows, flops = EpochRows(thaw, on_row, progress), FlopMeter(thaw)
    most = NUM_BATCHES * settings.batch_size
    relative = (
        [RelativeRates(thaw, lambda: some_training_batches(job, most), flops)] if job.strategy.layer_rates else []
    )
    ema = moving_average(job, module, rows)
    start = Start(module, thaw) if job.strategy.average == "wise_ft" else None
    callbacks: list[Any] = [] if until is None else [Pause(until)]
    plateau = PlateauThaw(thaw, directory.plateau, job.run_id, ema)
    callbacks += [thaw, plateau, rows, flops, *relative]
    callbacks += filter(None, [ema, start])
    callbacks += keepers(directory.best, directory.last, rows, settings.monitor, ema)
    if settings.patience is not None:
        callbacks.append(EarlyStopping(thaw, settings.patience, settings.min_delta, settings.monitor))
    trainer = lightning_trainer(settings, [*callbacks, *watch], directory.path, job.run_id)
    device = trainer.strategy.root_device
    memory, frozen = PeakMemory(device), frozen_features(job, device)
    module.keep(kept_activations(job, backbone, frozen, device))
    began, is_paused = time.perf_counter(), False
    # a run that goes on has the same from its checkpoint
    flops.total += weigh_channels(job, backbone, frozen, device) + relate(job, backbone, frozen)
    with interruptible(), more_than_one_value():
        try:
            best = [] if job.is_trial else [directory.best]  # no trial is scored by its weights
            goes_on = resumable(directory.last, job.run_id, module, lambda states: [*best, *plateau.needs(states)])
            trainer.fit(module, data, ckpt_path=goes_on, weights_only=True)
        except PausedError:
            is_paused = True
    seconds = time.perf_counter() - began
    took = (flops.total, seconds, frozen.flops, frozen.seconds, memory.read())
    return Fit(module, rows.rows, *took, device, is_paused, rows.earlier, ema or start)


def _module(job: Job) -> TransferModule:
    """What is trained: backbone → head → module."""
    backbone = build_backbone(job)
    head = build_head(job, backbone.num_features)
    groups = with_source(job, backbone, backbone.groups(job.strategy.granularity))
    return TransferModule(
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
        job.strategy.adapter is None or job.strategy.adapter.starts_at_nothing,
        None if job.strategy.sam is None else SharpnessAware(job.strategy.sam),
    )


def train_heads(jobs: Sequence[Job], records: Sequence[Recorder]) -> list[Result]:
    """Run the frozen backbone once over the data and train every job's head on what it gives."""
    first, settings = jobs[0], jobs[0].cfg.trainer
    device = device_of(settings.accelerator)
    memory = PeakMemory(device)
    frozen = frozen_features(first, device)
    progress = Progress(title(*jobs), settings.max_epochs, shown=shown_of_epochs(first))
    source, reading = first.source, first.reading.description
    views = [view[FEATURES] for view in stored_views(first, frozen)]
    features = views[0]
    shifted = {
        name: (shift, frozen.of(shift.examples(**first.reading.arguments), shift.fingerprint, reading, counted=False))
        for name, shift in source.shifts.items()
        if not first.is_trial
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
        record_probe(job, record, head, outcome, features, shifted, frozen, memory)
        for job, record, head, outcome in zip(jobs, records, heads, outcomes, strict=True)
    ]
    failed = sum(not one.is_completed for one in results)
    several = f"{len(results) - failed} trained" + (f", {failed} failed" if failed else "")
    progress.done(last_line(results[0]) if len(results) == 1 else several)
    return results
