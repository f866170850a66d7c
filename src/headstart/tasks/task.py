"""What is to be predicted: how labels are read, what a head gives for them, its loss, its metrics, and their words."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.errors import InputError, unknown
from headstart.names import agreeing

Cell = Any
"""What stands as one example's label: a text, a number, several texts, or pairs of a column and what it holds."""
Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""The penalised loss per example and its gradient, as a function of `[W, b]` laid out `(O, D + 1)`."""


@dataclass(frozen=True)
class Targets:
    """Labels as they are trained on."""

    values: np.ndarray
    """`(N,)` int64 for one class each; `(N, C)` float32 of 0 and 1 for several; `(N, T)` float32 for numbers."""
    names: tuple[str, ...]
    """Of the head's outputs: classes, or numbers."""

    @cached_property
    def sha256(self) -> str:
        """Over all of it."""
        return hashlib.sha256(repr(self.names).encode() + self.values.tobytes()).hexdigest()


class Task(ABC):
    """A kind of prediction. Instances hold settings, and what `fitted` has read off the training labels.

    Args:
        monitor: The metric that `trainer.monitor` names if nothing else is said.
    """

    name: ClassVar[str]
    output: ClassVar[str]
    outputs: ClassVar[str]
    """What a head's outputs are, one and several, for the record: `classes`, `targets`."""
    score: ClassVar[str]
    """The metric that runs are compared by, unless they select their epoch by another."""
    rated: ClassVar[str]
    """The metric that features are rated by before anything is trained: one that is in no unit, more being better."""
    running: ClassVar[str]
    """The metric that is a mean over examples, measured in training as the batches go by."""
    of_epoch: ClassVar[tuple[str, ...]]
    """Metrics that are measured on val in every epoch beside `loss` and the running one."""
    strata_are_classes: ClassVar[bool] = False
    """Whether what splits keep the shares of has to be in the training part, each of it."""
    strata_are: ClassVar[str] = "classes"
    """What splits keep the shares of, in words."""
    without_stratum: ClassVar[str] = "Averages over classes leave them out there."
    """What follows where a part has no example of one."""
    link: ClassVar[Literal["softmax", "sigmoid", "identity"]] = "identity"
    """What makes of a head's outputs what is said: probabilities, or the (standardised) numbers themselves."""
    metrics: ClassVar[tuple[str, ...]]
    """All metrics that `scores` gives, each of which may select the epoch."""

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor

    def check_monitor(self, monitor: str, setting: str) -> None:
        """Raise `InputError` if an epoch cannot be selected by `monitor`."""
        choices = [f"val/{name}" for name in self.metrics]
        if monitor not in choices:
            raise unknown(f"{setting} for task={self.name}:", monitor, choices)

    def history(self, monitors: Sequence[str]) -> tuple[str, ...]:
        """What is measured in every epoch, `monitors` among it, in the order of the history's columns."""
        always = ("train/loss", f"train/{self.running}", "val/loss", f"val/{self.running}")
        return tuple(dict.fromkeys([*always, *(f"val/{name}" for name in self.of_epoch), *monitors]))

    @abstractmethod
    def encode(self, cells: Sequence[Cell], where: str, known: tuple[str, ...] | None = None) -> Targets:
        """Labels of all examples; `known` are the names that there must be, where other data were read before.

        Raises:
            InputError: if a cell is no label of this task, naming the task that it may be one of; `where` names the
                data.
        """

    @abstractmethod
    def strata(self, targets: Targets) -> tuple[np.ndarray, tuple[str, ...]]:
        """What splits keep the shares of: a class for each example `(N,)` or 0/1 `(N, C)`, and their names."""

    def fitted(self, train: np.ndarray, num_outputs: int) -> "Task":
        """This task, with what it takes from the targets of the training part: weights of classes, mean and spread."""
        return copy(self)

    def restored(self, details: Mapping[str, Any]) -> "Task":
        """This task with what it says of outputs, from a finished run's `details` alone; weights of losses stay out.

        Raises:
            KeyError, TypeError, ValueError: if it is not told there.
        """
        return copy(self)

    def remarks(self, everything: Targets, parts: Mapping[str, np.ndarray]) -> list[str]:
        """What is to be said of the targets by part (`train`, `val`, `test`, a shift's name), in words.

        Here: the strata of which a part has no example.
        """
        strata, names = self.strata(everything)
        counts = _examples_of(strata, len(names))
        said = []
        for part, values in parts.items():
            here = _examples_of(self.strata_in(values, everything), len(names))
            absent = [f"{names[place]!r} ({counts[place]})" for place in np.flatnonzero((here == 0) & (counts > 0))]
            if absent:
                follows = "Nothing is learned of them." if part == "train" else self.without_stratum
                said.append(
                    f"{len(absent)} of {len(names)} {self.strata_are} {agreeing(len(absent), 'have')} no example in "
                    f"{part}: {shown(absent, 5)}, with how many there are in all. {follows}"
                )
        return said

    def strata_in(self, values: np.ndarray, everything: Targets) -> np.ndarray:
        """Strata of the targets `values` of a part, numbered as those of all the data."""
        return self.strata(Targets(values, everything.names))[0]

    def check_exact(self) -> None:  # noqa: B027
        """Raise `InputError` if there is no exact solution with these settings."""

    def exact(self) -> "Task":
        """This task with the loss nearest to its own that has an exact solution."""
        return copy(self)

    @abstractmethod
    def outputs_of(self, said: Tensor) -> Tensor:
        """Outputs `(N, O)`, float64, that say these shares of classes or labels, or these numbers (see `shares`)."""

    def in_terms_of(self, other: "Task", outputs: Tensor) -> Tensor:
        """What `outputs` say, as outputs of this task when it is fitted to other examples."""
        return outputs

    @abstractmethod
    def doubted(self, near: Tensor, labels: Tensor) -> Tensor:
        """Which labels `(N,)` their neighbours speak against, whose `shares` `(N, K, O)` are `near`."""

    @property
    def kind(self) -> tuple[Any, ...]:
        """Tasks of equal kind can be trained as one stack."""
        return (type(self),)

    @abstractmethod
    def shares(self, labels: Tensor, num_outputs: int) -> Tensor:
        """Labels as what can be mixed, `(B, O)` float32; the loss takes such mixtures too."""

    def votes(self, targets: Tensor, num_outputs: int) -> Tensor:
        """What an example says of others that are like it `(B, O)` float32, such that means of votes can be taken."""
        return self.shares(targets, num_outputs).float()

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The scalar that is trained on: of outputs `(B, O)`, in their precision."""

    @abstractmethod
    def plain_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Losses `(B,)` of outputs `(B, O)` without smoothing or weights, so that they mean the same in every run."""

    def plain_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean of `plain_losses`."""
        return self.plain_losses(outputs, targets).mean()

    @abstractmethod
    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """`(B,)`: what the running metric is the mean of."""

    @staticmethod
    @abstractmethod
    def stack(tasks: Sequence[Any], num_outputs: int, device: torch.device) -> "Stack":
        """The tasks, all of this kind, of heads that train together."""

    @abstractmethod
    def objective(self, inputs: Tensor, targets: Tensor, num_outputs: int, l2: float) -> Objective:
        """Of a linear head with an L2 penalty on centred inputs `(N, D)`, in double precision; it must be convex."""

    @abstractmethod
    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """All of `metrics` for outputs `(N, O)`; without those that nothing can be said of (no example of a class)."""

    def measured(self, outputs: Tensor, targets: Tensor, names: Sequence[str]) -> dict[str, float]:
        """Some of the metrics, at an epoch's end; not a number where nothing can be said of one."""
        found = self.scores(outputs, targets)
        return {name: found.get(name, float("nan")) for name in names}

    @abstractmethod
    def baseline(self, train: np.ndarray, targets: Tensor) -> dict[str, float]:
        """What one constant answer, the best for the training targets, would score: names as `baseline_rmse`."""

    @abstractmethod
    def predictions(self, outputs: Tensor, targets: np.ndarray) -> dict[str, np.ndarray]:
        """What is kept of a test set beside the ids: `label`, `predicted`, and how surely."""

    @abstractmethod
    def said(self, outputs: Tensor) -> np.ndarray:
        """What outputs `(N, O)` say, float64: probabilities, or numbers in the data's units."""

    @abstractmethod
    def chosen(self, said: np.ndarray) -> list[int]:
        """Of what is said of one example `(O,)`, the places of the answer, the surest first: one class, all labels
        above the threshold, all numbers."""

    @abstractmethod
    def details(self, outputs: Tensor, targets: Tensor, names: tuple[str, ...]) -> dict[str, Any]:
        """Facts by class or by number, for the record."""

    @abstractmethod
    def hardness(self, outputs: Tensor, targets: Tensor) -> np.ndarray:
        """How wrong each prediction is `(N,)`: the largest are shown to people."""

    @abstractmethod
    def described(self, outputs: Tensor, targets: Tensor, place: int, names: tuple[str, ...]) -> Mapping[str, Any]:
        """One prediction in words: `label`, `predicted` and `probability` (or `error`)."""


