"""AdamW and SGD over a stack of probes: a row of parameters each, with a rate and a decay of its own.

Every update is made of single IEEE operations (multiply, add, subtract, divide, square root), never of fused ones such
as `addcmul`: these round differently in a vector's body and in its tail, so that a probe's bits would depend on where
it lies in the stack.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class AdamW:
    """Loshchilov and Hutter, Decoupled Weight Decay Regularization (2019); as `torch.optim.AdamW`."""

    lr: float
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    @property
    def fusion_key(self) -> tuple[Any, ...]:
        return (AdamW,)


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum; as `torch.optim.SGD`."""

    lr: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    @property
    def fusion_key(self) -> tuple[Any, ...]:
        return (SGD, self.momentum != 0, self.nesterov)


@dataclass(frozen=True)
class Torch:
    """Any optimizer of torch, for one probe alone; `build` takes its parameter groups."""

    lr: float
    weight_decay: float
    build: Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


Rule = AdamW | SGD | Torch


def rule(kind: Callable[..., torch.optim.Optimizer], lr: float, weight_decay: float, **options: Any) -> Rule:
    """The rule for a torch optimizer: one that stacks if its options allow it, else the optimizer itself."""
    defaults = inspect.signature(kind).parameters
    options = {name: value for name, value in options.items() if value != defaults[name].default}
    if kind is torch.optim.AdamW and options.keys() <= {"betas", "eps"}:
        if "betas" in options:
            options["betas"] = tuple(options["betas"])
        return AdamW(lr, weight_decay, **options)
    if kind is torch.optim.SGD and options.keys() <= {"momentum", "dampening", "nesterov"}:
        return SGD(lr, weight_decay, **options)
    return Torch(lr, weight_decay, lambda groups: kind(groups, lr=lr, **options))


