"""Sharpness-aware minimisation (SAM): steps by the gradient at weights that were moved towards a higher loss."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from headstart.training.device import at_least_single
from headstart.training.norm_statistics import batch_norms

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
LEAST = 1e-12
"""Beside a gradient's norm, so that one of 0 moves nothing."""


class SharpnessAware:
    """Makes of a step's closure, which computes loss and gradients, one that gives the gradients of SAM (Foret et al.
    2021, arXiv:2010.01412, algorithm 1 with p = 2): those at `w + rho · g / ‖g‖`, g the gradients at the weights w,
    over all parameters that train.

    Both passes see the same dropout, the same batch and the same statistics of batch norms, which move by the first
    alone. The weights are back afterwards, bit for bit: the optimizer steps from them.
    """

    def __init__(self, rho: float) -> None:
        self.rho = rho
        self.is_second = False
        """Whether the pass at moved weights is under way, which is no news of the loss."""

    def closure(self, module: nn.Module, closure: Callable[[], Any]) -> Callable[[], Any]:
        def twice() -> Any:
            device = next(module.parameters()).device
            statistics = _statistics(module)
            before, dice = [one.clone() for one in statistics], _dice(device)
            loss = closure()
            after = [one.clone() for one in statistics]
            with _moved(module, self.rho):
                _put(statistics, before)
                _throw_again(dice, device)
                self.is_second = True
                try:
                    closure()
                finally:
                    self.is_second = False
                    _put(statistics, after)
            return loss

        return twice


@contextmanager
def _moved(module: nn.Module, rho: float) -> Iterator[None]:
    """The block in which the weights that have gradients are moved by `rho` along them."""
    weights = [parameter for parameter in module.parameters() if parameter.grad is not None]
    kept = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        norm = (
            torch.stack([torch.linalg.vector_norm(at_least_single(one)) for one in gradients]).norm()
            if gradients
            else 0.0
        )
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.add_(gradient * (rho / (norm + LEAST)))
    try:
        yield
    finally:
        _put(weights, kept)


def _statistics(module: nn.Module) -> list[Tensor]:
    """Moving statistics of batch norms."""
    found = (getattr(norm, name) for _, norm in batch_norms(module) for name in _STATISTICS)
    return [one for one in found if one is not None]


@torch.no_grad()
def _put(tensors: list[Any], values: list[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def _dice(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _throw_again(dice: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(dice[0])
    if dice[1] is not None:
        torch.cuda.set_rng_state(dice[1], device)
