"""Feature maps at the ends of a backbone's stages: of the model in training, and of a frozen copy of how it began."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from headstart.backbones.backbone import Backbone, Inputs
from headstart.strategies.regularizers import MapPair

OUTSIDE = ("stem", "tail")
NUM_STAGES = 4
Ends = Mapping[str, tuple[nn.Module, ...]]


@dataclass(frozen=True)
class Seen:
    """What a module gave in a forward pass, and which one it was."""

    module: nn.Module
    values: Tensor


def stage_ends(backbone: Backbone) -> Ends:
    """The last block of each stage, by name, with its outermost modules that have weights.

    Where every block is a stage of its own (vision transformers), the last block of each quarter of them.
    """
    stages = {id(p): stage.name for stage in backbone.groups("stages") for p in stage.parameters.values()}
    last: dict[str, str] = {}
    modules = {}
    for group in backbone.groups():
        if group.name not in OUTSIDE and group.parameters:
            last[stages[id(next(iter(group.parameters.values())))]] = group.name
            modules[group.name] = tuple(m for m in group.modules if next(m.parameters(), None) is not None)
    chosen = list(last.values())
    if len(chosen) == len(modules) > NUM_STAGES:
        chosen = [chosen[len(chosen) * quarter // NUM_STAGES - 1] for quarter in range(1, NUM_STAGES + 1)]
    return {name: modules[name] for name in chosen}


@contextmanager
def watched(ends: Ends) -> Iterator[dict[str, Seen]]:
    """In this block, what each of `ends` gives in forward passes: of its last module that gives something with
    positions."""
    found: dict[str, Seen] = {}

    def keep(name: str, module: nn.Module, args: Any, output: Any) -> None:
        values = output[0] if isinstance(output, tuple) else output
        if isinstance(values, Tensor) and values.ndim > 2:
            found[name] = Seen(module, values)

    hooks = [module.register_forward_hook(partial(keep, name)) for name, several in ends.items() for module in several]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


class StartingMaps:
    """A backbone beside a frozen copy of itself as it is now, in eval mode, both read at the ends of their stages."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone, self.ends = backbone, stage_ends(backbone)
        self.copy = deepcopy(backbone).eval().requires_grad_(False)
        self.copied_ends = stage_ends(self.copy)

    def compared(self, run: Callable[[Backbone], Tensor], inputs: Inputs) -> tuple[Tensor, dict[str, MapPair]]:
        """What `run` makes of the backbone, features `(B, D)`, and the maps of either; none where it runs no stage."""
        with watched(self.ends) as tuned:
            features = run(self.backbone)
        like = next(self.backbone.parameters())
        self.copy.to(like.device, like.dtype)
        with torch.no_grad(), watched(self.copied_ends) as start:
            run(self.copy)
        return features, {
            name: MapPair(
                self._by_channel(tuned[name].values),
                self._by_channel(start[name].values),
                self.backbone.real_positions(inputs, tuned[name].values),
            )
            for name in tuned
        }

    def _by_channel(self, values: Tensor) -> Tensor:
        return values.movedim(self.backbone.channel_axis(values), 1).flatten(2)
