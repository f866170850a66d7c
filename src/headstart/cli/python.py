"""`headstart.train`: what `headstart train` does for one run, for programs and notebooks."""

import logging
import os
import random
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.errors import InputError
from headstart.notes import PlainFormatter
from headstart.record import result
from headstart.record.directory import RunDirectory
from headstart.record.result import Result
from headstart.system.lock import Lock
from headstart.system.places import check_no_links, writable

if TYPE_CHECKING:
    from headstart.predict.model import Model


_turn = threading.RLock()
"""A run sets dice, threads and environment of the whole process, so that calls from several threads take turns."""


@dataclass(frozen=True)
class TrainedRun:
    """A run that has ended: where it lies, and its record."""

    directory: Path
    result: Result

    @property
    def metrics(self) -> Mapping[str, Any]:
        """`val/…` and `train/…` of the selected epoch, `test/…`; empty if the run failed (see `result.error`)."""
        return self.result.metrics

    def load(self) -> "Model":
        """The run as a model, as `headstart.load` gives it."""
        from headstart.predict.model import load

        return load(self.directory)


def train(*overrides: str, retry_failed: bool = False) -> TrainedRun:
    """Train one run, as `headstart train` does with the same words; one that is completed is not repeated.

    Dice, threads, logging and environment are left as they were; progress is shown on standard error. Calls from
    several threads wait for each other.

    Args:
        overrides: `group=choice` and `key=value`, as on the command line.
        retry_failed: Try a run again that failed before.

    Raises:
        InputError: with everything that is wrong with the settings, before anything is written.

    Example:
        >>> import headstart
        >>> run = headstart.train("strategy=feature_extraction", "trainer.max_epochs=1", *tiny)
        >>> run.result.status, "test/accuracy" in run.metrics
        ('completed', True)
    """
    with _turn, _left_as_it_was():
        from headstart.cli.hydra_app import prepared
        from headstart.run import experiment

        job, place = prepared([*overrides])
        check_no_links(place)
        directory = RunDirectory(place)
        before = result.read(directory, job.run_id)
        if before is not None and before.is_completed:
            directory.finish(job.cfg.trainer.keep_checkpoint)
        if before is not None and (before.is_completed or not retry_failed):
            return TrainedRun(place, before)
        if result.read(directory) is not None and before is None:
            raise InputError(
                f"hydra.run.dir must be free for run {job.run_id}, but {place} holds another. Name another."
            )
        writable(str(place), "hydra.run.dir")
        place.mkdir(parents=True, exist_ok=True)
        with Lock(directory.lock, wait=False) as lock:
            if not lock.held:
                raise InputError(f"Another process is at run {job.run_id} in {place}. Wait for it, or stop it.")
            directory.remove_drafts()
            if before is not None:
                directory.set_aside()
            with _logged(directory.log):
                return TrainedRun(place, experiment.run([job], [directory])[0])


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """What is said within the block goes to the run's log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf8")
    handler.setFormatter(PlainFormatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))
    ours = logging.getLogger("headstart")
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        handler.close()


@contextmanager
def _left_as_it_was() -> Iterator[None]:
    """What a run changes of the process is put back; libraries that are imported for it change some of it too."""
    dice, numpy_dice, environment = random.getstate(), np.random.get_state(), dict(os.environ)
    import torch

    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    cudnn_attention = torch.backends.cuda.cudnn_sdp_enabled()
    lightning = logging.getLogger("pytorch_lightning")
    level = lightning.level
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), warnings.catch_warnings():
        try:
            yield
        finally:
            random.setstate(dice)
            np.random.set_state(numpy_dice)
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
            torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
            torch.backends.cuda.enable_cudnn_sdp(cudnn_attention)
            lightning.setLevel(level)
            os.environ.clear()
            os.environ.update(environment)
