"""What each of several processes on one machine gets of it, its own GPU or the next free one, and when it ends."""

import os
import tempfile
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from hydra.types import TaskFunction
from omegaconf import DictConfig

from headstart.errors import InputError
from headstart.system.lock import Lock
from headstart.system.process import end_with, started

_held: list[Lock] = []
"""Kept for as long as this process lives."""
_watched: set[tuple[int, int | None]] = set()
"""Processes with which this one ends."""


def check_one_gpu(devices: int, accelerator: str) -> None:
    """Raise `InputError` for a run on several GPUs where each process has one (`OwnGpu`)."""
    from headstart.training.ranks import devices_here

    kind, _ = devices_here(accelerator)
    if devices > 1 and kind == "GPUs":
        raise InputError(
            "trainer.devices must be 1 with hydra/launcher=joblib, whose processes have one GPU each, but is "
            f"{devices}. Set it to 1, or leave hydra/launcher=joblib out to do one run after the other on several GPUs."
        )


@dataclass(frozen=True)
class OwnGpu:
    """A task that settles on one GPU before it does anything; the processes of a machine spread over its GPUs.

    They end with the process that made the task, also if that one is killed: else nobody would end them.
    """

    task: TaskFunction
    maker: tuple[int, int | None] = field(default_factory=lambda: (os.getpid(), started(os.getpid())))

    def __call__(self, cfg: DictConfig) -> object:
        if self.maker[0] != os.getpid() and self.maker not in _watched:
            _watched.add(self.maker)
            end_with(*self.maker)
        if not _held:
            gpu = take_gpu(_visible_gpus())
            if gpu is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        return self.task(cfg)


def take_gpu(gpus: list[str], folder: Path | None = None) -> str | None:
    """The GPU with the fewest processes of this user on it, as far as they came this way; `None` if there is none."""
    folder = folder or Path(tempfile.gettempdir()) / f"headstart-gpus-{os.getuid() if hasattr(os, 'getuid') else 0}"
    folder.mkdir(exist_ok=True, mode=0o700)
    for place in count() if gpus else ():
        for gpu in gpus:
            lock = Lock(folder / f"{gpu.replace('/', '_')}.{place}", wait=False)
            if lock.__enter__().held:
                _held.append(lock)
                return gpu
            lock.__exit__(None, None, None)
    return None


def _visible_gpus() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu for gpu in named.split(",") if gpu]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
