"""From hidden states over time to one vector: only what is no padding counts."""

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["cls", "mean", "last", "pooler"]


def pool(hidden: Tensor, mask: Tensor | None, how: Pooling) -> Tensor:
    """Hidden states `(B, T, D)` with `mask` `(B, T)`, 1 where no padding (on the right) → `(B, D)`."""
    if how == "cls":
        return hidden[:, 0]
    if mask is None:
        return hidden[:, -1] if how == "last" else hidden.mean(1)
    if how == "last":
        last = mask.long().sum(1).clamp(min=1) - 1
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    assert how == "mean", how
    weights = mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
