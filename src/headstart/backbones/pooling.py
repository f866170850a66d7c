"""From hidden states of layers over time to one vector: only what is no padding counts."""

from typing import Literal

import torch
from torch import Tensor, nn

Pooling = Literal["cls", "mean", "last", "pooler"]
Layers = Literal["last", "weighted", "concat"]
"""Whose outputs the features are of: the last layer's; a learned weighting over those of the stem and of all layers
(SUPERB); all of them, each pooled, side by side."""
APART = "apart"
"""As `concat`, for a head that weighs them: what `weighted` is where the backbone never trains."""


class LayerMix(nn.Module):
    """A learned weighting over the outputs of all layers, as SUPERB has it (Yang et al. 2021, arXiv:2105.01051)."""

    def __init__(self, num_states: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(num_states))

    def forward(self, states: tuple[Tensor, ...]) -> Tensor:
        """Hidden states `(B, T, D)` of the stem and of each layer → their weighted mean `(B, T, D)`."""
        shares = self.weights.softmax(0)
        return torch.stack([share * state for share, state in zip(shares, states, strict=True)]).sum(0)


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