def torch_optimizer(rule: Rule, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Torch's own optimizer for a rule, over groups that each say their weight decay."""
    if isinstance(rule, Torch):
        return rule.build(groups)
    kind = torch.optim.AdamW if isinstance(rule, AdamW) else torch.optim.SGD
    return kind(groups, **asdict(rule))


class StackedOptimizer(ABC):
    """Updates parameters `(K, P)` in place; all of them decay, or none."""

    is_static = True
    """Whether steps are always the same operations on the same memory, from now on."""

    @abstractmethod
    def begin(self, parameters: Tensor, gradients: Tensor) -> None:
        """Say where parameters and gradients lie from now on; steps may overwrite the gradients."""

    @abstractmethod
    def coefficients(self, rates: np.ndarray, first_step: int) -> Sequence[Any]:
        """What each step takes, from learning rates `(S, K)`; steps count from 0."""

    @abstractmethod
    def step(self, coefficients: Any) -> None:
        """One update with one step's coefficients."""

    @abstractmethod
    def keep(self, members: Sequence[int]) -> None:
        """Go on with these rows of the stack alone; `begin` says anew where they lie."""


FEW = 1024
"""Columns below which operations on all rows at once take less time than a call for each row."""


KERNELS = all(hasattr(torch, name) for name in ("_fused_adamw_", "_fused_sgd_"))
"""Whether torch has the kernels of its optimizers' `fused=True` under the names that they have now."""


class Rowwise(StackedOptimizer):
    """By torch's own kernels, on a CPU: one pass over memory for each row, where single operations take several.

    A row's bits do not depend on the others, for each call has a row alone, of equal length.
    """

    def __init__(self, rules: Sequence[Any], decays: bool, num_moments: int) -> None:
        self.rules, self.decays, self.num_moments = list(rules), decays, num_moments
        self.rows: list[list[list[Tensor]]] = []
        """Of each row its parameters, gradients and moments, as lists of one tensor."""
        self.moments: list[Tensor] = []

    def begin(self, parameters: Tensor, gradients: Tensor) -> None:
        if not self.moments:
            self.moments = [torch.zeros_like(parameters) for _ in range(self.num_moments)]
        matrices = (parameters, gradients, *self.moments)
        self.rows = [[[row] for row in rows] for rows in zip(*(matrix.unbind() for matrix in matrices), strict=True)]

    def keep(self, members: Sequence[int]) -> None:
        self.rules = [self.rules[member] for member in members]
        self.moments = [moment[torch.tensor(members)] for moment in self.moments]


class RowwiseAdamW(Rowwise):
    """As `torch.optim.AdamW`, for each row its own."""

    def coefficients(self, rates: np.ndarray, first_step: int) -> Sequence[Any]:
        counts = torch.arange(first_step + 1, first_step + 1 + len(rates), dtype=torch.float32).unbind()
        return [(([count]), row) for count, row in zip(counts, rates.tolist(), strict=True)]

    def step(self, coefficients: Any) -> None:
        count, rates = coefficients
        for rule, rate, (parameter, gradient, mean, square) in zip(self.rules, rates, self.rows, strict=True):
            torch._fused_adamw_(
                parameter, gradient, mean, square, [], count, lr=rate, beta1=rule.betas[0], beta2=rule.betas[1],
                weight_decay=rule.weight_decay if self.decays else 0.0, eps=rule.eps, amsgrad=False, maximize=False,
            )  # fmt: skip


class RowwiseSGD(Rowwise):
    """As `torch.optim.SGD`, for each row its own."""

    is_first = True

    def coefficients(self, rates: np.ndarray, first_step: int) -> Sequence[Any]:
        return list(rates.tolist())

    def step(self, coefficients: Any) -> None:
        for rule, rate, (parameter, gradient, *momentum) in zip(self.rules, coefficients, self.rows, strict=True):
            torch._fused_sgd_(
                parameter, gradient, *(momentum or [[]]), weight_decay=rule.weight_decay if self.decays else 0.0,
                momentum=rule.momentum, lr=rate, dampening=rule.dampening, nesterov=rule.nesterov, maximize=False,
                is_first_step=self.is_first,
            )  # fmt: skip
        self.is_first = False


class StackedAdamW(StackedOptimizer):
    """AdamW with unnormalised moments, which saves passes: `m ← β₁ m + g`, `v ← β₂ v + g²`.

    With `c = √((1 - β₂) / (1 - β₂ᵗ))` the update `lr · m̂ / (√v̂ + ε)` is
    `lr · (1 - β₁) / (1 - β₁ᵗ) / c · m / (√v + ε / c)`.
    """

    def __init__(self, rules: Sequence[AdamW], decays: bool, parameters: Tensor) -> None:
        self.rules, self.decays = list(rules), decays
        betas = torch.tensor([rule.betas for rule in rules], dtype=parameters.dtype, device=parameters.device)
        self.beta1, self.beta2 = betas[:, :1].contiguous(), betas[:, 1:].contiguous()
        self.mean = torch.zeros_like(parameters)
        self.square = torch.zeros_like(parameters)
        self.scratch = torch.zeros_like(parameters)

    def begin(self, parameters: Tensor, gradients: Tensor) -> None:
        self.parameters, self.gradients = parameters, gradients

    def coefficients(self, rates: np.ndarray, first_step: int) -> Sequence[Any]:
        column = {name: np.array([getattr(rule, name) for rule in self.rules]) for name in ("weight_decay", "eps")}
        beta1, beta2 = np.array([rule.betas for rule in self.rules]).T
        step = np.arange(first_step + 1, first_step + 1 + len(rates))[:, None]
        c = np.sqrt((1 - beta2) / (1 - beta2**step))
        shrink = 1 - rates * column["weight_decay"]
        scale = rates * (1 - beta1) / (1 - beta1**step) / c
        return _table(self.mean, shrink, column["eps"] / c, scale)

    def step(self, coefficients: Any) -> None:
        parameters, gradients, (shrink, offset, scale) = self.parameters, self.gradients, coefficients
        self.mean.mul_(self.beta1).add_(gradients)
        torch.mul(gradients, gradients, out=self.scratch)
        self.square.mul_(self.beta2).add_(self.scratch)
        torch.sqrt(self.square, out=self.scratch).add_(offset)
        torch.div(self.mean, self.scratch, out=self.scratch).mul_(scale)
        if self.decays:
            parameters.mul_(shrink)
        parameters.sub_(self.scratch)

    def keep(self, members: Sequence[int]) -> None:
        self.rules = [self.rules[member] for member in members]
        rows = torch.tensor(members, device=self.mean.device)
        self.beta1, self.beta2 = self.beta1[rows], self.beta2[rows]
        self.mean, self.square, self.scratch = self.mean[rows], self.square[rows], self.scratch[rows]


class StackedSGD(StackedOptimizer):
    """SGD with weight decay added to the gradient; the first gradient fills the momentum undamped, as in torch."""

    def __init__(self, rules: Sequence[SGD], decays: bool, parameters: Tensor) -> None:
        self.rules, self.decays = list(rules), decays
        _, self.has_momentum, self.nesterov = rules[0].fusion_key
        self.momentum: Tensor | None = None
        self.is_static = not self.has_momentum
        self._columns(parameters)

    def begin(self, parameters: Tensor, gradients: Tensor) -> None:
        self.parameters, self.gradients = parameters, gradients

    def _columns(self, like: Tensor) -> None:
        values = [[rule.weight_decay, rule.momentum, 1 - rule.dampening] for rule in self.rules]
        columns = torch.tensor(values, dtype=like.dtype, device=like.device)
        self.decay, self.damping, self.intake = columns.T.contiguous().unsqueeze(-1).unbind()

    def coefficients(self, rates: np.ndarray, first_step: int) -> Sequence[Any]:
        return _table(self.decay, rates)

    def step(self, coefficients: Any) -> None:
        parameters, gradients = self.parameters, self.gradients
        if self.decays:
            gradients.add_(parameters * self.decay)
        if self.has_momentum:
            if self.momentum is None:
                self.momentum, self.is_static = gradients.clone(), True
            else:
                self.momentum.mul_(self.damping).add_(gradients * self.intake)
            if self.nesterov:
                gradients.add_(self.momentum * self.damping)
            else:
                gradients.copy_(self.momentum)
        parameters.sub_(gradients.mul_(coefficients[0]))

    def keep(self, members: Sequence[int]) -> None:
        self.rules = [self.rules[member] for member in members]
        if self.momentum is not None:
            self.momentum = self.momentum[torch.tensor(members, device=self.momentum.device)]
        self._columns(self.decay)


def stacked_optimizer(rules: Sequence[Rule], parameters: Tensor, gradients: Tensor, decays: bool) -> StackedOptimizer:
    """The optimizer for rules that share a fusion key, of parameters `(K, P)`, all of which decay or none."""
    adamw = [rule for rule in rules if isinstance(rule, AdamW)]
    sgd = [rule for rule in rules if isinstance(rule, SGD)]
    assert len(rules) in (len(adamw), len(sgd))
    found: StackedOptimizer
    if KERNELS and parameters.device.type == "cpu" and parameters.shape[1] >= FEW:
        found = RowwiseAdamW(adamw, decays, 2) if adamw else RowwiseSGD(sgd, decays, int(sgd[0].momentum != 0))
    else:
        found = StackedAdamW(adamw, decays, parameters) if adamw else StackedSGD(sgd, decays, parameters)
    found.begin(parameters, gradients)
    return found


def _table(like: Tensor, *columns: np.ndarray) -> list[tuple[Tensor, ...]]:
    """For each step the columns as `(K, 1)`."""
    table = torch.from_numpy(np.stack(np.broadcast_arrays(*columns), axis=1))
    steps = table.to(dtype=like.dtype, device=like.device).unsqueeze(-1)
    return [step.unbind() for step in steps]
