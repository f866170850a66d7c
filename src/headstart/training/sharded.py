"""A model that is shared out among the devices (FSDP2): weights, gradients and the optimizer's state, frozen or not.

Each device holds a part of every tensor, and has the whole of a layer only while that layer is at work. Checkpoints are
those of any other run: whole tensors under the same names, so that either goes on from the other's.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

from headstart.backbones.backbone import Backbone
from headstart.strategies.plan import HEAD


class Sharded(ModelParallelStrategy):
    """Lightning's strategy of that name over one dimension, with checkpoints as other strategies write them.

    Lightning's own numbers the optimizer's state by the model's order of parameters, where torch, and so every other
    run, does it by the optimizer's groups.
    """

    def __init__(self, num_devices: int) -> None:
        super().__init__(num_devices, 1, save_distributed_checkpoint=False)

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def shard(self, module: Any) -> None:
        """Share out backbone and head of a `TransferModule`, layer by layer; its rows name the parts from then on."""
        if isinstance(module.backbone, FSDPModule):
            return
        whole, mesh = list(module.parameters()), self.device_mesh["data_parallel"]
        for parameter in whole:
            parameter.data = parameter.data.contiguous()  # channels-last kernels cannot be shared out
        for unit in (*units_of(module.backbone), module.backbone, module.head):
            unit.register_forward_hook(_no_views)
            fully_shard(unit, mesh=mesh, reshard_after_forward=True)
        register_fsdp_forward_method(module.backbone, "suffix")
        for (group, _), named in module.rows.items():
            owner = module.head if group == HEAD else module.backbone
            for name in named:
                named[name] = owner.get_parameter(name)
        for parameter in whole:
            parameter.data = parameter.data.new_empty(0)  # depth groups still name them, and would hold all of it

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole tensors, on the first device, but for those that a checkpoint leaves out anyway."""
        module: Any = self.lightning_module
        frozen = set() if module.frozen_weights is None else set(module.frozen_weights.names)
        state = {name: tensor for name, tensor in module.state_dict().items() if name not in frozen}
        return _whole(state, self.is_global_zero)

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        optimizer = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        return _whole(optimizer.state_dict(), self.is_global_zero)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=True)

    @torch.no_grad()
    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        own, found = self.lightning_module.state_dict(), checkpoint["state_dict"]
        if own.keys() != found.keys():
            raise RuntimeError(f"The checkpoint must hold the model's tensors; others: {sorted(own.keys() ^ found)}.")
        for name, tensor in own.items():
            tensor.copy_(_shared_out_as(tensor, found[name]))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, found in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [one for group in optimizer.param_groups for one in group["params"]]
            state = {
                place: {
                    name: _shared_out_as(parameters[place], value) if _is_like(value, parameters[place]) else value
                    for name, value in values.items()
                }
                for place, values in found["state"].items()
            }
            optimizer.load_state_dict({**found, "state": state})


class FirstStatistics(pl.Callback):
    """Has every device evaluate with the first one's norm statistics, as copies of a model do (DDP)."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for tensor in pl_module.state_dict().values():
            if not isinstance(tensor, DTensor):
                torch.distributed.broadcast(tensor, 0)


def units_of(backbone: Backbone) -> Iterator[nn.Module]:
    """What is put together only while it is at work: each block, but for one with tensors that others hold too.

    Blocks, however coarse the plan's groups are: a model that is cut calls the blocks of a stage one by one. What comes
    before and after them is put together for the whole pass: models reach into it from elsewhere (DeBERTa's positions).
    """
    holders = _holders(backbone)
    for group in backbone.groups("blocks"):
        if group.name in ("stem", "tail"):
            continue
        for module in group.modules:
            for unit in _called(module):
                inside = _holders(unit)
                if inside and all(holders[tensor] == number for tensor, number in inside.items()):
                    yield unit


def _no_views(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Copies in place of views: what is written into one would take away the hook that puts a block together again."""
    return tree_map_only(Tensor, lambda tensor: tensor if tensor._base is None else tensor.clone(), output)


def _holders(module: nn.Module) -> Counter[int]:
    """Under how many names a module has each parameter: several if it is tied, or its own module in several places."""
    return Counter(id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False))


def _called(module: nn.Module) -> Iterator[nn.Module]:
    """The module, or, of a list that nobody calls, what is in it."""
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        for child in module.children():
            yield from _called(child)
    else:
        yield module


def _whole(value: Any, is_kept: bool) -> Any:
    """The same with whole tensors on the CPU in place of parts. Every device has to ask; the first alone keeps them."""
    if isinstance(value, Tensor):
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        return whole.cpu() if is_kept else None
    if isinstance(value, dict):
        return {name: _whole(one, is_kept) for name, one in value.items()}
    return [_whole(one, is_kept) for one in value] if isinstance(value, list) else value


def _is_like(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def _shared_out_as(target: Tensor, whole: Tensor) -> Tensor:
    """This device's part of a tensor that all have whole, as `target` is shared out."""
    if not isinstance(target, DTensor) or isinstance(whole, DTensor):
        return whole
    moved = whole.to(target.device, target.dtype)
    return distribute_tensor(moved, target.device_mesh, target.placements, src_data_rank=None)
