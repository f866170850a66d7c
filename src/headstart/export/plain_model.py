"""A finished run as what leaves the house: one model in plain parts, whose outputs are in the units of the data."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headstart.backbones.backbone import Backbone, BackboneFactory, Inputs
from headstart.errors import InputError
from headstart.run.chosen import parts_of
from headstart.run.load import FinishedRun
from headstart.strategies.strategy import Strategy
from headstart.training.heads import MLP, Linear

PROBLEM_TYPES = {
    "multiclass": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regression": "regression",
}
"""What transformers calls the tasks."""


@dataclass(frozen=True)
class PlainModel:
    """What every format is written from."""

    run: FinishedRun
    factory: BackboneFactory
    strategy: Strategy
    backbone: Backbone
    """With its adapter, if it has one, folded into the weights; a copy."""
    head: nn.Sequential
    """Linear layers with ReLU between them: no dropout, and numbers in the units of the data."""
    names: tuple[str, ...]
    task: str
    mean: Tensor
    spread: Tensor
    """`(O,)`: output `o` of the run's own model times `spread[o]` plus `mean[o]` is in the units of the data."""

    @property
    def modality(self) -> str:
        return self.factory.modality

    @property
    def labels(self) -> dict[int, str]:
        return dict(enumerate(self.names))

    @property
    def problem_type(self) -> str:
        return PROBLEM_TYPES[self.task]

    @property
    def is_linear(self) -> bool:
        return len(self.head) == 1

    @property
    def widths(self) -> list[int]:
        """Of the head, from the features to the outputs."""
        layers = [layer for layer in self.head if isinstance(layer, nn.Linear)]
        return [layers[0].in_features, *(layer.out_features for layer in layers)]

    def reference(self, inputs: Inputs) -> Tensor:
        """Outputs `(B, O)` of the run's own model, in float32, in the units of the data."""
        with torch.inference_mode():
            return self.run.model(inputs).float() * self.spread + self.mean

    def tolerance(self, reference: Tensor) -> Tensor:
        """What differences `(O,)` are measured by: the outputs' size, and at least 1 (a standard deviation)."""
        return torch.maximum(self.spread, reference.abs().amax(0))


def plain_model(run: FinishedRun) -> PlainModel:
    """Take a run's model apart.

    Raises:
        InputError: if its head is none that can be described in plain layers.
    """
    parts = parts_of(run.cfg)
    if not isinstance(parts.head, Linear | MLP):
        raise InputError(
            f"{run.directory.path} has a head of its own kind ({type(parts.head).__name__}): only head=linear and "
            "head=mlp can be exported."
        )
    backbone = deepcopy(run.model.backbone)
    if parts.strategy.adapter is not None and any(".lora_" in name for name, _ in backbone.named_parameters()):
        parts.strategy.adapter.fold(backbone)
    mean, spread = _units(run.result.details, len(run.classes))
    head = _plain(run.model.head, mean, spread)
    task = run.result.task or "multiclass"
    return PlainModel(run, parts.sized_backbone, parts.strategy, backbone, head, run.classes, task, mean, spread)


def _units(details: Mapping[str, Any] | None, size: int) -> tuple[Tensor, Tensor]:
    said = (details or {}).get("standardised") or {}
    values: Sequence[Sequence[float]] = (said.get("mean") or [0.0] * size, said.get("std") or [1.0] * size)
    mean, spread = (torch.tensor(row, dtype=torch.float64) for row in values)
    return mean.float(), spread.float()


def _plain(head: nn.Module, mean: Tensor, spread: Tensor) -> nn.Sequential:
    layers = [deepcopy(layer) for layer in (head if isinstance(head, nn.Sequential) else [head])]
    kept = nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Dropout)))
    last = kept[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.mul_(spread[:, None])
        last.bias.mul_(spread).add_(mean)
    return kept.eval().requires_grad_(False)
