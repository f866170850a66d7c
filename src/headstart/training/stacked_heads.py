"""Heads of like shape, trained as one stack without autograd.

Their tensors lie as `HeadTensors`, a row to each head, so that an optimizer's step is a few passes over memory whatever
their number. On a CPU a head's bits do not depend on its companions: heads that read the same examples share the
product of their first layers as far as that rounds as each head's own (`products`), every other product is of one head
alone, of equal shapes, strides and alignment; the rest is elementwise in single IEEE operations, or reduces each row in
the same order.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstart.seeding import seed_for
from headstart.training import products
from headstart.training.head_tensors import HeadTensors, layers_of
from headstart.training.learners import Batch, Learner
from headstart.training.products import LINE, padded
from headstart.training.vector_optim import Rule, stacked_optimizer


class StackedHeads(Learner):
    """Heads of like shape, trained by AdamW or SGD, without autograd. Activations lie as `(K, units, B)`."""

    def __init__(
        self, heads: Sequence[nn.Module], rules: Sequence[Rule], clips: Sequence[float | None], device: torch.device
    ) -> None:
        stacked = [layers_of(head) or [] for head in heads]
        self.layers = stacked[0]
        self.parameters = HeadTensors(self.layers, len(heads), device)
        self.gradients = HeadTensors(self.layers, len(heads), device)
        for row, head in enumerate(heads):
            state = head.state_dict()
            for name, tensor in self.parameters.named():
                tensor[row].copy_(state[name])
        self.dropouts = [
            torch.tensor([layers[depth].dropout for layers in stacked], device=device).view(-1, 1, 1)
            for depth in range(len(self.layers) - 1)
        ]
        self.has_dropout = [bool(dropout.any()) for dropout in self.dropouts]
        clipping = any(clip is not None for clip in clips)
        limits = [np.inf if clip is None else clip for clip in clips]
        self.clips = torch.tensor(limits, dtype=torch.float32, device=device)[:, None] if clipping else None
        matrices = list(zip(self.parameters.matrices, self.gradients.matrices, strict=True))
        self.optimizers = [stacked_optimizer(rules, *each, each is not matrices[-1]) for each in matrices]
        self.rng: list[tuple[slice, torch.Generator]] = []
        self.batch: Batch = []
        self.hidden: list[Tensor] = []
        self.masks: list[Tensor | None] = []
        self.noted: HeadTensors | None = None

    @property
    def is_static(self) -> bool:
        return not any(self.has_dropout) and all(optimizer.is_static for optimizer in self.optimizers)

    def start_epoch(self, epoch: int, groups: Sequence[tuple[slice, int]]) -> None:
        self.rng = []
        for rows, seed in groups:
            generator = torch.Generator(self.parameters.outputs.device)
            self.rng.append((rows, generator.manual_seed(seed_for(seed, "dropout", epoch))))

    def forward(self, batch: Batch) -> Tensor:
        self.batch, self.hidden, self.masks = batch, [], []
        return self._scores(slice(0, len(self.parameters.weights[0])), batch, training=True)

    def predict(self, rows: slice, features: Tensor) -> Tensor:
        return self._scores(rows, [(slice(0, rows.stop - rows.start), features)], training=False)

    def _scores(self, heads: slice, batch: Batch, training: bool) -> Tensor:
        """Of the stack's rows `heads`; those of `batch` are counted from the first of these."""
        num_heads, num_examples = heads.stop - heads.start, len(batch[0][1])
        weights = [weight[heads] for weight in self.parameters.weights]
        biases = [bias[heads] for bias in self.parameters.biases]
        outputs = self.parameters.outputs[heads.start * self.layers[0].num_outputs :]
        whole, flow = self._workspace(num_heads, 0, num_examples)
        for rows, features in batch:
            self._multiply((outputs, weights[0]), features.T, (whole, flow), rows, num_examples)
        flow.add_(biases[0])
        for depth in range(1, len(self.layers)):
            hidden = flow.relu_()
            if training:
                self._drop(depth - 1, hidden)
            _, flow = self._workspace(num_heads, depth, num_examples)
            products.each_product(weights[depth], hidden, out=flow)
            flow.add_(biases[depth])
        return flow

    def _multiply(
        self,
        left: tuple[Tensor, Tensor],
        right: Tensor,
        out: tuple[Tensor, Tensor],
        rows: slice,
        num_examples: int,
    ) -> None:
        """The first layer's product for heads that read the same; `left` and `out` as one matrix, and head by head."""
        size = self.layers[0].num_outputs
        shared = 1 if right.is_cuda else products.shared_heads(num_examples, self.layers[0].num_inputs, size)
        if shared == 1:
            products.each_product(left[1][rows], right, out=out[1][rows])
            return
        for start in range(rows.start, rows.stop, shared):
            stop = min(start + shared, rows.stop)
            products.shared_product(left[0], right, out[0], slice(start * size, stop * size))

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
        target = HeadTensors(self.layers, num_heads, gradient.device) if add else self.gradients
        whole, flow = self._workspace(num_heads, -1, num_examples)
        flow.copy_(gradient)
        for depth in reversed(range(len(self.layers))):
            torch.sum(flow, -1, keepdim=True, out=target.biases[depth])
            if depth == 0:
                for rows, features in self.batch:
                    self._multiply((whole, flow), features, (target.outputs, target.weights[0]), rows, num_examples)
                break
            hidden, mask = self.hidden[depth - 1], self.masks[depth - 1]
            products.each_product(flow, hidden.transpose(1, 2), out=target.weights[depth])
            below, lower = self._workspace(num_heads, depth - 1, num_examples)
            products.each_product(self.parameters.weights[depth].transpose(1, 2), flow, out=lower)
            whole, flow = below, lower.mul_(hidden > 0)
            if mask is not None:
                flow.mul_(mask)
        if add:
            for mine, more in zip(self.gradients.matrices, target.matrices, strict=True):
                mine.add_(more)

    def coefficients(self, rates: np.ndarray, first_step: int) -> Sequence[Any]:
        each = [optimizer.coefficients(rates, first_step) for optimizer in self.optimizers]
        return list(zip(*each, strict=True))

    def step(self, coefficients: Any) -> None:
        if self.clips is not None:
            self._clip(self.clips)
        for optimizer, own in zip(self.optimizers, coefficients, strict=True):
            optimizer.step(own)

    def _clip(self, limits: Tensor) -> None:
        """Each head's gradient to its norm, of squares that are added one by one: no head's depends on the others."""
        squares = [_norms(matrix).square_().unsqueeze(1) for matrix in self.gradients.matrices]
        norms = sum(squares[1:], squares[0]).sqrt_()
        factors = (limits / (norms + 1e-6)).clamp_(max=1.0)
        for matrix in self.gradients.matrices:
            matrix.mul_(factors)

    def keep(self, members: Sequence[int]) -> None:
        self.parameters, self.gradients = self.parameters.of(members), self.gradients.of(members)
        self.noted = None if self.noted is None else self.noted.of(members)
        rows = torch.tensor(members, device=self.parameters.outputs.device)
        self.dropouts = [dropout[rows] for dropout in self.dropouts]
        self.clips = None if self.clips is None else self.clips[rows]
        matrices = zip(self.optimizers, self.parameters.matrices, self.gradients.matrices, strict=True)
        for optimizer, parameters, gradients in matrices:
            optimizer.keep(members)
            optimizer.begin(parameters, gradients)

    def remember(self, members: Sequence[int]) -> None:
        rows = torch.tensor(members, device=self.parameters.outputs.device)
        if self.noted is None:
            self.noted = HeadTensors(self.layers, len(self.parameters.matrices[0]), rows.device)
        for mine, noted in zip(self.parameters.matrices, self.noted.matrices, strict=True):
            noted.index_copy_(0, rows, mine if len(rows) == len(mine) else mine.index_select(0, rows))

    def remembered(self, member: int) -> dict[str, Tensor]:
        assert self.noted is not None
        return {name: tensor[member].cpu().clone() for name, tensor in self.noted.named()}

    def _workspace(self, num_heads: int, depth: int, num_examples: int) -> tuple[Tensor, Tensor]:
        """A matrix `(K · units + 16, B)` to write, whose rows each begin at a cache line; and as `(K, units, B)`."""
        num_rows = num_heads * self.layers[depth].num_outputs
        device = self.parameters.outputs.device
        whole = torch.empty(num_rows + LINE, padded(num_examples), device=device)[:, :num_examples]
        return whole, whole[:num_rows].view(num_heads, -1, num_examples)


def _norms(matrix: Tensor) -> Tensor:
    """Of each row."""
    if matrix.is_cuda:
        return torch.linalg.vector_norm(matrix, dim=1)
    return torch.stack([torch.linalg.vector_norm(row) for row in matrix])
