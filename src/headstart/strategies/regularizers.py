"""Penalties that are added to the training loss: on how far weights move, or on what features are."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le

from headstart.errors import InputError
from headstart.names import plural

if TYPE_CHECKING:
    from torch import Tensor

Pull = Annotated[float, Gt(0), Le(1e6)]
Decay = Annotated[float, Ge(0), Le(1e6)]
Values = Annotated[int, Ge(1), Le(4096)]
Weighed = Annotated[int, Ge(1), Le(100_000)]


@dataclass(frozen=True)
class MapPair:
    """One layer's feature maps of a batch, `(B, C, positions)`: as it is tuned, and as it began.

    `is_real` `(B, positions)`: which positions are no padding; None where all count.
    """

    tuned: "Tensor"
    start: "Tensor"
    is_real: "Tensor | None" = None


class Regularizer(ABC):
    """A penalty that is added to the training loss."""

    replaces_decay = False
    """Whether it takes the place of weight decay."""
    pulls_weights = False
    """Whether all that it does to the backbone is to pull weights, those of kind `weight`."""
    compares_maps = False
    """Whether it needs feature maps, those of a frozen copy of the backbone too (`of_examples`)."""

    needs_source = False
    """Whether it needs the classifier that the backbone was pretrained with (`of_source`)."""

    @property
    def remark(self) -> str:
        """What it takes beside the steps themselves, in words; empty if nothing."""
        return ""

    def check(self, batch_size: int, num_features: int) -> None:  # noqa: B027  (some go with all)
        """Raise `InputError` where it cannot mean anything for batches of so many examples (those that one process
        has), or features of this width."""

    def start(self, pretrained: Sequence["Tensor"], fresh: Sequence["Tensor"]) -> None:  # noqa: B027  (some need none)
        """Remember the starting values of the pretrained weights; `fresh` are the head's."""

    @abstractmethod
    def penalty(self, features: "Tensor") -> "Tensor":
        """The penalty for the weights as they are now, and a batch's `features` `(B, D)`: a scalar with a graph."""

    def of_examples(self, maps: Mapping[str, MapPair]) -> "Tensor | float":
        """The mean over a batch's examples of what is a penalty on each, from its feature maps by layer."""
        return 0.0

    def of_source(self, logits: "Tensor", wanted: "Tensor") -> "Tensor | float":
        """The same from the logits of the source classes `(B, S)` and the shares that they should have."""
        return 0.0


class L2SP(Regularizer):
    """`alpha/2 · ‖w − w⁰‖² + beta/2 · ‖head‖²` (Li, Grandvalet & Davoine 2018, eq. 2), over weights alone."""

    replaces_decay = True
    pulls_weights = True

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
                "strategy.regularizer.k must be below the number of singular values that a batch of features has, "
                f"{min(batch_size, num_features)} (the smaller of batch size, {batch_size} for each process, and "
                f"width, {num_features}), or all of them shrink, but is {self.k}. Lower it."
            )

    def penalty(self, features: "Tensor") -> "Tensor":
        import torch

        smallest = torch.linalg.svdvals(features.to(torch.promote_types(features.dtype, torch.float32)))[-self.k :]
        return self.eta * smallest.square().sum()


class Delta(Regularizer):
    """`alpha/2 · Σ_l C · Σ_j W_j · ‖FM_j − FM⁰_j‖² / P + beta/2 · ‖head‖²` (DELTA: Li et al. 2019, eq. 3 and 4), the
    mean over examples: how far each of the `C` channels of a layer's output has moved, over its `P` positions.

    The layers `l` are the last block of each stage, and their outputs are compared with those of the starting network
    in eval mode. `W`, the attention, is as in the authors' code (see `training.channel_attention`), measured once on
    `attention` training examples; with None it is 1/C throughout (the paper's "DELTA without attention").
    """

    replaces_decay = True
    compares_maps = True

    def __init__(self, alpha: Pull = 0.1, beta: Decay = 0.01, attention: Weighed | None = 64) -> None:
        self.alpha, self.beta, self.attention = alpha, beta, attention
        self.weights: Mapping[str, Tensor] = {}
        """By layer, `W` `(C,)`; set before training, where it is measured."""

    @property
    def remark(self) -> str:
        copy = "a frozen copy of the backbone reads every batch too, which is in the work"
        if self.attention is None:
            return copy
        examples = plural(self.attention, "training example")
        return (
            f"{copy}; before that every channel at the ends of stages is left out in turn on {examples}, which is not"
        )

    def start(self, pretrained: Sequence["Tensor"], fresh: Sequence["Tensor"]) -> None:
        self.fresh = list(fresh)

    def penalty(self, features: "Tensor") -> "Tensor":
        import torch

        return self.beta / 2 * torch.stack([weight.square().sum() for weight in self.fresh]).sum()

    def of_examples(self, maps: Mapping[str, MapPair]) -> "Tensor | float":
        moved = [self._moved(name, pair) for name, pair in maps.items()]
        return self.alpha / 2 * sum(moved) if moved else 0.0

    def _moved(self, name: str, pair: MapPair) -> "Tensor":
        import torch

        precise = torch.promote_types(pair.tuned.dtype, torch.float32)
        gap = (pair.tuned.to(precise) - pair.start.to(precise)).square()
        if pair.is_real is None:
            by_channel = gap.mean(2)
        else:
            real = pair.is_real[:, None].bool()
            by_channel = gap.masked_fill(~real, 0).sum(2) / real.sum(2).clamp(min=1)
        if name in self.weights:
            by_channel = by_channel * (self.weights[name].to(by_channel) * by_channel.shape[1])
        return by_channel.sum(1).mean()


class CoTuning(Regularizer):
    """`weight · CE(p(source class | y), source classifier)` beside the task's loss (Co-Tuning: You et al. 2020, eq. 1):
    the classifier that the backbone was pretrained with is tuned too, on the source classes that go with each label.

    Which do is learned before training (see `training.relationship`). The classifier trains with the backbone's last
    group, and is no part of the finished model.
    """

    needs_source = True

    def __init__(self, weight: Pull = 2.3) -> None:
        self.weight = weight

    @property
    def remark(self) -> str:
        return (
            "the classifier of the pretraining is tuned too, on the source classes that go with each label; its work "
            "and its parameters are not told here"
        )

    def penalty(self, features: "Tensor") -> "Tensor":
        return features.new_zeros(())

    def of_source(self, logits: "Tensor", wanted: "Tensor") -> "Tensor | float":
        import torch

        precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return -self.weight * (wanted * precise.log_softmax(1)).sum(1).mean()
