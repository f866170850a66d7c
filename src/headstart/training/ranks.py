"""A run on several devices: this process is the first rank, and starts one more for each other device."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from headstart.errors import InputError

PATIENCE = 60.0
"""Seconds that the other ranks get to leave after the first one has done."""


def check_devices(devices: int, accelerator: str) -> None:
    """Raise `InputError` for devices that this machine does not have, or more: each would start a process."""
    kind, number = devices_here(accelerator)
    if number == 0:
        raise InputError(
            f"trainer.accelerator must be one that is here, but {accelerator} asks for {kind}, and there are none. "
            "Use trainer.accelerator=auto or cpu, or start the run where there is one."
        )
    if number is not None and devices > number:
        raise InputError(
            f"trainer.devices must be at most the number of devices here, {number} ({kind}), but is {devices}. Lower "
            "it, or start the run where there are more."
        )


def devices_here(accelerator: str) -> tuple[str, int | None]:
    """What a run by this `trainer.accelerator` may use here, and how many there are; `None` if nobody can tell."""
    import torch

    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "GPUs", torch.cuda.device_count()
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return "GPUs", 1
    if accelerator not in ("auto", "cpu"):
        return "GPUs", 0
    affinity = getattr(os, "sched_getaffinity", None)
    return "CPU cores", len(affinity(0)) if affinity else os.cpu_count()


@contextmanager
def other_ranks(directory: Path, num_devices: int, run_id: str) -> Iterator[None]:
    """In this block `num_devices - 1` processes take part in the run `run_id`, whose config lies in `directory`.

    They are told where to meet by the environment, as torchrun does it, so Lightning starts none of its own, which
    would call the command line once more. A batch is shared out among all ranks; batch norm takes its statistics from
    each rank's share, and the first rank's running statistics are the model's.

    Raises:
        RuntimeError: if one of them failed, with the end of what it wrote.
    """
    if num_devices == 1:
        yield
        return
    with ExitStack() as stack:
        place = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
            "NODE_RANK": "0",
            "WORLD_SIZE": str(num_devices),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        }
        outputs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(1, num_devices)]
        command = [sys.executable, "-m", "headstart.run.rank", str(directory), run_id]
        others = [
            subprocess.Popen(
                command,
                env={**os.environ, **place, "LOCAL_RANK": str(rank)},
                stdin=subprocess.PIPE,  # nothing is written to it; it closes when this process ends, however it does
                stdout=output,
                stderr=output,
            )
            for rank, output in enumerate(outputs, start=1)
        ]
        stack.callback(_end, others)
        stack.enter_context(_environment({**place, "LOCAL_RANK": "0"}))
        stack.callback(_leave_group)
        try:
            yield
        except Exception as error:
            if any(other.poll() for other in others):  # the cause lies there; here only the connection broke
                raise RuntimeError(_words(others, outputs)) from error
            raise
        for other in others:
            other.wait(PATIENCE)
        if any(other.returncode for other in others):
            raise RuntimeError(_words(others, outputs))


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _leave_group() -> None:
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _end(others: list[subprocess.Popen]) -> None:
    for other in others:
        if other.poll() is None:
            other.kill()
            other.wait()


def _words(others: list[subprocess.Popen], outputs: Sequence[IO[str]]) -> str:
    """What the failed ones wrote last."""
    said = []
    for rank, (other, output) in enumerate(zip(others, outputs, strict=True), start=1):
        if other.poll():
            output.seek(0)
            said.append(f"Rank {rank} ended with status {other.returncode}: {output.read()[-2000:].strip()}")
    return "\n".join(said)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
