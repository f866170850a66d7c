"""Heads: what turns pooled features `(B, D)` into class scores `(B, C)`."""

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from headstart.config.ranges import ProperFraction, Strength

Solver = Literal["gradient", "lbfgs", "neighbours"]
"""`gradient`: the run's optimizer and epochs; `lbfgs`: the exact optimum of an L2-regularised loss; `neighbours`: none,
the training examples are kept."""

Width = Annotated[int, Ge(1), Le(100_000)]
Depth = Annotated[int, Ge(1), Le(100)]


class HeadFactory(ABC):
    """A head as configured, not yet built."""

    solver: Solver = "gradient"
    l2: float | Literal["auto"] = "auto"
    """Strength of the penalty `l2 / 2 · ‖W‖²` beside the summed loss; `auto`: the best of several on val. Read by
    `lbfgs` alone."""

    @abstractmethod
    def build(self, num_features: int, num_classes: int) -> nn.Module:
        """Features `(B, num_features)` → scores `(B, num_classes)`; fresh weights from torch's global generator."""


class WeighedStates(nn.Module):
    """A head on a learned weighting over the outputs of layers, which come side by side (SUPERB: Yang et al. 2021,
    arXiv:2105.01051): `(B, L · D)` → the mean by the softmax of `weights` `(L,)`, at first even, `(B, D)` → `head`.

    As pooling is linear, a weighting of pooled outputs is the pooled weighting of outputs.
    """

    def __init__(self, num_states: int, head: nn.Module) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(num_states))
        self.head = head

    @property
    def shares(self) -> Tensor:
        """Of each layer, the stem's output first; they add up to 1."""
        return self.weights.softmax(0)

    def forward(self, states: Tensor) -> Tensor:
        return self.head(self.shares @ states.unflatten(1, (len(self.weights), -1)))


def built_head(
    factory: HeadFactory, num_features: int, num_outputs: int, num_weighed: int = 1, link: str = "identity"
) -> nn.Module:
    """A head for features `(B, num_features)`; where these are `num_weighed` vectors side by side, it weighs them.

    `link` is the task's, for heads that are told what outputs are to mean.
    """
    head = factory.build(num_features // num_weighed, num_outputs)
    if hasattr(head, "link"):
        setattr(head, "link", link)  # noqa: B010  (to a type checker a module has tensors and modules alone)
    return head if num_weighed == 1 else WeighedStates(num_weighed, head)


class Linear(HeadFactory):
    """One linear layer: multinomial logistic regression on the features."""

    def __init__(
        self,
        solver: Literal["gradient", "lbfgs"] = "gradient",
        l2: Strength | Literal["auto"] = "auto",
        init: Literal["standard", "zeros"] = "standard",
    ) -> None:
        self.solver: Solver = solver
        self.l2 = l2
        self.init = init

    def build(self, num_features: int, num_classes: int) -> nn.Linear:
        layer = nn.Linear(num_features, num_classes)
        if self.init == "zeros":
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        return layer


class MLP(HeadFactory):
    """Hidden layers of one width, each with ReLU and dropout, then a linear layer."""

    def __init__(self, hidden: Width = 512, num_hidden_layers: Depth = 1, dropout: ProperFraction = 0.5) -> None:
        self.hidden = hidden
        self.num_hidden_layers = num_hidden_layers
        self.dropout = dropout

    def build(self, num_features: int, num_classes: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        width = num_features
        for _ in range(self.num_hidden_layers):
            layers += [nn.Linear(width, self.hidden), nn.ReLU(), nn.Dropout(self.dropout)]
            width = self.hidden
        return nn.Sequential(*layers, nn.Linear(width, num_classes))
