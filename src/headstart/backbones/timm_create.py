"""Creating a timm model without letting timm load its weights."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

from headstart.compat import declare_torchvision_operators


@dataclass(frozen=True)
class Created:
    model: nn.Module
    filter_fn: Callable | None


_creating = threading.Lock()


def create(name: str, **arguments: Any) -> Created:
    """`timm.create_model`, stopped right before it would load weights.

    timm keeps each architecture's conversion of checkpoints to itself and hands it to its loader alone, which loosens
    its checks when the classifier is gone. So the loader is stood in for, to learn the conversion and load strictly.
    """
    declare_torchvision_operators()
    import timm
    from timm.models import _builder

    found: list[Callable | None] = []

    def note(*args: Any, filter_fn: Callable | None = None, **kwargs: Any) -> None:
        found.append(filter_fn)

    with _creating:
        loader, _builder.load_pretrained = _builder.load_pretrained, note
        try:
            model = timm.create_model(name, pretrained=True, **arguments)
        finally:
            _builder.load_pretrained = loader
    return Created(model, found[0] if found else None)


class skipped_init(TorchFunctionMode):  # noqa: N801 (used as a function)
    """Leaves random initial values out where every tensor is about to be loaded anyway."""

    _SKIPPED = frozenset(
        {"normal_", "uniform_", "erfinv_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_"}
        | {"xavier_normal_", "xavier_uniform_", "orthogonal_", "bernoulli_"}
    )

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self._SKIPPED:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
