"""One class to each example."""

import logging
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.config.ranges import ProperFraction
from headstart.errors import InputError
from headstart.metrics import counts, of_classes
from headstart.tasks import task
from headstart.tasks.class_names import class_names
from headstart.tasks.cross_entropy import StackedCrossEntropy
from headstart.tasks.ranking import auroc
from headstart.tasks.task import Cell, Objective, Stack, Targets, Task, known_names, largest, on, shown

log = logging.getLogger(__name__)

MOST_DENSE = 50
"""Classes up to which the confusion matrix is kept whole: of a thousand it would take megabytes, nearly all zeros."""
_LEAST = 1e-9
"""Share of a class that none of the votes are for."""
NUM_BINS = 15
"""Of confidence, for the calibration error (Guo et al. 2017)."""


class Multiclass(Task):
    """Softmax and cross-entropy.

    Args:
        label_smoothing: Share of each label that is spread over all classes, from 0 to below 1.
        class_weights: `balanced` weighs each class's loss by 1 over its frequency in training.
        monitor: As for `Task`.
    """

    name, output, outputs = "multiclass", "class", "classes"
    link = "softmax"
    strata_are_classes = True
    score = rated = running = "accuracy"
    of_epoch = ("balanced_accuracy", "macro_f1")
    metrics = (
        "accuracy", "loss", "balanced_accuracy", "macro_f1", "auroc", "log_loss", "expected_calibration_error",
        "quadratic_kappa",
    )  # fmt: skip
    weights: tuple[float, ...] | None = None
    """Of the classes, read off the training part."""

    def __init__(
        self,
        label_smoothing: ProperFraction = 0.0,
        class_weights: Literal["none", "balanced"] = "none",
        monitor: str = "val/accuracy",
    ) -> None:
        super().__init__(monitor)
        self.label_smoothing, self.class_weights = label_smoothing, class_weights

    def encode(self, cells: Sequence[Cell], where: str, known: tuple[str, ...] | None = None) -> Targets:
        found = class_names(cells, where)
        names = known_names(found, known, where)
        if known is None and len(names) < 2:
            raise InputError(f"{where} has one class, {shown(names)}: at least two are needed.")
        places = {name: label for label, name in enumerate(names)}
        return Targets(np.array([places[name] for name in found], dtype=np.int64), names)

    def strata(self, targets: Targets) -> tuple[np.ndarray, tuple[str, ...]]:
        return targets.values, targets.names

    def fitted(self, train: np.ndarray, num_outputs: int) -> "Multiclass":
        found = copy(self)
        if self.class_weights == "balanced":
            found.weights = tuple(balanced(train, num_outputs).tolist())
        return found

    @property
    def kind(self) -> tuple[Any, ...]:
        return Multiclass, self.weights is not None

    def shares(self, labels: Tensor, num_outputs: int) -> Tensor:
        return F.one_hot(labels, num_outputs).float()

    def outputs_of(self, said: Tensor) -> Tensor:
        return said.double().clamp_min(_LEAST).log()

    def doubted(self, near: Tensor, labels: Tensor) -> Tensor:
        """None is of its class, and all but one at most are of one other."""
        votes, num = near.sum(1), near.shape[1]
        return (votes.gather(1, labels[:, None])[:, 0] == 0) & (votes.max(1).values >= max(2, num - 1))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy; `targets` are indices `(B,)` or shares `(B, C)`."""
        weight = None if self.weights is None else on(self.weights, outputs)
        targets = targets.to(outputs.dtype) if targets.is_floating_point() else targets
        return F.cross_entropy(outputs, targets, weight=weight, label_smoothing=self.label_smoothing)

    def plain_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="none")

    def plain_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.argmax(1) == targets

    @staticmethod
    def stack(tasks: Sequence["Multiclass"], num_outputs: int, device: torch.device) -> "StackedMulticlass":
        return StackedMulticlass(tasks, num_outputs, device)

    def objective(self, inputs: Tensor, targets: Tensor, num_outputs: int, l2: float) -> Objective:
        """As scikit-learn's `LogisticRegression(C=1 / l2)`: an example's class weight scales its loss."""
        weights = torch.ones(num_outputs) if self.weights is None else torch.tensor(self.weights)
        smoothed = (1 - self.label_smoothing) * torch.eye(num_outputs) + self.label_smoothing / num_outputs
        wanted = (smoothed.double() * weights.double())[targets.cpu()].to(inputs.device)
        mass, num_examples = wanted.sum(1, keepdim=True), len(targets)

        def evaluate(flat: np.ndarray) -> tuple[float, np.ndarray]:
            solution = torch.from_numpy(flat).to(inputs.device).view(num_outputs, -1)
            weight, bias = solution[:, :-1], solution[:, -1]
            log_p = torch.log_softmax(inputs @ weight.T + bias, 1)
            loss = -(wanted * log_p).sum() + l2 / 2 * weight.square().sum()
            residual = log_p.exp() * mass - wanted
            gradient = torch.cat([residual.T @ inputs + l2 * weight, residual.sum(0)[:, None]], 1)
            return loss.item() / num_examples, gradient.div_(num_examples).cpu().numpy().ravel()

        return evaluate

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Metrics of logits `(N, C)`. `auroc` is each class against the rest, the mean over classes that have both.

        `quadratic_kappa` takes classes for steps of a scale, in the order of their names.
        """
        from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

        num_classes = outputs.shape[1]
        by_class = of_classes(counts(targets.numpy(), outputs.argmax(1).numpy(), num_classes))
        accuracy = partial(multiclass_accuracy, target=targets, num_classes=num_classes, average="micro")
        loss = float(F.cross_entropy(outputs.double(), targets))
        found: dict[str, Any] = {
            "loss": loss,
            "accuracy": accuracy(outputs),
            "balanced_accuracy": by_class["balanced_accuracy"],
            "macro_f1": multiclass_f1_score(outputs, targets, num_classes, average="macro"),
            "log_loss": loss,
            **{
                name: _ONE[name](outputs, targets)
                for name in ("auroc", "expected_calibration_error", "quadratic_kappa")
            },
        }
        return {name: float(value) for name, value in found.items() if np.isfinite(float(value))}

    def measured(self, outputs: Tensor, targets: Tensor, names: Sequence[str]) -> dict[str, float]:
        predicted = outputs.max(1).indices.numpy()
        found: dict[str, Callable[[], Any]] = {
            "accuracy": lambda: (predicted == targets.numpy()).mean(),
            "loss": lambda: F.cross_entropy(outputs.double(), targets),
            "log_loss": lambda: F.cross_entropy(outputs.double(), targets),
            **{name: partial(of, outputs, targets) for name, of in _ONE.items()},
        }
        by_class = of_classes(counts(targets.numpy(), predicted, outputs.shape[1]))
        return {name: float(by_class[name] if name in by_class else found[name]()) for name in names}

    def baseline(self, train: np.ndarray, targets: Tensor) -> dict[str, float]:
        """`majority_accuracy`: of always giving the class that most training examples are of, the mean over equals."""
        sizes = np.bincount(train)
        most = np.flatnonzero(sizes == sizes.max())  # all of them where split.n_per_class makes classes equal
        hits = np.isin(targets.numpy(), most).sum() / len(most)
        return {"majority_accuracy": float(np.float32(hits) / np.float32(len(targets)))}

    def predictions(self, outputs: Tensor, targets: np.ndarray) -> dict[str, np.ndarray]:
        """`probability` `(N, C)` up to `task.MOST_KEPT` numbers; of more, what is largest and that of the own class.

        `top` and `top_probability` are `(N, 5)`, the largest first, `own_probability` is `(N,)`.
        """
        probability = torch.softmax(outputs, dim=1)
        predicted = outputs.argmax(1).numpy().astype(np.int64)
        found = {"label": targets.astype(np.int64), "predicted": predicted}
        if outputs.numel() <= task.MOST_KEPT:
            return {**found, "probability": probability.numpy().astype(np.float16)}
        top = largest(probability)
        log.warning(
            "Of %s test examples and %s classes the predictions keep the %d largest probabilities of each example and "
            "that of its own class, not all.",
            *(f"{len(outputs):,}", f"{outputs.shape[1]:,}", top["top"].shape[1]),
        )
        return {
            **found,
            **top,
            "own_probability": probability.numpy()[np.arange(len(targets)), targets].astype(np.float16),
        }

    def said(self, outputs: Tensor) -> np.ndarray:
        return torch.softmax(outputs.double(), dim=1).numpy()

    def chosen(self, said: np.ndarray) -> list[int]:
        return [int(said.argmax())]

    def details(self, outputs: Tensor, targets: Tensor, names: tuple[str, ...]) -> dict[str, Any]:
        """The accuracy within each class, and how often which class was taken for which.

        `confusion` is the matrix (rows: the truth, columns: the prediction); of more than `MOST_DENSE` classes, what of
        it is not zero, as three lists of one length: `true` and `predicted` (places in `classes`) and `count`.
        """
        size = len(names)
        pairs, times = torch.unique(targets * size + outputs.argmax(dim=1), return_counts=True)
        true, predicted = pairs // size, pairs % size
        right = torch.zeros(size, dtype=torch.int64).index_add(0, true, times * (true == predicted))
        totals = torch.bincount(targets, minlength=size).clamp(min=1)
        per_class = {name: float(value) for name, value in zip(names, right / totals, strict=True)}
        confusion: Any = {"true": true.tolist(), "predicted": predicted.tolist(), "count": times.tolist()}
        if size <= MOST_DENSE:
            confusion = torch.zeros(size, size, dtype=torch.int64).index_put((true, predicted), times).tolist()
        return {"classes": list(names), "confusion": confusion, "per_class_accuracy": per_class}

    def hardness(self, outputs: Tensor, targets: Tensor) -> np.ndarray:
        """Less the probability of the own class."""
        probability = torch.softmax(outputs.double(), dim=1).numpy()
        return -probability[np.arange(len(targets)), targets.numpy()]

    def described(self, outputs: Tensor, targets: Tensor, place: int, names: tuple[str, ...]) -> Mapping[str, Any]:
        probability, label = torch.softmax(outputs[place].double(), dim=0), int(targets[place])
        return {
            "label": names[label],
            "predicted": names[int(probability.argmax())],
            "probability": float(probability[label]),
        }


