"""Penalties that are added to the training loss: on how far weights move, or on what features are."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le

from headstart.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Pull = Annotated[float, Gt(0), Le(1e6)]
Decay = Annotated[float, Ge(0), Le(1e6)]
Values = Annotated[int, Ge(1), Le(4096)]


class Regularizer(ABC):
    """A penalty that is added to the training loss."""

    replaces_decay = False
    """Whether it takes the place of weight decay."""

    def check(self, batch_size: int, num_features: int) -> None:  # noqa: B027  (some go with all)
        """Raise `InputError` where it cannot mean anything for batches of so many examples (those that one process
        has), or features of this width."""

    def start(self, pretrained: Sequence["Tensor"], fresh: Sequence["Tensor"]) -> None:  # noqa: B027  (some need none)
        """Remember the starting values of the pretrained weights; `fresh` are the head's."""

    @abstractmethod
    def penalty(self, features: "Tensor") -> "Tensor":
        """The penalty for the weights as they are now, and a batch's `features` `(B, D)`: a scalar with a graph."""


class L2SP(Regularizer):
    """`alpha/2 · ‖w − w⁰‖² + beta/2 · ‖head‖²` (Li, Grandvalet & Davoine 2018, eq. 2), over weights alone."""

    replaces_decay = True

    def __init__(self, alpha: Pull = 0.1, beta: Decay = 0.01) -> None:
        self.alpha, self.beta = alpha, beta

    def start(self, pretrained: Sequence["Tensor"], fresh: Sequence["Tensor"]) -> None:
        self.pretrained, self.fresh = list(pretrained), list(fresh)
        self.origin = [weight.detach().clone() for weight in self.pretrained]

    def penalty(self, features: "Tensor") -> "Tensor":
        import torch

        self.origin = [o.to(w.device) for o, w in zip(self.origin, self.pretrained, strict=True)]  # models move later
        pulled = [(w - origin).square().sum() for w, origin in zip(self.pretrained, self.origin, strict=True)]
        decayed = [weight.square().sum() for weight in self.fresh]
        return self.alpha / 2 * torch.stack(pulled).sum() + self.beta / 2 * torch.stack(decayed).sum()


class BatchSpectralShrinkage(Regularizer):
    """`eta · Σ σ²` over the `k` smallest singular values of a batch's features (Chen et al. 2019, eq. 5).

    What the pretrained model tells apart by tiny differences alone transfers badly; shrinking it leaves the head the
    strong directions. Weight decay stays as it is. Each process has the values of its own share of a batch.
    """

    def __init__(self, eta: Pull = 0.001, k: Values = 1) -> None:
        self.eta, self.k = eta, k

    def check(self, batch_size: int, num_features: int) -> None:
        if self.k >= min(batch_size, num_features):
            raise InputError(
                f"strategy.regularizer.k must be below the number of singular values that a batch of features has, "
                f"{min(batch_size, num_features)} (the smaller of batch size, {batch_size} for each process, and width, "
                f"{num_features}), or all of them shrink, but is {self.k}. Lower it."
            )

    def penalty(self, features: "Tensor") -> "Tensor":
        import torch

        smallest = torch.linalg.svdvals(features.float())[-self.k :]
        return self.eta * smallest.square().sum()
