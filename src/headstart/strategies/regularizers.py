"""Penalties that hold a model near where it started."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le

if TYPE_CHECKING:
    from torch import Tensor

Pull = Annotated[float, Gt(0), Le(1e6)]
Decay = Annotated[float, Ge(0), Le(1e6)]


class Regularizer(ABC):
    """A penalty that is added to the training loss and takes the place of weight decay."""

    @abstractmethod
    def start(self, pretrained: Sequence["Tensor"], fresh: Sequence["Tensor"]) -> None:
        """Remember the starting values of the pretrained weights; `fresh` are the head's."""

    @abstractmethod
    def penalty(self) -> "Tensor":
        """The penalty for the weights as they are now: a scalar with a graph."""


class L2SP(Regularizer):
    """`alpha/2 · ‖w − w⁰‖² + beta/2 · ‖head‖²` (Li, Grandvalet & Davoine 2018, eq. 2), over weights alone."""

    def __init__(self, alpha: Pull = 0.1, beta: Decay = 0.01) -> None:
        self.alpha, self.beta = alpha, beta

    def start(self, pretrained: Sequence["Tensor"], fresh: Sequence["Tensor"]) -> None:
        self.pretrained, self.fresh = list(pretrained), list(fresh)
        self.origin = [weight.detach().clone() for weight in self.pretrained]

    def penalty(self) -> "Tensor":
        import torch

        self.origin = [o.to(w.device) for o, w in zip(self.origin, self.pretrained, strict=True)]  # models move later
        pulled = [(w - origin).square().sum() for w, origin in zip(self.pretrained, self.origin, strict=True)]
        decayed = [weight.square().sum() for weight in self.fresh]
        return self.alpha / 2 * torch.stack(pulled).sum() + self.beta / 2 * torch.stack(decayed).sum()
