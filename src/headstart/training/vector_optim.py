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
    """Updates parameters `(K, P)` in place; the first `num_decayed` columns are weights and decay, the rest don't."""

    def __init__(self, num_decayed: int) -> None:
        self.num_decayed = num_decayed

    @abstractmethod
    def coefficients(self, rates: np.ndarray, first_step: int) -> Tensor:
        """What each step multiplies and adds `(S, M, K, 1)`, from learning rates `(S, K)`; steps count from 0."""

    @abstractmethod
    def step(self, parameters: Tensor, gradients: Tensor, coefficients: Tensor) -> None:
        """One update of parameters `(K, P)` with one step's coefficients `(M, K, 1)`; may overwrite the gradients."""

    @abstractmethod
    def keep(self, members: Sequence[int]) -> None:
        """Go on with these rows of the stack alone."""


class StackedAdamW(StackedOptimizer):
    """AdamW with unnormalised moments, which saves passes: `m ← β₁ m + g`, `v ← β₂ v + g²`.

    With `c = √((1 - β₂) / (1 - β₂ᵗ))` the update `lr · m̂ / (√v̂ + ε)` is
    `lr · (1 - β₁) / (1 - β₁ᵗ) / c · m / (√v + ε / c)`.
    """

    def __init__(self, rules: Sequence[AdamW], parameters: Tensor, num_decayed: int) -> None:
        super().__init__(num_decayed)
        self.rules = list(rules)
        betas = torch.tensor([rule.betas for rule in rules], dtype=parameters.dtype, device=parameters.device)
        self.beta1, self.beta2 = betas[:, :1].contiguous(), betas[:, 1:].contiguous()
        self.mean = torch.zeros_like(parameters)
        self.square = torch.zeros_like(parameters)
        self.scratch = torch.zeros_like(parameters)

    def coefficients(self, rates: np.ndarray, first_step: int) -> Tensor:
        column = {name: np.array([getattr(rule, name) for rule in self.rules]) for name in ("weight_decay", "eps")}
        beta1, beta2 = np.array([rule.betas for rule in self.rules]).T
        step = np.arange(first_step + 1, first_step + 1 + len(rates))[:, None]
        c = np.sqrt((1 - beta2) / (1 - beta2**step))
        shrink = 1 - rates * column["weight_decay"]
        scale = rates * (1 - beta1) / (1 - beta1**step) / c
        return _table(self.mean, shrink, column["eps"] / c, scale)

    def step(self, parameters: Tensor, gradients: Tensor, coefficients: Tensor) -> None:
        shrink, offset, scale = coefficients.unbind()
        self.mean.mul_(self.beta1).add_(gradients)
        torch.mul(gradients, gradients, out=self.scratch)
        self.square.mul_(self.beta2).add_(self.scratch)
        torch.sqrt(self.square, out=self.scratch).add_(offset)
        torch.div(self.mean, self.scratch, out=self.scratch).mul_(scale)
        parameters[:, : self.num_decayed].mul_(shrink)
        parameters.sub_(self.scratch)

    def keep(self, members: Sequence[int]) -> None:
        self.rules = [self.rules[member] for member in members]
        rows = torch.tensor(members, device=self.mean.device)
        self.beta1, self.beta2 = self.beta1[rows], self.beta2[rows]
        self.mean, self.square, self.scratch = self.mean[rows], self.square[rows], self.scratch[rows]


class StackedSGD(StackedOptimizer):
    """SGD with weight decay added to the gradient; the first gradient fills the momentum undamped, as in torch."""

    def __init__(self, rules: Sequence[SGD], parameters: Tensor, num_decayed: int) -> None:
        super().__init__(num_decayed)
        self.rules = list(rules)
        _, self.has_momentum, self.nesterov = rules[0].fusion_key
        self.momentum: Tensor | None = None
        self._columns(parameters)

    def _columns(self, like: Tensor) -> None:
        values = [[rule.weight_decay, rule.momentum, 1 - rule.dampening] for rule in self.rules]
        columns = torch.tensor(values, dtype=like.dtype, device=like.device)
        self.decay, self.damping, self.intake = columns.T.contiguous().unsqueeze(-1).unbind()

    def coefficients(self, rates: np.ndarray, first_step: int) -> Tensor:
        return _table(self.decay, rates)

    def step(self, parameters: Tensor, gradients: Tensor, coefficients: Tensor) -> None:
        weights = slice(0, self.num_decayed)
        gradients[:, weights].add_(parameters[:, weights] * self.decay)
        if self.has_momentum:
            if self.momentum is None:
                self.momentum = gradients.clone()
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


def stacked_optimizer(rules: Sequence[Rule], parameters: Tensor, num_decayed: int) -> StackedOptimizer:
    """The optimizer for rules that share a fusion key."""
    adamw = [rule for rule in rules if isinstance(rule, AdamW)]
    sgd = [rule for rule in rules if isinstance(rule, SGD)]
    assert len(rules) in (len(adamw), len(sgd))
    return StackedAdamW(adamw, parameters, num_decayed) if adamw else StackedSGD(sgd, parameters, num_decayed)


def _table(like: Tensor, *columns: np.ndarray) -> Tensor:
    table = torch.from_numpy(np.stack(np.broadcast_arrays(*columns), axis=1))
    return table.to(dtype=like.dtype, device=like.device).unsqueeze(-1)