class Stack(ABC):
    """The tasks of several heads that train together; no head's numbers depend on the others."""

    def __init__(self, tasks: Sequence[Any]) -> None:
        self.tasks = list(tasks)

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Losses `(K, B)`, whose mean is each batch's loss, and that mean's gradient `(K, O, B)`.

        `outputs` are `(K, O, B)`, `targets` `(K, B)` or `(K, B, O)`.
        """

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What the running metric is the mean of, `(K, B)`."""
        return torch.stack([task.values(o.T, t) for task, o, t in zip(self.tasks, outputs, targets, strict=True)])

    def evaluate(
        self, rows: slice, outputs: Tensor, targets: Tensor, names: Sequence[str]
    ) -> tuple[Tensor, Tensor, list[dict[str, float]]]:
        """Of some heads' outputs `(k, O, N)` on the same examples: plain losses and values `(k, N)`, and metrics."""
        pairs = list(zip(self.tasks[rows], outputs, strict=True))
        losses = torch.stack([task.plain_losses(one.T, targets) for task, one in pairs])
        values = torch.stack([task.values(one.T, targets) for task, one in pairs])
        truth = targets.cpu()
        return losses, values, [task.measured(one.T.cpu(), truth, names) if names else {} for task, one in pairs]

    def keep(self, members: Sequence[int]) -> None:
        """Go on with these heads alone."""
        self.tasks = [self.tasks[member] for member in members]


