"""What each of several processes on one machine gets of it: its own GPU, or the next free one in turn."""

import os
import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from hydra.types import TaskFunction
from omegaconf import DictConfig

from headstart.system.lock import Lock

_held: list[Lock] = []
"""Kept for as long as this process lives."""


@dataclass(frozen=True)
class OwnGpu:
    """A task that settles on one GPU before it does anything; the processes of a machine spread over its GPUs."""

    task: TaskFunction

    def __call__(self, cfg: DictConfig) -> object:
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
