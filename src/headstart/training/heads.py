"""Heads: what turns pooled features `(B, D)` into class scores `(B, C)`."""

from abc import ABC, abstractmethod
from typing import Annotated, Literal

from annotated_types import Ge, Le
from torch import nn

from headstart.config.ranges import ProperFraction, Strength

Solver = Literal["gradient", "lbfgs"]
"""`gradient`: the run's optimizer and epochs; `lbfgs`: the exact optimum of an L2-regularised loss."""

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


class Linear(HeadFactory):
    """One linear layer: multinomial logistic regression on the features."""

    def __init__(
        self,
        solver: Solver = "gradient",
        l2: Strength | Literal["auto"] = "auto",
        init: Literal["standard", "zeros"] = "standard",
    ) -> None:
        self.solver = solver
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
