"""What the probes' training loop drives: heads that train together; here one head of any kind, by autograd."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstart.seeding import seed_for
from headstart.training.vector_optim import Rule, torch_optimizer

Batch = Sequence[tuple[slice, Tensor]]
"""Features `(B, D)` with the rows of the stack that read them."""


class Learner(ABC):
    """K heads that train together."""

    @property
    def is_static(self) -> bool:
        """Whether steps are the same operations on the same memory each time, so that a GPU can play them again."""
        return False

    @abstractmethod
    def start_epoch(self, epoch: int, groups: Sequence[tuple[slice, int]]) -> None:
        """Seed the dropout rng from each group's rows and seed."""

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Scores `(K, C, B)` for training: with dropout, and what `backward` needs is kept."""

    @abstractmethod
    def predict(self, rows: slice, features: Tensor) -> Tensor:
        """Scores `(k, C, N)` of some of the heads, for evaluation."""

    @abstractmethod
    def backward(self, gradient: Tensor, add: bool) -> None:
        """From the scores' gradient `(K, C, B)` to the parameters'; `add` to those there, or replace them."""

    @abstractmethod
    def coefficients(self, rates: np.ndarray, first_step: int) -> Sequence[Any]:
        """What `step` needs for each step, from learning rates `(S, K)`."""

    @abstractmethod
    def step(self, coefficients: Any) -> None:
        """Clip the gradients and update the parameters."""

    @abstractmethod
    def keep(self, members: Sequence[int]) -> None:
        """Go on with these heads alone."""

    @abstractmethod
    def remember(self, members: Sequence[int]) -> None:
        """Take note of these heads as they are now, in place of what was noted of them."""

    @abstractmethod
    def remembered(self, member: int) -> dict[str, Tensor]:
        """The state dict of one head, on the CPU, as it was when it was last noted."""


class ModuleHead(Learner):
    """One head of any kind with any torch optimizer, by autograd. Weights decay; biases and norms don't."""

    def __init__(self, head: nn.Module, rule: Rule, clip: float | None, device: torch.device) -> None:
        self.head = deepcopy(head).to(device)
        self.clip = clip
        decayed = [parameter for parameter in self.head.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in self.head.parameters() if parameter.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": rule.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch_optimizer(rule, [group for group in groups if group["params"]])

    def start_epoch(self, epoch: int, groups: Sequence[tuple[slice, int]]) -> None:
        """The loop holds torch's generator for the epoch, so it may be seeded here."""
        torch.manual_seed(seed_for(groups[0][1], "dropout", epoch))

    def forward(self, batch: Batch) -> Tensor:
        self.head.train()
        with torch.enable_grad():
            self.scores = self.head(batch[0][1])
        return self.scores.detach().T.unsqueeze(0)

    def predict(self, rows: slice, features: Tensor) -> Tensor:
        self.head.eval()
        return self.head(features).T.unsqueeze(0)

    def backward(self, gradient: Tensor, add: bool) -> None:
        if not add:
            self.optimizer.zero_grad(set_to_none=True)
        self.scores.backward(gradient[0].T)

    def coefficients(self, rates: np.ndarray, first_step: int) -> Sequence[Any]:
        return rates[:, 0].tolist()

    def step(self, coefficients: Any) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = coefficients
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.head.parameters(), self.clip)
        with torch.enable_grad():
            self.optimizer.step()

    def keep(self, members: Sequence[int]) -> None:
        assert list(members) == [0]

    def remember(self, members: Sequence[int]) -> None:
        self.noted = {name: tensor.detach().cpu().clone() for name, tensor in self.head.state_dict().items()}

    def remembered(self, member: int) -> dict[str, Tensor]:
        return self.noted
