"""Averaged weights of a run: what they are measured on, and how much of the tuned weights goes in, by val."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from headstart import metrics
from headstart.record.directory import RunDirectory
from headstart.run.job import Job
from headstart.run.parts import data_module
from headstart.run.scores import score_val
from headstart.training.averaging import Ema, Start, interpolate, tuned_names
from headstart.training.checkpoints import read_checkpoint, write_checkpoint
from headstart.training.epochs import EpochRows
from headstart.training.module import TransferModule

SHARES = tuple(round(0.1 * place, 1) for place in range(11))
"""Of the tuned weights, of which one is chosen on val."""
MOST_MEASURED = 2048
"""Training examples on which norm statistics are measured; of more, evenly spaced ones."""
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Average:
    """What averaging came to: its record, and the history, where the selected epoch has the averaged weights' val."""

    record: Mapping[str, Any] | None
    rows: Rows


def training_batches(job: Job) -> Iterator[dict[str, Any]]:
    """Training examples as they are read in scoring, in batches of about the same size."""
    places, size, most = job.split.train, int(job.cfg.trainer.batch_size), job.cfg.trainer.limit_batches
    chosen = places[:: -(-len(places) // MOST_MEASURED)]
    number = -(-len(chosen) // max(2, size))
    for part in np.array_split(chosen, number)[:most]:
        yield {"inputs": job.examples.batch(part)}


def on_val(job: Job) -> Callable[[nn.Module], dict[str, float]]:
    """What of a history's row is of val, for a model as it is."""
    names = [name.removeprefix("val/") for name in job.history if name.startswith("val/")]
    data = data_module(job)

    def measured(model: Any) -> dict[str, float]:
        outputs, targets = score_val(job, data, model, next(model.parameters()).device)
        found = job.task.measured(outputs, torch.from_numpy(targets), names)
        return {f"val/{name}": value for name, value in found.items()}

    return measured


def moving_average(job: Job, module: TransferModule, rows: EpochRows) -> Ema | None:
    """What averages a run's weights while it trains, if that was asked for."""
    if job.strategy.average != "ema":
        return None
    monitor, measured = job.cfg.trainer.monitor, on_val(job)
    return Ema(
        job.strategy.average_decay,
        tuned_names(module, job.plan),
        rows,
        monitor,
        lambda: training_batches(job),
        lambda model: measured(model)[monitor],
        job.cfg.trainer.precision,
    )


def average_of(
    job: Job, module: TransferModule, by: Ema | Start | None, directory: RunDirectory, rows: Rows
) -> Average:
    """What became of the best epoch's weights, which `module` holds: an average they may be already, or become here."""
    if isinstance(by, Start):
        return _mixed(job, module, by, directory, rows)
    if by is None:
        return Average(None, rows)
    monitor = job.cfg.trainer.monitor
    after = rows[metrics.best_epoch(rows, monitor)][monitor]
    return Average(_record("ema", by.decay, monitor, by.before, after, by.num_measured), rows)


def _mixed(job: Job, module: TransferModule, start: Start, directory: RunDirectory, rows: Rows) -> Average:
    """Give `module`, which holds the best epoch's weights, that mixture with the starting ones that is best on val.

    Of mixtures that are equally good, the one nearest to the start. It is kept for the run in place of the best
    epoch's weights.
    """
    monitor, measured = job.cfg.trainer.monitor, on_val(job)
    precision, batches = job.cfg.trainer.precision, lambda: training_batches(job)
    place = metrics.best_epoch(rows, monitor)
    tuned = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    found, num_measured = {}, 0
    # where the head alone had trained there is nothing of the backbone to mix
    shares = SHARES if job.plan.trained(int(rows[place]["phase"])) else (1.0,)
    for share in shares:
        num_measured = max(num_measured, interpolate(module, start.weights, tuned, share, batches, precision))
        found[share] = measured(module)
    best = max(shares, key=lambda share: (_score(monitor, found[share][monitor]), -share))
    interpolate(module, start.weights, tuned, best, batches, precision)
    if best != 1:
        kept = {**read_checkpoint(directory.best, job.run_id), "state_dict": module.state_dict()}
        write_checkpoint(directory.final, kept, job.run_id)
    record = _record("wise_ft", best, monitor, found[1.0][monitor], found[best][monitor], num_measured)
    record["tried"] = {f"{share:g}": values[monitor] for share, values in found.items()}
    record["head"] = "mixed" if start.head else "as tuned"
    mixed = [*rows]
    mixed[place] = {**rows[place], **found[best]}
    return Average(record, mixed)


def _record(
    how: str, coefficient: float, monitor: str, before: float | None, after: float, num_measured: int
) -> dict[str, Any]:
    """`coefficient`: the decay, or the share of the tuned weights."""
    return {
        "how": how,
        "coefficient": coefficient,
        "metric": monitor,
        "before": before,
        "after": after,
        "norms_measured": num_measured,
    }


def _score(monitor: str, value: float) -> float:
    """More is better; what nothing can be said of is worst."""
    return -np.inf if np.isnan(value) else metrics.sign(monitor) * value
