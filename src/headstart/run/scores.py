"""What came of a run: scores on its test sets, turned into metrics, predictions and the record."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from headstart.backbones.backbone import WeightsRecord
from headstart.backbones.pooling import LayerMix
from headstart.data.module import DataModule
from headstart.data.source import Examples, Source
from headstart.metrics import best_epoch, mode
from headstart.record import result
from headstart.record.directory import RunDirectory
from headstart.record.recorder import PeakMemory, Recorder
from headstart.record.result import PhaseRecord, Result, Selection, Weights
from headstart.record.writing import Shared, write_bytes
from headstart.run.findings import key_of
from headstart.run.job import Job
from headstart.run.parts import shifted_indices
from headstart.strategies.plan import Plan
from headstart.training import scoring
from headstart.training.activations import FrozenFeatures
from headstart.training.calibration import calibration_of
from headstart.training.checkpoints import read_checkpoint, write_checkpoint
from headstart.training.heads import WeighedStates
from headstart.training.module import DivergedError, TransferModule
from headstart.training.probe_spec import ProbeOutcome

log = logging.getLogger(__name__)

NUM_HARDEST = 12
"""Test examples that are kept with a run for people to look at."""
_HEAD_FLOPS: dict[tuple[str, int], float] = {}
"""Counted once for heads alike: a comparison may have thousands."""


@dataclass(frozen=True)
class Scored:
    """Outputs `(N, O)` by the best epoch's weights on one test set, with what they are measured against."""

    outputs: Tensor
    targets: np.ndarray
    ids: Sequence[str]
    index: np.ndarray
    """Each example's place in its source."""


def record_probe(
    job: Job,
    record: Recorder,
    head: nn.Module,
    outcome: ProbeOutcome,
    features: Tensor,
    shifted: Mapping[str, tuple[Source, Tensor]],
    frozen: FrozenFeatures,
    memory: PeakMemory,
) -> Result:
    """Score a trained head and write its record; one that diverged is recorded as failed."""
    source, test, targets = job.source, job.split.test, job.targets.values
    if outcome.best_state is not None:
        head.load_state_dict(outcome.best_state)
    frozen_rates = {f"lr/{group}": 0.0 for group in job.plan.groups[:-1]}
    order = ("epoch", "step", "phase", *job.history, "seconds")
    rows = [
        {**{name: {"phase": 0, **row}[name] for name in order}, **frozen_rates, "lr/head": row["lr/head"]}
        for row in outcome.history
    ]
    record.rows(rows)
    cost = {
        "train_seconds": outcome.seconds,
        "feature_seconds": frozen.seconds,
        "train_flops": _head_flops(head, features.shape[1]) * len(job.split.train) * len(rows),
        "feature_flops": frozen.flops,
        "peak_memory_bytes": memory.read(),
        "trainable_parameters": count_parameters(head),
        "total_parameters": job.sketch.total_parameters + count_parameters(head),
        "fused_with": job.cfg.fused_with,
    }
    if outcome.divergence is not None or outcome.best_state is None:
        where = outcome.divergence
        if where is None:
            return record.fail(RuntimeError("no epoch ended"), cost)
        return record.fail(DivergedError(where.epoch, where.step, job.cfg.trainer.precision, where.on_val), cost)
    weights = job.factory.record(job.strategy.pretrained)
    if job.is_trial:
        return record_trial(job, record, rows, cost, weights)
    head.eval()
    ids = source.ids  # once: a source may draw the list up anew each time
    with torch.inference_mode():
        scored = {"test": Scored(head(features[test]), targets[test], [ids[i] for i in test], test)}
        val = head(features[job.split.val]), targets[job.split.val]
        for name, (shift, shift_features) in shifted.items():
            chosen, ids = shifted_indices(job, shift), shift.ids
            outputs, targets = head(shift_features[chosen]), job.shift_targets[name]
            scored[f"shift/{name}"] = Scored(outputs, targets[chosen], [ids[i] for i in chosen], chosen)
    if job.cfg.trainer.keep_checkpoint:
        state = {f"head.{name}": tensor for name, tensor in outcome.best_state.items()}
        write_checkpoint(record.directory.best, {"state_dict": state, "epoch": outcome.best_epoch}, job.run_id)
    more = {} if outcome.l2 is None else {"l2": outcome.l2}
    return record_scores(job, record, rows, scored, val, cost, weights, more=more | of_layers(head))


def of_layers(model: nn.Module) -> dict[str, Any]:
    """How a model weighs the outputs of its layers, the stem's first, if it does."""
    mixes = [part.weights for part in model.modules() if isinstance(part, WeighedStates | LayerMix)]
    return {"layer_weights": [round(share, 6) for share in mixes[0].detach().softmax(0).tolist()]} if mixes else {}


