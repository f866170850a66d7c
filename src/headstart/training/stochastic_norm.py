"""StochNorm (Kou et al. 2020): batch norms that in training follow the batch in some channels only, by chance."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from headstart.training.norm_statistics import batch_norms

STATISTICS = ("running_mean", "running_var")


class Stochastic(nn.Module):
    """In training each channel, at each step, is normalised by the batch's statistics with probability `p`, else by the
    moving ones as they were before the step; these then move as ever. Elsewhere, and where no gradient is taken, it is
    the batch norm that it was: statistics that are measured anew follow the batch.

    A class that an instance of a batch norm changes to, so that parameters, buffers and names stay. What follows within
    the layer (timm's activations) works on each number by itself, so that choosing after it is choosing before it.
    """

    p: float

    def forward(self, x: Tensor) -> Tensor:
        norm: Any = self
        if not (self.training and norm.track_running_stats and torch.is_grad_enabled()):
            return super().forward(x)
        before: dict[str, Tensor] = {name: getattr(self, name) for name in STATISTICS}
        kept = {name: tensor.clone() for name, tensor in before.items()}
        by_batch = super().forward(x)
        self._take(kept, training=False)
        try:
            by_moving = super().forward(x)
        finally:
            self._take(before, training=True)
        takes_batch = torch.rand(norm.num_features, device=x.device) < self.p
        return torch.where(takes_batch.view(1, -1, *[1] * (x.ndim - 2)), by_batch, by_moving)

    def _take(self, statistics: Mapping[str, Tensor], training: bool) -> None:
        """Read and move these statistics from now on."""
        self.training = training
        for name, tensor in statistics.items():
            setattr(self, name, tensor)


def make_stochastic(model: nn.Module, p: float) -> None:
    """Let all batch norms of `model` that keep moving statistics be stochastic ones."""
    norms: list[Any] = [norm for _, norm in batch_norms(model)]
    for norm in norms:
        kind: Any = type(norm)
        norm.__class__ = _stochastic(kind)
        norm.p = p


@cache
def _stochastic(kind: type[nn.Module]) -> type[nn.Module]:
    return type(f"Stochastic{kind.__name__}", (Stochastic, kind), {})
