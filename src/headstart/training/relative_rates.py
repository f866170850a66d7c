"""Auto-RGN (Lee et al. 2023, arXiv:2210.11466): rates by relative gradient norms, measured anew in every epoch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf, isinf
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from headstart.training.device import at_least_single
from headstart.training.epochs import FlopMeter
from headstart.training.thaw import Thaw
from headstart.training.work import counter

NUM_BATCHES = 5
"""On which gradients are measured, as in the authors' code."""
Batches = Callable[[], Iterable[Mapping[str, Any]]]
"""Training examples as they are read in scoring: `{"inputs", "labels"}`, a few batches."""


class RelativeRates(pl.Callback):
    """At the start of each epoch gives every depth group its share of the rate (see `shares`), by way of `thaw`.

    The gradients are those of the training loss without its penalties, in eval mode, so that measuring moves nothing:
    neither statistics nor the dropout of the steps to come. It comes after whatever puts other weights back.
    """

    def __init__(self, thaw: Thaw, batches: Batches, flops: FlopMeter) -> None:
        self.thaw, self.batches, self.flops = thaw, batches, flops

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        groups = measured_tensors(pl_module.rows)
        if len(groups) < 2:  # a head alone is its own largest
            self.thaw.shares = {}
            return
        was_training = pl_module.training
        pl_module.eval()
        with counter() as count:
            ratios = [relative_norms(groups, self._loss(trainer, pl_module, batch)) for batch in self.batches()]
        pl_module.train(was_training)
        self.flops.total += count.get_total_flops()
        self.thaw.shares = shares(ratios)

    def _loss(self, trainer: pl.Trainer, module: Any, batch: Mapping[str, Any]) -> Tensor:
        batch = trainer.precision_plugin.convert_input(batch)
        inputs = {name: tensor.to(module.device) for name, tensor in batch["inputs"].items()}
        with torch.enable_grad():
            return module.task.loss(at_least_single(module(inputs)), batch["labels"].to(module.device))


def measured_tensors(rows: Mapping[tuple[str, str], Mapping[str, nn.Parameter]]) -> dict[str, list[nn.Parameter]]:
    """What of each depth group that trains now is measured: its weights; norms and biases only where it has no others.

    (The authors leave norm layers out.)
    """
    found: dict[str, dict[bool, list[nn.Parameter]]] = {}
    for (group, kind), named in rows.items():
        trains = [parameter for parameter in named.values() if parameter.requires_grad]
        if trains:
            found.setdefault(group, {}).setdefault(kind in ("weight", "adapter"), []).extend(trains)
    return {group: parts.get(True) or parts[False] for group, parts in found.items()}


def relative_norms(groups: Mapping[str, Sequence[nn.Parameter]], loss: Tensor) -> dict[str, float]:
    """By group, the norm of the loss's gradient over the norm of the weights; infinite where these are all 0."""
    tensors = [tensor for several in groups.values() for tensor in several]
    found = torch.autograd.grad(loss, tensors, allow_unused=True)
    gradients = {id(tensor): gradient for tensor, gradient in zip(tensors, found, strict=True)}
    ratios = {}
    for group, several in groups.items():
        moved = _norm([gradients[id(tensor)] for tensor in several])
        size = _norm([tensor.detach() for tensor in several if gradients[id(tensor)] is not None])
        ratios[group] = moved / size if size else inf
    return ratios


def shares(ratios: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each group's mean over batches, over the largest of all groups. Where weights are all 0, the share is 1."""
    means = {group: sum(one[group] for one in ratios) / len(ratios) for group in ratios[0]}
    largest = max((mean for mean in means.values() if not isinf(mean)), default=0.0)
    return {group: 1.0 if isinf(mean) or not largest else mean / largest for group, mean in means.items()}


def _norm(tensors: Sequence[Tensor | None]) -> float:
    """Of all of them as one vector, in double precision."""
    return sum(float(t.double().square().sum()) for t in tensors if t is not None) ** 0.5