def score(job: Job, data: DataModule, module: TransferModule, device: torch.device) -> dict[str, Scored]:
    """Outputs on the test set and on every shifted one."""
    settings = job.cfg.trainer
    loaders = {"test": (job.source, job.targets.values, data.test_dataloader())}
    shifts = data.shift_dataloaders()
    loaders |= {
        f"shift/{name}": (shift, job.shift_targets[name], shifts[name]) for name, shift in job.source.shifts.items()
    }
    scored = {}
    for name, (source, targets, loader) in loaders.items():
        seen: list[np.ndarray] = []
        batches = islice(loader, settings.limit_batches)
        outputs = scoring.predict(module, _noting(batches, seen), device, settings.precision)
        order = np.argsort(np.concatenate(seen), kind="stable")
        chosen, ids = np.concatenate(seen)[order], source.ids
        scored[name] = Scored(outputs[torch.from_numpy(order)], targets[chosen], [ids[i] for i in chosen], chosen)
    return scored


def score_val(job: Job, data: DataModule, module: TransferModule, device: torch.device) -> tuple[Tensor, np.ndarray]:
    """Outputs `(N, O)` and targets of the validation examples, by the best epoch's weights, in whatever order."""
    seen: list[np.ndarray] = []
    batches = islice(data.val_dataloader(), job.cfg.trainer.limit_batches)
    outputs = scoring.predict(module, _noting(batches, seen), device, job.cfg.trainer.precision)
    return outputs, job.targets.values[np.concatenate(seen)]


def _noting(batches: Iterable[Mapping[str, Any]], seen: list[np.ndarray]) -> Iterator[Mapping[str, Any]]:
    for batch in batches:
        seen.append(batch["index"].numpy())
        yield batch