class StackedMulticlass(Stack):
    """As `Stack`, all heads at once."""

    def __init__(self, tasks: Sequence[Multiclass], num_classes: int, device: torch.device) -> None:
        super().__init__(tasks)
        smoothing, weights = [task.label_smoothing for task in tasks], [task.weights for task in tasks]
        self.criterion = StackedCrossEntropy(smoothing, weights, num_classes, device)

    def loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self.criterion(outputs, targets)

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.max(1).indices == targets

    def evaluate(
        self, rows: slice, outputs: Tensor, targets: Tensor, names: Sequence[str]
    ) -> tuple[Tensor, Tensor, list[dict[str, float]]]:
        at_labels = targets.expand(len(outputs), 1, -1)
        losses = torch.log_softmax(outputs, 1).gather(1, at_labels).squeeze(1).neg_()
        predicted, labels = outputs.max(1).indices, targets.cpu()
        by_class = of_classes(counts(labels.numpy(), predicted.cpu().numpy(), outputs.shape[1]))
        others = [name for name in names if name not in by_class]
        found = [
            {name: float(values[head]) for name, values in by_class.items()}
            | (task.measured(one.T.cpu(), labels, others) if others else {})
            for head, (task, one) in enumerate(zip(self.tasks[rows], outputs, strict=True))
        ]
        return losses, predicted == targets, [{name: one[name] for name in names} for one in found]

    def keep(self, members: Sequence[int]) -> None:
        super().keep(members)
        self.criterion.keep(members)


