"""A race: the first epoch of runs of the comparison that is advised, which goes on from them."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.advice.price import Price
from headstart.metrics import sign
from headstart.record import result
from headstart.record.directory import RunDirectory
from headstart.run import experiment
from headstart.run.job import Job
from headstart.system.lock import Lock

log = logging.getLogger(__name__)

EPOCHS = 1
Make = Callable[[str, str], Job]
"""The run of the comparison's first seed, of a backbone and a strategy."""


@dataclass(frozen=True)
class Lap:
    """What a run had come to when it was left."""

    backbone: str
    strategy: str
    run_id: str
    metric: str
    value: float


def race(
    runs: Sequence[tuple[str, str]],
    make: Make,
    prices: Mapping[tuple[str, str], Price],
    comparison: Path,
    seconds: float,
) -> list[Lap]:
    """First epochs of as many of `runs` as so many seconds allow by their prices, in their places below `comparison`;
    the best first."""
    end, laps = time.monotonic() + seconds, []
    for backbone, strategy in runs:
        price = prices.get((backbone, strategy))
        if price is None or not price.seconds_a_step:
            continue
        if time.monotonic() + price.seconds_an_epoch > end:
            continue
        job = make(backbone, strategy)
        settings = job.cfg.trainer
        is_plain = settings.devices == 1 and settings.max_steps is None  # which may end it within the epoch
        lap = run_lap(backbone, strategy, job, comparison) if is_plain else None
        laps += [] if lap is None else [lap]
    return sorted(laps, key=lambda one: -sign(one.metric) * one.value)


def run_lap(backbone: str, strategy: str, job: Job, comparison: Path) -> Lap | None:
    """Train the run's first epoch in its place; `None` if it was begun before, or another is at it."""
    directory = RunDirectory(comparison / job.run_id)
    directory.path.mkdir(parents=True, exist_ok=True)
    with Lock(directory.lock, wait=False) as lock:
        if not lock.held or result.read(directory, job.run_id) is not None or directory.last.is_file():
            return None
        directory.remove_drafts()
        try:
            rows = experiment.begin(job, directory, EPOCHS)
        except RuntimeError as error:  # its loss was not finite, say: the comparison will say so again
            log.warning("The first epoch of %s of %s failed: %s", strategy, backbone, error)
            return None
    metric = str(job.cfg.trainer.monitor)
    return Lap(backbone, strategy, job.run_id, metric, float(rows[-1][metric]))