def record_scores(
    job: Job,
    record: Recorder,
    rows: Sequence[Mapping[str, Any]],
    scored: Mapping[str, Scored],
    val: tuple[Tensor, np.ndarray],
    cost: Mapping[str, Any],
    weights: WeightsRecord,
    kept: Mapping[int, str] | None = None,
    average: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Result:
    """Turn what was scored into metrics, predictions and the result; the epoch is the one that was best by the monitor.

    `val` are outputs `(N, O)` and targets of the validation examples, which say how sure the model may be. `kept` names
    the group, by phase, whose stored activations training started from; `average` is how the weights were averaged,
    `more` what else is to be told of what came out.
    """
    assert not job.is_trial, "a trial of a search is not scored on test"
    task, names = job.task, job.targets.names
    best = _best(job, rows)
    metrics: dict[str, Any] = {name: best[name] for name in job.history}
    trained = job.targets.values[job.split.train]
    for name, part in scored.items():
        targets = torch.from_numpy(part.targets)
        found = task.scores(part.outputs, targets) | task.baseline(trained, targets)
        metrics |= {f"{name}/{metric}": value for metric, value in found.items()}
    metrics["best_epoch"] = best["epoch"]
    test = scored["test"]
    record.hardest(_hardest(job, test))
    return record.complete(
        metrics,
        cost,
        {
            name: {"id": np.asarray(list(part.ids)), **task.predictions(part.outputs, part.targets)}
            for name, part in scored.items()
        },
        calibration=calibration_of(task, val, (test.outputs, test.targets)),
        details=task.details(test.outputs, torch.from_numpy(test.targets), names) | dict(more or {}),
        **({} if average is None else {"average": dict(average)}),
        **_circumstances(job, rows, weights, kept),
    )


def record_trial(
    job: Job,
    record: Recorder,
    rows: Sequence[Mapping[str, Any]],
    cost: Mapping[str, Any],
    weights: WeightsRecord,
    kept: Mapping[int, str] | None = None,
    status: str = "completed",
) -> Result:
    """The result of a search's trial, as far as it has come: its best epoch on val, and no test set.

    Its cost is that of all times that it was gone on with.
    """
    best, before = _best(job, rows), result.read(record.directory, job.run_id)
    earlier = before.cost if before is not None and before.status == "stopped" else {}
    took = {"total_seconds": record.seconds, **cost}
    for name in ("total_seconds", "train_seconds"):
        took[name] += max(0.0, (earlier.get(name) or 0.0) - record.earlier)
    cost = {**took, "epochs": len(rows)}
    metrics = {**{name: best[name] for name in job.history}, "best_epoch": best["epoch"]}
    return record.untested(status, metrics, cost, **_circumstances(job, rows, weights, kept))


def _best(job: Job, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return rows[best_epoch(rows, job.cfg.trainer.monitor)]


def _circumstances(
    job: Job, rows: Sequence[Mapping[str, Any]], weights: WeightsRecord, kept: Mapping[int, str] | None
) -> dict[str, Any]:
    """What a result tells beside scores: how its epoch was selected, from what it began, what it read."""
    best, monitor = _best(job, rows), job.cfg.trainer.monitor
    return {
        "phases": _phases(job.plan, rows, best),
        "selection": Selection(metric=monitor, mode=mode(monitor), value=best[monitor]),
        "weights": Weights(
            source=weights.source, sha256=weights.sha256, ignored=list(weights.ignored), place=weights.place
        ),
        "score": job.task.score,
        "reading": {
            **job.reading.description,
            **job.examples.statistics(),
            "views": job.parts.augmentation.views,
            "kept": {str(phase): boundary for phase, boundary in (kept or {}).items()},
        },
    }


def _phases(plan: Plan, rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> PhaseRecord:
    """Which phases of the plan began, and in which (from 0) the best epoch lies; what nobody would expect is said.

    `head_only` tells of each phase whether nothing but the head had trained up to its end.
    """
    planned, reached, chosen = len(plan.phases), 1 + max(row["phase"] for row in rows), best["phase"]
    names, head_only = [phase.name for phase in plan.phases], [not plan.trained(place) for place in range(planned)]
    if reached < planned:
        never = [group for group in plan.trained(planned - 1) if group not in plan.trained(reached - 1)]
        log.warning(
            "Training ended before %d of the plan's %d phases began; never trained: %s. Raise trainer.max_epochs, or "
            "lower unfreeze.patience.",
            *(planned - reached, planned, ", ".join(never)),
        )
    if head_only[chosen] and not head_only[-1]:
        log.warning(
            "The best epoch lies in phase %d (%s), in which the head alone had trained: what is scored is a head on "
            "the backbone as it was.",
            *(chosen, names[chosen]),
        )
    return PhaseRecord(names=names, planned=planned, reached=reached, best=chosen, head_only=head_only)


def keep_adapter(job: Job, module: TransferModule, directory: RunDirectory) -> None:
    """Write a run's adapter, and the weights with it folded in, if that was asked for."""
    adapter = job.strategy.adapter
    if adapter is None:
        return
    adapter.save(module.backbone, directory.adapter)
    if adapter.merge:
        if job.cfg.trainer.precision.endswith("mixed"):
            log.warning(
                "The adapter was scored beside the weights in trainer.precision=%s, and is kept folded into them "
                "(strategy.adapter.merge): its answers differ from the scored ones by what that precision rounds.",
                job.cfg.trainer.precision,
            )
        adapter.fold(module.backbone)
        folded = {**read_checkpoint(directory.best, job.run_id), "state_dict": module.state_dict()}
        write_checkpoint(directory.final, folded, job.run_id)


def keep_model_files(job: Job, directory: RunDirectory) -> None:
    """Copy the small files that the backbone is made by, so that the run needs none but its own to be loaded."""
    if not job.cfg.trainer.keep_checkpoint:
        return
    for name, path in job.factory.model_files.items():
        directory.model_files.mkdir(exist_ok=True)
        write_bytes(directory.model_files / name, path.read_bytes())


def _hardest(job: Job, test: Scored) -> list[tuple[dict[str, Any], Shared | str | None]]:
    """The test examples that were predicted worst, each with what a person can look at."""
    targets, names, found = torch.from_numpy(test.targets), job.targets.names, []
    data = key_of(job.identity["data"], job.reading.description)  # many runs of a comparison find the same ones hard
    order = np.argsort(-job.task.hardness(test.outputs, targets), kind="stable")
    for place in order[:NUM_HARDEST].tolist():
        facts = {"id": test.ids[place], **job.task.described(test.outputs, targets, place, names)}
        preview = partial(_preview, job.examples, int(test.index[place]))
        found.append((facts, job.findings.get("preview", f"{test.index[place]} of {data}", preview)))
    return found


def _preview(examples: Examples, index: int) -> Shared | str | None:
    preview = examples.preview(index)
    return Shared(preview) if isinstance(preview, bytes) else preview


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _head_flops(head: nn.Module, num_features: int) -> float:
    """Floating-point operations of one example forward and backward through a head on fixed features."""
    key = (repr(head), num_features)  # which tells all layers and their sizes
    if key not in _HEAD_FLOPS:
        with FlopCounterMode(display=False) as counter, torch.enable_grad():
            outputs = head(torch.zeros(2, num_features, device=next(chain(head.parameters(), head.buffers())).device))
            if outputs.requires_grad:  # nearest neighbours have nothing to train
                outputs.sum().backward()
        head.zero_grad(set_to_none=True)
        _HEAD_FLOPS[key] = counter.get_total_flops() / 2
    return _HEAD_FLOPS[key]