def balanced(labels: np.ndarray, num_classes: int) -> Tensor:
    """`(C,)`: inverse frequency in `labels`, with mean 1 over the examples (scikit-learn's "balanced")."""
    found = np.bincount(labels, minlength=num_classes)
    return torch.tensor(len(labels) / (num_classes * np.maximum(found, 1)), dtype=torch.float32)


def _auroc(outputs: Tensor, labels: Tensor) -> float:
    truth = F.one_hot(labels, outputs.shape[1]).numpy()
    areas = auroc(torch.softmax(outputs.double(), 1).numpy(), truth)
    return float(np.nanmean(areas)) if np.isfinite(areas).any() else float("nan")


def _calibration_error(outputs: Tensor, labels: Tensor) -> Tensor:
    from torchmetrics.functional.classification import multiclass_calibration_error

    return multiclass_calibration_error(torch.softmax(outputs, 1), labels, outputs.shape[1], n_bins=NUM_BINS)


def _quadratic_kappa(outputs: Tensor, labels: Tensor) -> Tensor:
    from torchmetrics.functional.classification import multiclass_cohen_kappa

    return multiclass_cohen_kappa(outputs, labels, outputs.shape[1], weights="quadratic")


_ONE = {
    "auroc": _auroc,
    "expected_calibration_error": _calibration_error,
    "quadratic_kappa": _quadratic_kappa,
}
