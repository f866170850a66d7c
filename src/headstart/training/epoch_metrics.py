"""What an epoch is measured by while it goes on; none of it waits for the device."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from headstart.training.device import at_least_single


class Mean(Metric):
    """The mean over examples, of what batches add up to, without waiting for the device.

    torchmetrics' `MeanMetric` either looks for NaN, which waits, or takes all batches for equally large.
    """

    full_state_update = False
    total: Tensor
    num_examples: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), "sum")
        self.add_state("num_examples", torch.tensor(0.0), "sum")

    def update(self, total: Tensor, num_examples: int) -> None:
        """Take note of a batch's sum, a scalar."""
        self.total = self.total + total
        self.num_examples = self.num_examples + num_examples

    def compute(self) -> Tensor:
        return self.total / self.num_examples


class Outputs(Metric):
    """What the model gave for examples, of all processes: outputs `(N, O)` and targets, on the CPU at the end."""

    full_state_update = False
    outputs: list[Tensor]
    targets: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("outputs", [], "cat")
        self.add_state("targets", [], "cat")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take note of a batch."""
        self.outputs.append(at_least_single(outputs))
        self.targets.append(targets)

    def compute(self) -> tuple[Tensor, Tensor]:
        return dim_zero_cat(self.outputs).cpu(), dim_zero_cat(self.targets).cpu()
