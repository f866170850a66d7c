"""Checkpoints of a run: written at once or not at all, with the run that they belong to; read only if they are as they
were written.

While a run trains, they leave out the weights that its plan never trains: the run has them. With adapters, or the last
layers alone, a checkpoint is then a few hundredths of its size, and so is the time that it takes. What is left out is
named, with a checksum of its bits; once training has ended, the best weights are written whole.
"""

import logging
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headstart.system.cache import replacing

log = logging.getLogger(__name__)

RUN_ID = "run_id"
"""Key of a checkpoint that names its run."""
LEFT_OUT = "left_out"
"""Key of a checkpoint that says what is not in it."""


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


def resumable(
    path: Path,
    run_id: str,
    module: nn.Module | None = None,
    needs: Callable[[Mapping[str, Any]], Iterable[Path]] = lambda states: (),
) -> Path | None:
    """`path` if training can go on from it; else `None`, and what lies there is set aside as `NAME.unusable`.

    `module` is the run's as it begins, for what a checkpoint leaves out; `needs` tells, by the states of callbacks,
    which other checkpoints must be there and whole.
    """
    if not path.is_file():
        return None
    try:
        checkpoint = read_checkpoint(path, run_id)
        if module is not None:
            put_back(checkpoint, module)
        for other in needs(checkpoint.get("callbacks", {})):
            if not other.is_file():
                raise DamagedCheckpointError(f"{other} cannot be used: it is not there")
            read_checkpoint(other, run_id)
    except DamagedCheckpointError as error:
        aside = path.with_name(f"{path.name}.unusable")
        path.replace(aside)
        log.warning("%s. %s is set aside as %s, and training starts anew.", error, path.name, aside.name)
        return None
    return path


@dataclass(frozen=True)
class FrozenWeights:
    """Parameters of a module that never train, by each of their names, and the checksum of what a run begins with."""

    names: list[str]
    crc32: int

    @classmethod
    def of(cls, module: nn.Module, parameters: Iterable[nn.Parameter]) -> "FrozenWeights":
        """Those among the module's state that are one of `parameters`; of tied ones, all names."""
        frozen = set(map(id, parameters))
        state = module.state_dict(keep_vars=True)
        names = [name for name, tensor in state.items() if id(tensor) in frozen]
        return cls(names, checksum(state[name] for name in names))

    def leave_out(self, checkpoint: dict[str, Any]) -> None:
        """Take them out of a checkpoint, which says so then."""
        if self.names:
            state, frozen = checkpoint["state_dict"], set(self.names)
            checkpoint["state_dict"] = {name: tensor for name, tensor in state.items() if name not in frozen}
            checkpoint[LEFT_OUT] = {"names": self.names, "crc32": self.crc32}


def put_back(checkpoint: dict[str, Any], module: nn.Module) -> None:
    """Give a checkpoint what it left out, from a module that holds it.

    Raises:
        DamagedCheckpointError: if the module's are not, bit for bit, what was left out.
    """
    left_out = checkpoint.pop(LEFT_OUT, None)
    if left_out is None:
        return
    own = module.state_dict()
    names = left_out["names"]
    if not own.keys() >= set(names) or checksum(own[name] for name in names) != left_out["crc32"]:
        raise DamagedCheckpointError(
            f"A checkpoint of run {checkpoint.get(RUN_ID)} cannot be used: it leaves out {len(names)} tensors that "
            "never train, and those that the run begins with are no longer the same"
        )
    checkpoint["state_dict"] = {**checkpoint["state_dict"], **{name: own[name] for name in names}}


def write_whole(path: Path, checkpoint: Mapping[str, Any], module: nn.Module, run_id: str) -> None:
    """Write the checkpoint at `path`, whose weights `module` holds, with all of them if it left some out."""
    if LEFT_OUT in checkpoint:
        rest = {name: value for name, value in checkpoint.items() if name != LEFT_OUT}
        write_checkpoint(path, {**rest, "state_dict": module.state_dict()}, run_id)


def keep_precision(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Have an optimizer's state loaded as it was saved. torch brings all of it to the precision of the weights, so that
    with `trainer.precision=64-true` NAdam's product of momenta would go on in another one than it began in."""
    saved: dict[Any, Mapping[str, Any]] = {}

    def note(_: torch.optim.Optimizer, state_dict: Mapping[str, Any]) -> None:
        saved.update(state_dict["state"])

    def restore(loaded: torch.optim.Optimizer) -> None:
        parameters = [parameter for group in loaded.param_groups for parameter in group["params"]]
        for place, parameter in enumerate(parameters):
            state = loaded.state.get(parameter, {})
            for name, value in saved.get(place, {}).items():
                if isinstance(value, Tensor) and isinstance(state.get(name), Tensor):
                    state[name] = value.to(state[name].device) if value.dtype != state[name].dtype else state[name]
        saved.clear()

    optimizer.register_load_state_dict_pre_hook(note)
    optimizer.register_load_state_dict_post_hook(restore)
    return optimizer


def checksum(tensors: Iterable[Tensor]) -> int:
    """CRC-32 of the bytes of some tensors, one after the other; of those that devices share, which all ask, whole.

    Doubles count as the single precision that they come from: `trainer.precision=64-true` widens weights on the way.
    """
    found = 0
    for tensor in tensors:
        own: Any = tensor.detach()
        whole: Tensor = own.full_tensor() if hasattr(own, "full_tensor") else own
        whole = whole.float() if whole.dtype == torch.float64 else whole
        found = zlib.crc32(whole.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data, found)
    return found
