"""What a trained model gives for test sets."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from headstart.training.device import at_least_single, autocast


def predict(
    model: Callable[[Mapping[str, Tensor]], Tensor],
    batches: Iterable[Mapping[str, Any]],
    device: torch.device,
    precision: str = "32-true",
) -> Tensor:
    """Outputs of `model` for every batch, in order, on the CPU; no graph, autocast as in training.

    They are float32, or float64 where the model is.
    """
    outputs = []
    with torch.inference_mode(), autocast(device, precision):
        for batch in batches:
            inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in batch["inputs"].items()}
            outputs.append(at_least_single(model(inputs)))
    return torch.cat(outputs).cpu()
