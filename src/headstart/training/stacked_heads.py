"""Heads of like shape, trained as one stack without autograd.

A stack's tensors lie in one matrix `(K, P)`, a row to each head, so that an optimizer's step is a few passes over
memory whatever K is. On a CPU each product is its own `torch.mm`, of equal shapes, strides and alignment (64 bytes) in
every row, because a batched or flattened product, or another alignment, rounds differently from one head's alone.
Everything else is elementwise in single IEEE operations or reduces each row in the same order: so a head's bits do not
depend on its companions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
from torch import Tensor, nn

from headstart.seeding import seed_for
from headstart.training.learners import Batch, Learner
from headstart.training.vector_optim import Rule, stacked_optimizer

_ALIGNMENT = 16
"""Floats to a cache line."""


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


class StackedHeads(Learner):
    """Heads of like shape, trained by AdamW or SGD, without autograd. Activations lie as `(K, units, B)`."""

    def __init__(
        self, heads: Sequence[nn.Module], rules: Sequence[Rule], clips: Sequence[float | None], device: torch.device
    ) -> None:
        stacked = [layers_of(head) or [] for head in heads]
        self.layers = stacked[0]
        self.widths = [(layer.num_outputs, layer.num_inputs) for layer in self.layers]
        self.num_decayed = sum(_padded(rows * columns) for rows, columns in self.widths)
        self.parameters = torch.zeros(len(heads), num_columns(self.layers), device=device)
        self.gradients = torch.zeros_like(self.parameters)
        self._view()
        for row, head in zip(self.parameters, heads, strict=True):
            state = head.state_dict()
            for tensor, (name, shape) in zip(self._tensors(row[None]), self._names(), strict=True):
                tensor.copy_(state[name].view(shape))
        self.dropouts = [
            torch.tensor([layers[depth].dropout for layers in stacked], device=device).view(-1, 1, 1)
            for depth in range(len(self.layers) - 1)
        ]
        self.has_dropout = [bool(dropout.any()) for dropout in self.dropouts]
        clipping = any(clip is not None for clip in clips)
        limits = [np.inf if clip is None else clip for clip in clips]
        self.clips = torch.tensor(limits, dtype=torch.float32, device=device)[:, None] if clipping else None
        self.optimizer = stacked_optimizer(rules, self.parameters, self.num_decayed)
        self.rng: list[tuple[slice, torch.Generator]] = []
        self.batch: Batch = []
        self.hidden: list[Tensor] = []
        self.masks: list[Tensor | None] = []

    def _names(self) -> list[tuple[str, tuple[int, int]]]:
        weights = [(f"{layer.prefix}weight", shape) for layer, shape in zip(self.layers, self.widths, strict=True)]
        return weights + [(f"{layer.prefix}bias", (layer.num_outputs, 1)) for layer in self.layers]

    def _tensors(self, flat: Tensor) -> list[Tensor]:
        """The weights `(K, outputs, inputs)`, then the biases `(K, outputs, 1)`, as views of a matrix `(K, P)`."""
        tensors, start = [], 0
        for rows, columns in [*self.widths, *((layer.num_outputs, 1) for layer in self.layers)]:
            tensors.append(flat[:, start : start + rows * columns].view(len(flat), rows, columns))
            start += _padded(rows * columns)
        return tensors

    def start_epoch(self, epoch: int, groups: Sequence[tuple[slice, int]]) -> None:
        self.rng = []
        for rows, seed in groups:
            generator = torch.Generator(self.parameters.device)
            self.rng.append((rows, generator.manual_seed(seed_for(seed, "dropout", epoch))))

    def forward(self, batch: Batch) -> Tensor:
        self.batch, self.hidden, self.masks = batch, [], []
        return self._scores(self.weights, self.biases, batch, training=True)

    def predict(self, rows: slice, features: Tensor) -> Tensor:
        weights, biases = self._halves(self.parameters[rows])
        return self._scores(weights, biases, [(slice(None), features)], training=False)

    def _scores(self, weights: list[Tensor], biases: list[Tensor], batch: Batch, training: bool) -> Tensor:
        num_heads, num_examples = len(weights[0]), len(batch[0][1])
        flow = self._workspace(num_heads, 0, num_examples)
        for rows, features in batch:
            _product(weights[0][rows], features.T, out=flow[rows])
        flow.add_(biases[0])
        for depth in range(1, len(self.layers)):
            hidden = flow.relu_()
            if training:
                self._drop(depth - 1, hidden)
            flow = self._workspace(num_heads, depth, num_examples)
            _product(weights[depth], hidden, out=flow)
            flow.add_(biases[depth])
        return flow

    def _drop(self, depth: int, hidden: Tensor) -> None:
        mask = self._mask(depth, hidden) if self.has_dropout[depth] else None
        if mask is not None:
            hidden.mul_(mask)
        self.hidden.append(hidden)
        self.masks.append(mask)

    def _mask(self, depth: int, hidden: Tensor) -> Tensor:
        """0 for a dropped unit, `1 / (1 - p)` for another; probes of one group share their generator."""
        mask = torch.empty_like(hidden)
        for rows, generator in self.rng:
            rng = torch.rand(hidden.shape[1:], generator=generator, device=hidden.device)
            mask[rows] = rng >= self.dropouts[depth][rows]
        return mask.div_(1 - self.dropouts[depth])

    def backward(self, gradient: Tensor, add: bool) -> None:
        num_heads, _, num_examples = gradient.shape
        target = torch.zeros_like(self.gradients) if add else self.gradients
        weight_gradients, bias_gradients = self._halves(target) if add else self.gradient_views
        flow = self._workspace(num_heads, -1, num_examples).copy_(gradient)
        for depth in reversed(range(len(self.layers))):
            torch.sum(flow, -1, keepdim=True, out=bias_gradients[depth])
            if depth == 0:
                for rows, features in self.batch:
                    _product(flow[rows], features, out=weight_gradients[0][rows])
                break
            hidden, mask = self.hidden[depth - 1], self.masks[depth - 1]
            _product(flow, hidden.transpose(1, 2), out=weight_gradients[depth])
            below = self._workspace(num_heads, depth - 1, num_examples)
            _product(self.weights[depth].transpose(1, 2), flow, out=below)
            flow = below.mul_(hidden > 0)
            if mask is not None:
                flow.mul_(mask)
        if add:
            self.gradients.add_(target)

    def coefficients(self, rates: np.ndarray, first_step: int) -> Tensor:
        return self.optimizer.coefficients(rates, first_step)

    def step(self, coefficients: Tensor) -> None:
        if self.clips is not None:
            norms = torch.stack([torch.linalg.vector_norm(row) for row in self.gradients]).unsqueeze(1)
            self.gradients.mul_((self.clips / (norms + 1e-6)).clamp_(max=1.0))
        self.optimizer.step(self.parameters, self.gradients, coefficients)

    def keep(self, members: Sequence[int]) -> None:
        rows = torch.tensor(members, device=self.parameters.device)
        self.parameters, self.gradients = self.parameters[rows], self.gradients[rows]
        self._view()
        self.dropouts = [dropout[rows] for dropout in self.dropouts]
        self.clips = None if self.clips is None else self.clips[rows]
        self.optimizer.keep(members)

    def state(self, member: int) -> dict[str, Tensor]:
        tensors = self._tensors(self.parameters[member : member + 1].cpu())
        named = zip(self._names(), tensors, strict=True)
        return {
            name: (tensor[0] if name.endswith("weight") else tensor[0, :, 0]).clone() for (name, _), tensor in named
        }

    def _view(self) -> None:
        self.weights, self.biases = self._halves(self.parameters)
        self.gradient_views = self._halves(self.gradients)

    def _halves(self, flat: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        tensors = self._tensors(flat)
        return tensors[: len(self.layers)], tensors[len(self.layers) :]

    def _workspace(self, num_heads: int, depth: int, num_examples: int) -> Tensor:
        """An empty `(K, units, B)` whose rows each start on a cache line."""
        size = self.layers[depth].num_outputs * num_examples
        flat = torch.empty(num_heads, _padded(size), device=self.parameters.device)
        return flat[:, :size].view(num_heads, -1, num_examples)


def num_columns(layers: Iterable[Layer]) -> int:
    """Width P of a stack's matrix."""
    return sum(_padded(layer.num_outputs * layer.num_inputs) + _padded(layer.num_outputs) for layer in layers)


def _padded(count: int) -> int:
    return -(-count // _ALIGNMENT) * _ALIGNMENT


def _product(left: Tensor, right: Tensor, out: Tensor) -> None:
    """`out[k] = left[k] @ right[k]`; a matrix stands for itself K times."""
    if out.is_cuda:
        _batched_product(left, right, out)
        return
    rows = (factor.unbind() if factor.dim() == 3 else repeat(factor) for factor in (left, right))
    for one, other, result in zip(*rows, out.unbind(), strict=False):
        torch.mm(one, other, out=result)


def _batched_product(left: Tensor, right: Tensor, out: Tensor) -> None:
    left, right = (factor.expand(len(out), *factor.shape[-2:]) for factor in (left, right))
    out.copy_(torch.bmm(left, right))
