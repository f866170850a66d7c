"""Where the weights and biases of heads of like shape lie, that an optimizer's step is a few passes over memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headstart.training.products import LINE, padded, rows_for


@dataclass(frozen=True)
class Layer:
    """A linear layer of a head; `dropout` follows its ReLU, `None` marks the last one, which has neither."""

    prefix: str
    num_inputs: int
    num_outputs: int
    dropout: float | None


def layers_of(head: nn.Module) -> list[Layer] | None:
    """The layers of a head that can be stacked: `[Linear, ReLU, Dropout?]* Linear`, with biases; else `None`."""
    named = [("", head)] if type(head) is nn.Linear else [(f"{name}.", child) for name, child in head.named_children()]
    kinds = "".join({nn.Linear: "L", nn.ReLU: "r", nn.Dropout: "d"}.get(type(module), "?") for _, module in named)
    stackable = type(head) in (nn.Linear, nn.Sequential) and kinds.replace("Lrd", "").replace("Lr", "") == "L"
    if not stackable or not kinds.endswith("L"):
        return None
    layers = []
    for position, (prefix, module) in enumerate(named):
        if not isinstance(module, nn.Linear):
            continue
        if module.bias is None:
            return None
        after = [other for _, other in named[position + 1 : position + 3]]
        dropout = after[1].p if len(after) == 2 and isinstance(after[1], nn.Dropout) else 0.0
        layers.append(Layer(prefix, module.in_features, module.out_features, dropout if after else None))
    return layers


def num_columns(layers: Sequence[Layer]) -> int:
    """Floats that a head takes."""
    first, *others = layers
    weights = padded(first.num_inputs) * first.num_outputs
    weights += sum(padded(layer.num_outputs * layer.num_inputs) for layer in others)
    return weights + sum(padded(layer.num_outputs) for layer in layers)


class HeadTensors:
    """Weights `(K, outputs, inputs)` and biases `(K, outputs, 1)` of K heads, as views of three matrices.

    Each matrix has a row to each head and begins every tensor at a cache line. The first layers' weights lie one after
    the other, so that they are a matrix too, of all heads' outputs; that has rows to spare behind it.
    """

    def __init__(self, layers: Sequence[Layer], num_heads: int, device: torch.device) -> None:
        self.layers = layers
        first, *others = layers
        whole = rows_for(num_heads * first.num_outputs, padded(first.num_inputs), device)
        self.outputs = whole[:, : first.num_inputs]
        """`(K · outputs + 16, inputs)`: the first layers'."""
        behind = [padded(layer.num_outputs * layer.num_inputs) for layer in others]
        below = [padded(layer.num_outputs) for layer in layers]
        deeper = torch.zeros(num_heads, sum(behind), device=device)
        bias = torch.zeros(num_heads, sum(below), device=device)
        self.matrices = [whole[:-LINE].view(num_heads, -1), *([deeper] if others else []), bias]
        """All numbers `(K, …)`: the first layers' weights, the others' where there are any, and the biases."""
        weights = zip(others, _ranges(behind), strict=True)
        self.weights = [
            self.outputs[:-LINE].view(num_heads, first.num_outputs, -1),
            *(_tensor(deeper, layer.num_outputs, layer.num_inputs, start) for layer, start in weights),
        ]
        self.biases = [
            _tensor(bias, layer.num_outputs, 1, start) for layer, start in zip(layers, _ranges(below), strict=True)
        ]

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """As in a head's state dict, with a head to each row."""
        for layer, weight in zip(self.layers, self.weights, strict=True):
            yield f"{layer.prefix}weight", weight
        for layer, bias in zip(self.layers, self.biases, strict=True):
            yield f"{layer.prefix}bias", bias[..., 0]

    def of(self, members: Sequence[int]) -> "HeadTensors":
        """A copy of some heads'."""
        device = self.outputs.device
        chosen, found = torch.tensor(members, device=device), HeadTensors(self.layers, len(members), device)
        for mine, theirs in zip(found.matrices, self.matrices, strict=True):
            torch.index_select(theirs, 0, chosen, out=mine)
        return found


def _ranges(sizes: Sequence[int]) -> list[int]:
    return [sum(sizes[:place]) for place in range(len(sizes))]


def _tensor(matrix: Tensor, num_rows: int, num_columns: int, start: int) -> Tensor:
    return matrix[:, start : start + num_rows * num_columns].view(len(matrix), num_rows, num_columns)
