"""The memory that a training step needs at the very least, found without it, and what there is of it."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from headstart.backbones.backbone import Backbone
from headstart.system import memory
from headstart.training.device import MIXED, device_of
from headstart.training.ranks import devices_here
from headstart.training.work import OnShapes

log = logging.getLogger(__name__)

MOST_TIMES = 200
"""Times its inputs, as float32, that a step may need; where even that is there, nothing is worked out."""


def memory_here(accelerator: str) -> int | None:
    """All bytes of memory, swap included, of the device that a run would compute on; `None` if nobody can tell."""
    device = device_of(accelerator)
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return memory.all_bytes()


def may_be_too_much(inputs: Mapping[str, Tensor], num_pixels: int, available: int) -> bool:
    """Whether inputs, or the `num_pixels` that a model makes of them, are so many that a step is worth working out."""
    return MOST_TIMES * 4 * max(num_pixels, sum(tensor.numel() for tensor in inputs.values())) > available


def note_many(num_workers: int) -> None:
    """Say it where far more processes are to read data than there are cores."""
    cores = devices_here("cpu")[1]
    if cores is not None and num_workers > 4 * cores:
        log.warning(
            "trainer.num_workers=%d lets so many processes read data, and this machine has %d cores: each takes "
            "memory, and they wait for each other. As many as cores are enough.",
            *(num_workers, cores),
        )


def least_bytes(backbone: Backbone, inputs: Mapping[str, Tensor], trained: set[str], precision: str) -> int:
    """Bytes that one step on `inputs` holds at once, parameters and gradients aside: never more than it takes.

    Where parameters named in `trained` train, that is what the backward pass needs of the forward pass; where none do,
    what goes into one operation and comes out of it. All is on the meta device, where nothing is computed.
    """
    if precision == "64-true":
        backbone.double()
    own = [tensor.untyped_storage() for tensor in (*backbone.parameters(), *backbone.buffers())]
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name in trained)
    kept = _Kept(own)
    largest = _Largest(own)
    with OnShapes(), kept, largest, torch.set_grad_enabled(bool(trained)):
        backbone.train(bool(trained))(inputs)
    backbone.train()
    share = 0.5 if precision in MIXED else 1.0
    return int(share * (kept.total if trained else largest.total))


class _Kept(saved_tensors_hooks):
    """Adds up what is kept for the backward pass, each once, without `own`, the model's tensors."""

    def __init__(self, own: Sequence[torch.UntypedStorage]) -> None:
        self.seen, self.total = {id(storage): storage for storage in own}, 0
        super().__init__(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if id(storage) not in self.seen:
            self.seen[id(storage)] = storage  # held, so that no other gets its id
            self.total += storage.nbytes()
        return tensor


class _Largest(TorchFunctionMode):
    """Finds the operation that takes and gives most, without `own`, the model's tensors."""

    def __init__(self, own: Sequence[torch.UntypedStorage]) -> None:
        super().__init__()
        self.own, self.total = {id(storage) for storage in own}, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        tensors = [value for value in (*args, given) if isinstance(value, Tensor)]
        storages = {id(storage): storage for storage in (tensor.untyped_storage() for tensor in tensors)}
        sizes = (storage.nbytes() for key, storage in storages.items() if key not in self.own)
        self.total = max(self.total, sum(sizes))
        return given
