"""What an example's nearest neighbours say of it, itself and its like left out."""

import numpy as np
import torch
from torch import Tensor

NUM = 5
"""Neighbours that are asked."""
_BLOCK = 1024
"""Rows of distances that are held at once."""


def nearest(features: Tensor, units: np.ndarray, num: int = NUM) -> Tensor:
    """Places `(n, num)` of each example's nearest neighbours among the others that are not of its unit.

    Nearest by cosine, of features that are centred on their mean; of equals the earlier. An example that has fewer
    others has the first of them again.

    Args:
        features: `(n, D)`.
        units: `(n,)`, equal for copies and for examples of one group: they would tell each other's label.
    """
    around = features.double() - features.double().mean(0)
    around = around / around.norm(dim=1, keepdim=True).clamp_min(1e-12)
    own = torch.from_numpy(units)
    found = []
    for start in range(0, len(around), _BLOCK):
        likeness = around[start : start + _BLOCK] @ around.T
        likeness.masked_fill_(own[start : start + _BLOCK, None] == own, -torch.inf)
        values, places = likeness.sort(dim=1, descending=True, stable=True)
        values, places = values[:, :num], places[:, :num]
        found.append(torch.where(torch.isfinite(values), places, places[:, :1]))
    return torch.cat(found)


def voted(places: Tensor, shares: Tensor) -> Tensor:
    """The mean `(n, O)` of what the neighbours are: shares of classes or labels, or numbers."""
    return shares.double()[places].mean(1)
