"""Nearest neighbours on frozen features, as a head: nothing is trained, the training examples are kept."""

import time
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.backbones.waveforms import full_precision
from headstart.tasks.task import Task
from headstart.training.heads import HeadFactory, Solver
from headstart.training.probe_spec import ProbeOutcome
from headstart.training.solver import measured_row

LEAST = 1e-6
"""What a share of votes counts at least (and 1 less that at most), so that no truth is held for impossible."""
_MOST_NUMBERS = 2**24
"""Similarities, or votes, that are held at once."""
Number = Annotated[int, Ge(1), Le(1_000_000)]
Temperature = Annotated[float, Gt(0), Le(1000)]


class Neighbours(HeadFactory):
    """kNN as in DINO (Caron et al. 2021, arXiv:2104.14294, section 4.1; after Wu et al. 2018): the `k` training
    examples with the largest cosine of their features vote, each with the weight `exp(cosine / temperature)`.

    Of numbers the weighted mean is taken. With `temperature` null all weigh alike.
    """

    solver: Solver = "neighbours"

    def __init__(self, k: Number = 20, temperature: Temperature | None = 0.07) -> None:
        self.k, self.temperature = k, temperature

    def build(self, num_features: int, num_classes: int) -> "NearestNeighbours":
        return NearestNeighbours(num_features, num_classes, self.k, self.temperature)


class NearestNeighbours(nn.Module):
    """Features `(B, D)` → outputs `(B, O)`, by `keys` `(N, D)`, training examples of length 1, and their `votes`
    `(N, O)`. `link` (`Task.link`) says what outputs are of the neighbours' mean vote."""

    keys: Tensor
    votes: Tensor

    def __init__(self, num_features: int, num_outputs: int, k: int, temperature: float | None) -> None:
        super().__init__()
        self.k, self.temperature, self.link = k, temperature, "identity"
        self.register_buffer("keys", torch.zeros(0, num_features))
        self.register_buffer("votes", torch.zeros(0, num_outputs))

    def hold(self, keys: Tensor, votes: Tensor) -> None:
        """Keep the training examples' features and votes."""
        self.keys, self.votes = F.normalize(keys.float(), dim=1), votes.float()

    def forward(self, features: Tensor) -> Tensor:
        return self.outputs(features)

    def outputs(self, features: Tensor, own: Tensor | None = None) -> Tensor:
        """Outputs of examples; `own` `(B,)` are their places among the keys, where they are not asked themselves."""
        with full_precision(features.device.type):
            size = max(1, _MOST_NUMBERS // max(1, len(self.keys), self.k * self.votes.shape[1]))
            starts = range(0, len(features), size)
            parts = [
                self._share(features[start : start + size], None if own is None else own[start : start + size])
                for start in starts
            ]
            return _LINKS[self.link](torch.cat(parts) if parts else self.votes[:0])

    def _share(self, features: Tensor, own: Tensor | None) -> Tensor:
        similar = F.normalize(features.float(), dim=1) @ self.keys.T
        if own is not None:
            similar[torch.arange(len(own)), own] = -torch.inf
        known = len(self.keys) - (own is not None)
        nearest = similar.topk(min(self.k, known), dim=1)
        scaled = 0 * nearest.values if self.temperature is None else nearest.values / self.temperature
        weights = torch.softmax(scaled, 1)
        return (weights[..., None] * self.votes[nearest.indices]).sum(1)

    def extra_repr(self) -> str:
        return f"k={self.k}, temperature={self.temperature}, keys={len(self.keys)}"

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *more: Any) -> None:
        for name in ("keys", "votes"):  # of as many examples as there were
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *more)


def _log(shares: Tensor) -> Tensor:
    return shares.clamp(min=LEAST).log()


def _logit(shares: Tensor) -> Tensor:
    return shares.clamp(LEAST, 1 - LEAST).logit()


_LINKS = {"softmax": _log, "sigmoid": _logit, "identity": lambda mean: mean}
"""By what makes of outputs what is said: its inverse."""


def remember(
    head: NearestNeighbours,
    features: Tensor,
    targets: Tensor,
    train: np.ndarray,
    val: np.ndarray,
    task: Task,
    monitor: str | None = None,
) -> ProbeOutcome:
    """Give `head` the training examples: one epoch without a step. Among each other they are scored without themselves.

    Args:
        features: `(N, D)`, of all examples; `train` and `val` are indices into them.
        targets: `(N,)` int64 or `(N, O)`.
        task: Fitted to the training examples.
    """
    began, num_outputs = time.perf_counter(), head.votes.shape[1]
    places = torch.from_numpy(train)
    keys = features[places].cpu()
    with torch.no_grad():
        head.hold(keys, task.votes(targets[places].cpu(), num_outputs))
        outputs = torch.zeros(len(features), num_outputs, dtype=torch.float64)
        if len(train) > 1:
            outputs[places] = head.outputs(keys, torch.arange(len(train))).double()
        outputs[torch.from_numpy(val)] = head(features[torch.from_numpy(val)].cpu()).double()
    row = measured_row(task, outputs, targets.cpu(), train, val, monitor or task.monitor)
    row |= {"step": 0, "seconds": time.perf_counter() - began}
    state = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    return ProbeOutcome([row], 0, state, 0, None, row["seconds"])