MOST_KEPT, TOP = 2**24, 5
"""Probabilities of a test set up to which all are kept (32 MiB), and how many of each example beyond that."""


def largest(probability: Tensor) -> dict[str, np.ndarray]:
    """`top` `(N, 5)`, the places of the largest probabilities `(N, C)`, the largest first, and `top_probability`."""
    found = probability.topk(min(TOP, probability.shape[1]), dim=1)
    return {
        "top": found.indices.numpy().astype(np.int32),
        "top_probability": found.values.numpy().astype(np.float16),
    }


VECTORS = 64
"""Floats that whatever processor works through whole vectors of."""


def rowwise(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """`function` of each number of `(K, …)`, so that no row's bits depend on how many rows there are.

    `exp` and its kin round differently in a vector's body and in its tail, so rows are filled up to whole vectors.
    Several threads would share the numbers out at places that depend on K: there each row is computed by itself.
    """
    if torch.get_num_threads() > 1 and values.device.type == "cpu":
        return torch.stack([function(row) for row in values])
    flat = values.reshape(len(values), -1)
    size = flat.shape[1]
    filled = F.pad(flat, (0, -size % VECTORS))
    return function(filled)[:, :size].reshape(values.shape)


def on(values: Sequence[float], like: Tensor) -> Tensor:
    """Numbers beside a tensor: on its device, in its precision, without waiting for the device."""
    return torch.tensor(list(values), dtype=like.dtype).to(like.device, non_blocking=True)


def known_names(found: Sequence[str], known: tuple[str, ...] | None, where: str) -> tuple[str, ...]:
    """The names of classes: `known` ones, or those found, sorted.

    Raises:
        InputError: if there are some that are not known.
    """
    names = known or tuple(sorted(set(found)))
    strange = sorted(set(found) - set(names))
    if strange:
        raise InputError(
            f"{where} has classes that the training data lacks: {shown(strange)}. A shift must have the same classes: "
            f"{shown(names)}."
        )
    return names


def _examples_of(strata: np.ndarray, num_strata: int) -> np.ndarray:
    """How many examples each stratum has `(L,)`."""
    return strata.sum(0).astype(int) if strata.ndim > 1 else np.bincount(strata, minlength=num_strata)


def shown(items: Sequence[str], most: int = 20) -> str:
    """Comma-separated, cut after `most` with the count of all."""
    return ", ".join(items[:most]) + (f", … ({len(items)} in all)" if len(items) > most else "")
