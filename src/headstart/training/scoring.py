"""What a trained model gives for test sets."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from headstart.training.device import autocast


def predict(
    model: Callable[[Mapping[str, Tensor]], Tensor],
    batches: Iterable[Mapping[str, Any]],
    device: torch.device,
    precision: str = "32-true",
) -> Tensor:
    """Outputs of `model` for every batch, in order, float32 on the CPU; no graph, autocast as in training."""
    outputs = []
    with torch.inference_mode(), autocast(device, precision):
        for batch in batches:
            inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in batch["inputs"].items()}
            outputs.append(model(inputs).float())
    return torch.cat(outputs).cpu()
