"""What a strategy costs here: a few real steps of it are taken, and the whole comparison is foretold from them."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
from omegaconf import open_dict

from headstart.record.directory import RunDirectory
from headstart.record.recorder import PeakMemory
from headstart.run import experiment
from headstart.run.job import Job
from headstart.strategies.plan import HEAD, Plan
from headstart.training.device import device_of

STEPS, PASSED_OVER = 6, 2
"""Steps that are taken, and how many of them, the first ones, are not counted: the work is counted in them."""
MOST_SECONDS = 20.0
"""After which no more steps of one strategy are taken, once there is one that counts."""


@dataclass(frozen=True)
class Price:
    """What a run of a strategy takes on this machine."""

    strategy: str
    seconds_a_step: float | None
    """`None` for a head on stored features, whose steps take next to nothing."""
    peak_bytes: int | None
    steps_an_epoch: int
    epochs: int
    """In which more than the head trains."""
    seconds: float
    """Of one run: its steps, and a look at val in each epoch and at val and test at the end."""
    seconds_an_epoch: float = 0.0
    why_not: str = ""
    """Why nothing was measured."""
    solving: float = 0.0
    """Of these seconds, those in which an exact probe is solved for."""


class EnoughError(Exception):
    """The steps that were wanted were taken."""


class Watch(pl.Callback):
    """Takes the time of steps, and ends training after a few."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.began = self.first = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.began = time.perf_counter()
        self.first = self.first or self.began

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.strategy.root_device.type == "cuda":
            import torch

            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.began)
        late = time.perf_counter() - self.first > MOST_SECONDS and len(self.seconds) > 1
        if len(self.seconds) >= STEPS or late:
            raise EnoughError

    @property
    def a_step(self) -> float:
        """Seconds, the median of those that count."""
        return median(self.seconds[min(PASSED_OVER, len(self.seconds) - 1) :])


def price(strategy: str, job: Job, seconds_an_example: float, solving: float = 0.0) -> Price:
    """What a run of `job` takes; `seconds_an_example`: of the backbone's forward pass; `solving`: of an exact probe.

    A plan of several phases is taken at its last, in which most trains, so that it costs no more than is said.
    """
    settings, sizes = job.cfg.trainer, job.split.sizes
    num_steps = -(-sizes["train"] // settings.batch_size)
    epochs = 0 if job.is_probe else _epochs(job)
    looks = seconds_an_example * (epochs * sizes["val"] + (sizes["val"] + sizes["test"]) * (epochs > 0))
    if not epochs:
        seconds = seconds_an_example * sum(sizes.values()) + solving
        return Price(strategy, None, None, num_steps, 0, seconds, solving=solving)
    watch, memory = Watch(), PeakMemory(device_of(settings.accelerator))
    with tempfile.TemporaryDirectory() as place:
        try:
            experiment.rehearse(_rehearsal(job), RunDirectory(Path(place)), watch)
        except EnoughError:
            pass
        except (RuntimeError, MemoryError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            return Price(strategy, None, None, num_steps, epochs, float("nan"), why_not=reason)
    steps = epochs * num_steps if settings.max_steps is None else min(settings.max_steps, epochs * num_steps)
    seconds = steps * watch.a_step + looks
    an_epoch = num_steps * watch.a_step + seconds_an_example * sizes["val"]
    return Price(strategy, watch.a_step, memory.read(), num_steps, epochs, seconds, an_epoch)


def _epochs(job: Job) -> int:
    """Those in which more than the head trains, as far as the calendar tells."""
    plan = job.plan
    return sum(_tunes(plan, plan.phase_at(epoch)) for epoch in range(plan.max_epochs)) or plan.max_epochs


def _tunes(plan: Plan, phase: int) -> bool:
    return any(plan.phases[phase].trains(group) for group in plan.groups if group != HEAD)


def _rehearsal(job: Job) -> Job:
    """The job from its last phase on, nothing being stored beforehand, over epochs of a few steps."""
    cfg = job.cfg.copy()
    with open_dict(cfg):
        cfg.trainer.limit_batches = cfg.trainer.max_epochs = STEPS
        cfg.trainer.batch_size = -(-int(cfg.trainer.batch_size) // int(cfg.trainer.devices))  # of one of them
        cfg.trainer.devices, cfg.trainer.strategy, cfg.trainer.max_steps = 1, "auto", None
    last = replace(job.plan.phases[-1], start=0, until=None)
    return replace(job, cfg=cfg, plan=replace(job.plan, phases=(last,), max_epochs=STEPS))


def hours(prices: Sequence[Price], num_seeds: int) -> float:
    """Of a comparison of all of them, one run after the other."""
    return num_seeds * sum(one.seconds for one in prices if one.seconds == one.seconds) / 3600
