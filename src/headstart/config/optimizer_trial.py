"""An optimizer tried on a few numbers before anything is trained: torch checks little of what it is given."""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from headstart.errors import InputError

if TYPE_CHECKING:
    import torch

SHAPES = ((2, 2), (2,), (2, 1, 2, 2))
"""Of what models train: matrices, vectors, kernels."""
NUM_STEPS = 3


def check_optimizer(target: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise `InputError` unless the optimizer trains parameters of all shapes as plans need it.

    It must be made from groups, take dense gradients, follow them down, come to rest where there are none, and stand
    still at a rate of zero.
    """
    wrong = _problem(target, json.dumps(arguments, sort_keys=True, default=str))
    if wrong is not None:
        name = getattr(target, "__name__", str(target))
        given = ", ".join(f"optimizer.{key}={value}" for key, value in arguments.items())
        raise InputError(
            f"optimizer must lower a loss at the rate it is given, but with {given} {name} {wrong}. Mend "
            "these settings, or use optimizer=adamw or optimizer=sgd."
        )


@lru_cache(256)
def _problem(target: Callable[..., Any], arguments: str) -> str | None:
    """What is wrong with it; the same for all runs of a comparison."""
    try:
        return _tried(target, json.loads(arguments))
    except Exception as error:  # optimizers raise all kinds
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return f"fails ({reason[0]})"


def _tried(target: Callable[..., Any], arguments: Mapping[str, Any]) -> str | None:
    import torch

    decayed, others = ([torch.nn.Parameter(torch.zeros(shape)) for shape in SHAPES] for _ in range(2))
    optimizer = target([{"params": decayed}, {"params": others, "weight_decay": 0.0}], **arguments)
    rate = optimizer.param_groups[0]["lr"]
    for step in range(NUM_STEPS):
        moved = _step(optimizer, others, gradient=1.0)
        watched = others if step else [*others, *decayed]  # later, decay has gradients of its own
        if not all(torch.isfinite(parameter).all() for parameter in watched):
            return "makes steps that are no finite numbers"
        if not all((move < 0).all() for move in moved):
            return "does not go down where the gradient says so"
    pace = moved
    for _ in range(NUM_STEPS):
        moved = _step(optimizer, others, gradient=0.0)
    if any((now.abs() >= before.abs()).any() for now, before in zip(moved, pace, strict=True)):
        return "does not slow down where there is no gradient"
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    for _ in range(2):  # the first may still be made at the rate before
        moved = _step(optimizer, others, gradient=1.0)
    if any((move != 0).any() for move in moved):
        return f"moves at a rate of 0: it does not follow the rate ({rate:g}), which plans and schedules change"
    return None


def _step(
    optimizer: "torch.optim.Optimizer", parameters: list["torch.nn.Parameter"], gradient: float
) -> list["torch.Tensor"]:
    """One step at the same gradient everywhere, and how far each of `parameters` moved."""
    import torch

    before = [parameter.detach().clone() for parameter in parameters]
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.full_like(parameter, gradient)
    optimizer.step()
    return [parameter.detach() - old for parameter, old in zip(parameters, before, strict=True)]
