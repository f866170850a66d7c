"""Which channels of a frozen backbone's feature maps matter for a task: DELTA's attention (Li et al. 2019, eq. 5)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from headstart.backbones.backbone import Backbone, Inputs
from headstart.training.feature_maps import Seen, stage_ends, watched

TEMPERATURE = 5.0
"""Of the softmax over standardised importances, as in the authors' code."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""The mean over examples, of outputs `(B, O)` and targets."""


@torch.no_grad()
def importances(
    backbone: Backbone, head: nn.Module, batches: Sequence[tuple[Inputs, Tensor]], loss: Loss
) -> dict[str, Tensor]:
    """By stage end, how much the loss over `batches` rises where a channel of its map is 0 throughout: `(C,)` each.

    `backbone` is in eval mode; `head` was trained on its features. What lies below the block is run once where the
    model can be cut there.
    """
    ends, total = stage_ends(backbone), sum(len(targets) for _, targets in batches)
    found: dict[str, Tensor] = {}
    for inputs, targets in batches:
        with watched(ends) as seen:
            before = loss(head(backbone(inputs)), targets)
        for name, one in seen.items():
            axis, again = backbone.channel_axis(one.values), _rerun(backbone, name, inputs)
            rises = []
            for channel in range(one.values.shape[axis]):
                with _zeroed(one, axis, channel):
                    rises.append(loss(head(again()), targets) - before)
            share = len(targets) / total * torch.stack(rises).double().cpu()
            found[name] = found[name] + share if name in found else share
    return found


def attention(rises: Tensor) -> Tensor:
    """Weights `(C,)` that add up to 1, from importances: those that stand out above the others weigh more."""
    spread = rises.std(correction=0)
    standard = (rises - rises.mean()) / spread if spread > 0 else torch.zeros_like(rises)
    return torch.softmax(standard / TEMPERATURE, 0)


def _rerun(backbone: Backbone, name: str, inputs: Inputs) -> Callable[[], Tensor]:
    """Features of `inputs` again, from as far up as nothing at or above the block `name` has been run."""
    names = [group.name for group in backbone.groups()]
    below = [cut for cut in backbone.boundaries if names.index(cut) < names.index(name)]
    if not below:
        return lambda: backbone(inputs)
    given = backbone.prefix(inputs, below[-1])
    return lambda: backbone.suffix(given, below[-1])


@contextmanager
def _zeroed(one: Seen, axis: int, channel: int) -> Iterator[None]:
    def zero(module: nn.Module, args: Any, output: Any) -> Any:
        values = (output[0] if isinstance(output, tuple) else output).clone()
        values.select(axis, channel).zero_()
        return (values, *output[1:]) if isinstance(output, tuple) else values

    hook = one.module.register_forward_hook(zero)
    try:
        yield
    finally:
        hook.remove()
