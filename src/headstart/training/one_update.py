"""Parameter groups that take the same options in a step are updated together: one pass for all rows of a plan.

A plan has a group for each row, so that each can have its own rate, and a small transformer has fifty. Mostly their
rates are the same, but torch goes through them one by one, which takes a GPU's processor longer than the update itself.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.optim import SGD, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop

_ELEMENTWISE = (Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop, SGD)
"""Those that change each number by its own gradients alone and keep nothing in a group."""
_OF_A_ROW = frozenset({"params", "row", "base_lr"})


def updated_together(optimizer: Optimizer) -> Optimizer:
    """Have `step` see like groups as one. Numbers stay the same to the bit, and so do `param_groups` and the state."""
    if type(optimizer) not in _ELEMENTWISE:
        return optimizer
    update = optimizer.step

    def step(closure: Callable[[], Any] | None = None) -> Any:
        with torch.enable_grad():
            loss = None if closure is None else closure()  # which may look at the groups, and may fail
        groups = optimizer.param_groups
        optimizer.param_groups = _merged(groups)
        try:
            update()
        finally:
            optimizer.param_groups = groups
        return loss

    optimizer.step = step  # type: ignore[method-assign]
    return optimizer


def _merged(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    alike: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for group in groups:
        options = tuple([value for name, value in group.items() if name not in _OF_A_ROW])
        alike.setdefault(options, []).append(group)
    return [{**some[0], "params": [one for group in some for one in group["params"]]} for some in alike.values()]
