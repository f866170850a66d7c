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
) -> tuple[list[Lap], dict[str, str]]:
    """First epochs of as many of `runs` as so many seconds allow by their prices, in their places below `comparison`,
    the best first; and why others were not begun."""
    end, laps, left = time.monotonic() + seconds, [], {}
    for backbone, strategy in runs:
        price = prices.get((backbone, strategy))
        what = f"{strategy} of {backbone}"
        if price is None or not price.seconds_a_step:
            left[what] = "as what it takes was not measured"
            continue
        if time.monotonic() + price.seconds_an_epoch > end:
            left[what] = "for lack of time (--minutes)"
            continue
        job = make(backbone, strategy)
        if job.cfg.trainer.devices != 1 or job.cfg.trainer.max_steps is not None:  # which may end it within the epoch
            left[what] = "as trainer.max_steps or several trainer.devices are set"
            continue
        lap = run_lap(backbone, strategy, job, comparison)
        if isinstance(lap, Lap):
            laps.append(lap)
        else:
            left[what] = lap
    return sorted(laps, key=lambda one: -sign(one.metric) * one.value), left


def run_lap(backbone: str, strategy: str, job: Job, comparison: Path) -> Lap | str:
    """Train the run's first epoch in its place; why not, if it was begun before, another is at it, or it fails."""
    directory = RunDirectory(comparison / job.run_id)
    directory.path.mkdir(parents=True, exist_ok=True)
    with Lock(directory.lock, wait=False) as lock:
        if not lock.held:
            return "as another process is at it"
        if result.read(directory, job.run_id) is not None:
            return "as it is done"
        if directory.last.is_file():
            return "as it was begun before, and goes on with the comparison"
        directory.remove_drafts()
        try:
            rows = experiment.begin(job, directory, EPOCHS)
        except RuntimeError as error:  # its loss was not finite, say: the comparison will say so again
            log.warning("The first epoch of %s of %s failed: %s", strategy, backbone, error)
            return "as its first epoch failed"
    metric = str(job.cfg.trainer.monitor)
    return Lap(backbone, strategy, job.run_id, metric, float(rows[-1][metric]))
