"""Attention whose gradients have the same bits in each run, on a GPU.

torch can compute them so, but does it only where every operation has to be deterministic (`warn_only=False`), which
stops models with an operation that cannot be: adaptive pooling, say. So the rule is strict for attention alone.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_attention = functional.scaled_dot_product_attention
_MOST_BETWEEN = 4
"""Nodes from a result back to attention itself: what heads were padded by is cut off, say."""


def follow_rule(deterministic: bool) -> None:
    """Have attention follow torch's switch for deterministic algorithms, which is `deterministic` now."""
    functional.scaled_dot_product_attention = _ruled
    torch.backends.cuda.enable_cudnn_sdp(not deterministic)  # cuDNN's has no deterministic gradients


def _ruled(*args: Any, **named: Any) -> Tensor:
    found = _attention(*args, **named)
    wanted = found.is_cuda and found.requires_grad and torch.is_deterministic_algorithms_warn_only_enabled()
    if wanted and not torch.compiler.is_compiling():
        _restrict(found)
    return found


def _restrict(found: Tensor) -> None:
    """Have the gradient of this result be computed under the strict rule, unless it is made of plain products."""
    node: Any = found.grad_fn
    for _ in range(_MOST_BETWEEN):
        if node is not None and "DotProduct" in node.name():
            node.register_prehook(_strict)
            node.register_hook(_lenient)
            return
        node = node.next_functions[0][0] if node is not None and node.next_functions else None


def _strict(_: Any) -> None:
    torch.use_deterministic_algorithms(True)


def _lenient(*_: Any) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
