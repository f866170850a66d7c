"""Checkpoints of a run: written whole, with the run that they belong to; read only if they are as they were written."""

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from headstart.system.cache import replacing

log = logging.getLogger(__name__)

RUN_ID = "run_id"
"""Key of a checkpoint that names its run."""


class DamagedCheckpointError(RuntimeError):
    """A checkpoint cannot be read, has changed since it was written, or is another run's."""


def write_checkpoint(path: Path, checkpoint: Mapping[str, Any], run_id: str) -> None:
    """Write a checkpoint of run `run_id` whole or not at all."""
    with replacing(path) as draft, open(draft, "wb") as file:
        torch.save({**checkpoint, RUN_ID: run_id}, file)


def read_checkpoint(path: Path, run_id: str | None = None) -> dict[str, Any]:
    """The checkpoint at `path`, whose parts are held against the checksums that they were written with.

    Raises:
        DamagedCheckpointError: if it cannot be read to its end, a bit of it has changed, or it is not of run `run_id`,
            where that is given.
    """
    try:
        with zipfile.ZipFile(path) as parts:  # which torch's files are; torch itself does not check the sums
            changed = parts.testzip()
        if changed is not None:
            raise ValueError(f"its part {changed} is not as it was written")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
            raise ValueError("it holds no weights of a run")
    except Exception as error:  # torch and zipfile raise many kinds for a damaged file
        raise DamagedCheckpointError(f"{path} cannot be used: {error}") from error
    owner = checkpoint.get(RUN_ID, run_id)  # those of older versions do not name it
    if run_id is not None and owner != run_id:
        raise DamagedCheckpointError(f"{path} cannot be used: it is of run {owner}, not of {run_id}")
    return checkpoint


def resumable(path: Path, run_id: str) -> Path | None:
    """`path` if training can go on from it; else `None`, and what lies there is set aside as `NAME.unusable`."""
    if not path.is_file():
        return None
    try:
        read_checkpoint(path, run_id)
    except DamagedCheckpointError as error:
        aside = path.with_name(f"{path.name}.unusable")
        path.replace(aside)
        log.warning("%s. It is set aside as %s, and training starts anew.", error, aside.name)
        return None
    return path
