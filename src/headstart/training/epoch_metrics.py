"""What an epoch is measured by while it goes on; none of it waits for the device."""

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanLoss(Metric):
    """The mean over examples of losses that are batch means, without waiting for the device.

    torchmetrics' `MeanMetric` either looks for NaN, which waits, or takes all batches for equally large.
    """

    full_state_update = False
    total: Tensor
    num_examples: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), "sum")
        self.add_state("num_examples", torch.tensor(0.0), "sum")

    def update(self, loss: Tensor, num_examples: int) -> None:
        """Take note of a batch's mean loss, a scalar."""
        self.total = self.total + loss * num_examples
        self.num_examples = self.num_examples + num_examples

    def compute(self) -> Tensor:
        return self.total / self.num_examples


class ClassCounts(Metric):
    """Of each class the examples that were recognised, predicted and there at all: `(3, C)`, see `metrics.counts`."""

    full_state_update = False
    total: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("total", torch.zeros(3, num_classes, dtype=torch.int64), "sum")

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Take note of a batch's classes, predicted and true, `(B,)` each."""
        classes = torch.arange(self.num_classes, device=labels.device)
        chosen, there = predicted[:, None] == classes, labels[:, None] == classes
        self.total = self.total + torch.stack([(chosen & there).sum(0), chosen.sum(0), there.sum(0)])

    def compute(self) -> Tensor:
        return self.total
