"""A finished run as what leaves the house: one model in plain parts, whose outputs are in the units of the data."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headstart.backbones.backbone import Backbone, BackboneFactory, Inputs
from headstart.backbones.huggingface_model import TransformersBackbone
from headstart.errors import InputError
from headstart.run.load import FinishedRun
from headstart.strategies.adapters import is_adapted
from headstart.tasks.regression import Regression
from headstart.training.heads import MLP, Linear, WeighedStates
from headstart.training.neighbours import Neighbours

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
    backbone: Backbone
    """With its adapter, if it has one, folded into the weights; a copy."""
    head: nn.Sequential
    """Linear layers with ReLU between them: no dropout, and numbers in the units of the data."""
    mean: Tensor
    spread: Tensor
    """`(O,)`: output `o` of the run's own model times `spread[o]` plus `mean[o]` is in the units of the data."""

    @property
    def factory(self) -> BackboneFactory:
        """The backbone's, at the data's size."""
        return self.run.factory

    @property
    def modality(self) -> str:
        return self.run.modality

    @property
    def names(self) -> tuple[str, ...]:
        """Of the outputs."""
        return self.run.classes

    @property
    def task(self) -> str:
        """`multiclass`, `multilabel` or `regression`."""
        return self.run.task.name

    @property
    def labels(self) -> dict[int, str]:
        return dict(enumerate(self.names))

    @property
    def problem_type(self) -> str:
        return PROBLEM_TYPES[self.task]

    @property
    def num_samples(self) -> int:
        """The most of a sound that is read."""
        reading = self.run.reading.arguments
        return round(reading["seconds"] * reading["sample_rate"])

    @property
    def is_deep(self) -> bool:
        """Whether the run kept 16 bits of its pictures' values."""
        return "depth" in self.run.reading.arguments

    @property
    def layers(self) -> str:
        """Of which of the backbone's layers the features are: `last`, but where transformers' models have more."""
        return getattr(self.backbone, "layers", "last")

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
    if isinstance(run.parts.head, Neighbours):
        raise InputError(
            f"{run.directory.path} has head=knn, which is its training examples and goes to no format: headstart "
            "predict and headstart.load use it. Only head=linear and head=mlp can be exported."
        )
    if not isinstance(run.parts.head, Linear | MLP):
        raise InputError(
            f"{run.directory.path} has a head of its own kind ({type(run.parts.head).__name__}): only head=linear and "
            "head=mlp can be exported."
        )
    backbone, adapter = deepcopy(run.backbone).float(), run.parts.strategy.adapter
    if adapter is not None and is_adapted(backbone):
        adapter.fold(backbone)
    own = run.model.head
    if isinstance(own, WeighedStates):  # pooling is linear: weighed before it or after it is the same
        assert isinstance(backbone, TransformersBackbone)
        backbone.weigh(own.weights.detach().float())
        own = own.head
    task, size = run.task, len(run.classes)
    units = (task.mean, task.spread) if isinstance(task, Regression) else ((0.0,) * size, (1.0,) * size)
    mean, spread = map(torch.tensor, units)
    head = _plain(own, mean, spread)
    return PlainModel(run, backbone, head, mean, spread)


def _plain(head: nn.Module, mean: Tensor, spread: Tensor) -> nn.Sequential:
    layers = [deepcopy(layer).float() for layer in (head if isinstance(head, nn.Sequential) else [head])]
    kept = nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Dropout)))
    last = kept[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.mul_(spread[:, None])
        last.bias.mul_(spread).add_(mean)
    return kept.eval().requires_grad_(False)
