"""What a probe is, what it is trained on, and what comes of it: plain data."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from headstart.strategies.plan import Plan
from headstart.tasks.task import Task
from headstart.training.vector_optim import Rule

Row = dict[str, float]
"""One epoch's line of history."""


@dataclass(frozen=True)
class Patience:
    """Stop after `patience` epochs in which the probe's `monitor` did not improve by more than `min_delta`."""

    patience: int
    min_delta: float = 0.0


@dataclass(frozen=True, eq=False)
class Probe:
    """A head to train, and how. `train` and `val` are indices of examples; the head given is not touched."""

    head: nn.Module
    task: Task
    """Fitted to its training examples."""
    rule: Rule
    train: np.ndarray
    val: np.ndarray
    seed: int
    batch_size: int
    max_epochs: int
    max_steps: int | None = None
    lengths: np.ndarray | None = None
    """Length of each training example, where batches are made of like lengths."""
    schedule: Callable[[int, int], float] = lambda step, total_steps: 1.0
    """Factor on the rate at a step (from 0), given the number of steps in all."""
    plan: Plan | None = None
    """Phases in which the head's rate differs; `None`: one rate, from the start to the end."""
    monitor: str | None = None
    """What the best epoch is chosen by, and what early stopping watches; `None` for what the task says."""
    early_stopping: Patience | None = None
    gradient_clip_val: float | None = None
    accumulate_grad_batches: int = 1
    num_processes: int = 1
    """Among which other strategies share each batch: a rest that is too small for them joins the batch before it."""

    @property
    def batches_key(self) -> Hashable:
        """Probes of equal key read the same batches and are evaluated on the same examples."""
        return self.seed, self.train.tobytes(), self.val.tobytes()


@dataclass(frozen=True)
class Divergence:
    """Where a loss stopped being finite: the epoch and the optimizer step, both counted from 0 (steps over the run).

    `on_val`: it was val's, after that step.
    """

    epoch: int
    step: int
    on_val: bool = False


@dataclass
class ProbeOutcome:
    """What came of a probe."""

    history: list[Row] = field(default_factory=list)
    best_epoch: int | None = None
    """The best epoch by the probe's `monitor`, the earliest of equals; `None` if the first already diverged."""
    best_state: dict[str, Tensor] | None = None
    """The head's state dict after that epoch, on the CPU."""
    num_steps: int = 0
    """Optimizer steps taken."""
    divergence: Divergence | None = None
    seconds: float = 0.0
    """Its share of the time; the shares of probes trained together add up to the time they took."""
    num_together: int = 1
    """Probes that shared that time."""
    l2: float | None = None
    """Strength of the penalty of a head that was solved for."""


@dataclass(frozen=True)
class ProbeData:
    """Features and targets of all examples, on the device."""

    features: Tensor
    """`(N, D)` float32: what is evaluated, and trained on if there are no views."""
    views: Sequence[Tensor]
    """Augmented features `(N, D)`; epoch `e` trains on number `e % V`."""
    targets: Tensor
    """`(N,)` int64 or `(N, O)` float32."""
    num_outputs: int


Report = Callable[[int, Row], None]
"""Is called with a probe's position and its row as each epoch ends."""
