"""Any number of labels to an example: each is a question of its own, answered yes or no."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Gt, Lt
from torch import Tensor
from torch.nn import functional as F

from headstart.errors import InputError
from headstart.tasks import task
from headstart.tasks.ranking import auroc, average_precision
from headstart.tasks.task import Cell, Objective, Stack, Targets, Task, known_names, on, rowwise, shown

log = logging.getLogger(__name__)
Threshold = Annotated[float, Gt(0), Lt(1)]


class Multilabel(Task):
    """Sigmoid and binary cross-entropy, one for each label.

    Args:
        separator: What stands between the labels of one cell of a table.
        threshold: Probability from which a label is said to be there.
        positive_weights: `balanced` weighs a label's examples by how many there are without it for each one with it.
        monitor: As for `Task`.
    """

    name, output, outputs = "multilabel", "class", "classes"
    link = "sigmoid"
    strata_are, without_stratum = "labels", "Averages over labels leave them out there."
    score, running = "mean_average_precision", "exact_match"
    rated = "mean_average_precision"
    of_epoch = ("mean_average_precision", "macro_f1")
    metrics = (
        "mean_average_precision", "loss", "micro_average_precision", "macro_f1", "micro_f1", "auroc", "exact_match",
    )  # fmt: skip
    weights: tuple[float, ...] | None = None
    """Of the examples that have a label `(C,)`, read off the training part."""

    def __init__(
        self,
        separator: str = ",",
        threshold: Threshold = 0.5,
        positive_weights: Literal["none", "balanced"] = "none",
        monitor: str = "val/mean_average_precision",
    ) -> None:
        super().__init__(monitor)
        if not separator:
            raise InputError("task.separator must be at least one character, but is empty.")
        self.separator, self.threshold, self.positive_weights = separator, threshold, positive_weights

    def encode(self, cells: Sequence[Cell], where: str, known: tuple[str, ...] | None = None) -> Targets:
        labels = [self._labels(cell, where) for cell in cells]
        columns = [name for name, _ in cells[0]] if cells and _is_columns(cells[0]) else []
        names = known_names(sorted(set(columns).union(*labels)), known, where)
        if len(names) < 2:
            raise InputError(
                f"{where} has one label, {shown(names)}. Several are separated by {self.separator!r} "
                "(task.separator). If each example has one class, use task=multiclass."
            )
        if known is None and not columns and all(len(found) == 1 for found in labels):
            raise InputError(_has_one_each(where, [name for found in labels for name in found]))
        places = {name: place for place, name in enumerate(names)}
        values = np.zeros((len(cells), len(names)), dtype=np.float32)
        for row, found in enumerate(labels):
            values[row, [places[name] for name in found]] = 1
        return Targets(values, names)

    def _labels(self, cell: Cell, where: str) -> set[str]:
        """Names of the labels that a cell holds: one text, several, or pairs of a column and what it says."""
        if _is_columns(cell):
            return {name for name, value in cell if _is_there(value, name, where)}
        if isinstance(cell, str):
            text = cell.strip()
            if not (text.startswith("[") and text.endswith("]")):
                return {name for part in text.split(self.separator) if (name := part.strip())}
            try:
                cell = json.loads(text)
            except ValueError:
                cell = [part.strip().strip("'\"") for part in text[1:-1].split(",")]
        if not isinstance(cell, (list, tuple)) or not all(isinstance(one, (str, int)) for one in cell):
            raise InputError(f"{where} must hold names of labels, but an example has {cell!r}. {_ELSE}")
        return {name for value in cell if (name := str(value).strip())}

    def strata(self, targets: Targets) -> tuple[np.ndarray, tuple[str, ...]]:
        return targets.values, targets.names

    def fitted(self, train: np.ndarray, num_outputs: int) -> "Multilabel":
        found = copy(self)
        if self.positive_weights == "balanced":
            with_it = train.sum(0)
            found.weights = tuple((np.maximum(len(train) - with_it, 1) / np.maximum(with_it, 1)).tolist())
        return found

    def shares(self, labels: Tensor, num_outputs: int) -> Tensor:
        return labels

    def outputs_of(self, said: Tensor) -> Tensor:
        return torch.logit(said.double(), eps=1e-9)

    def doubted(self, near: Tensor, labels: Tensor) -> Tensor:
        """All of them have a label that it lacks."""
        return ((near > 0).all(1) & (labels <= 0)).any(1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        weights = None if self.weights is None else on(self.weights, outputs)
        return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), pos_weight=weights)

    def plain_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="none").mean(1)

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return ((torch.sigmoid(outputs) >= self.threshold) == (targets > 0)).all(1)

    @staticmethod
    def stack(tasks: Sequence["Multilabel"], num_outputs: int, device: torch.device) -> "StackedMultilabel":
        return StackedMultilabel(tasks, num_outputs, device)

    def objective(self, inputs: Tensor, targets: Tensor, num_outputs: int, l2: float) -> Objective:
        """One label against the rest: for each as scikit-learn's `LogisticRegression(C=1 / l2)` on it alone."""
        truth = targets.to(inputs.device, torch.float64)
        weights = 1.0 if self.weights is None else on(self.weights, truth)
        factor = 1 + (weights - 1) * truth
        num_examples = len(truth)

        def evaluate(flat: np.ndarray) -> tuple[float, np.ndarray]:
            solution = torch.from_numpy(flat).to(inputs.device).view(num_outputs, -1)
            weight, bias = solution[:, :-1], solution[:, -1]
            outputs = inputs @ weight.T + bias
            loss = ((1 - truth) * outputs + factor * F.softplus(-outputs)).sum() + l2 / 2 * weight.square().sum()
            residual = (1 - truth) - factor * torch.sigmoid(-outputs)
            gradient = torch.cat([residual.T @ inputs + l2 * weight, residual.sum(0)[:, None]], 1)
            return loss.item() / num_examples, gradient.div_(num_examples).cpu().numpy().ravel()

        return evaluate

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Mean average precision and F1, macro (over labels that have a positive) and micro; AUROC; exact match.

        Macro F1 is over labels that are there or were said to be.
        """
        found = self.measured(outputs, targets, self.metrics)
        return {name: value for name, value in found.items() if np.isfinite(value)}

    def measured(self, outputs: Tensor, targets: Tensor, names: Sequence[str]) -> dict[str, float]:
        probability, truth = torch.sigmoid(outputs.double()).numpy(), targets.numpy() > 0
        decided = probability >= self.threshold
        hits, said, there = (decided & truth).sum(0), decided.sum(0), truth.sum(0)
        f1 = 2 * hits / np.maximum(said + there, 1)
        found: dict[str, Callable[[], Any]] = {
            "loss": lambda: self.plain_losses(outputs.double(), targets).mean(),
            "mean_average_precision": lambda: _mean(average_precision(probability, truth)),
            "micro_average_precision": lambda: _mean(
                average_precision(probability.reshape(-1, 1), truth.reshape(-1, 1))
            ),
            "macro_f1": lambda: _mean(f1[said + there > 0]),
            "micro_f1": lambda: 2 * hits.sum() / max(1, said.sum() + there.sum()),
            "auroc": lambda: _mean(auroc(probability, truth)),
            "exact_match": lambda: (decided == truth).all(1).mean(),
        }
        return {name: float(found[name]()) for name in names}

    def baseline(self, train: np.ndarray, targets: Tensor) -> dict[str, float]:
        """Each label said with the share of the training examples that have it."""
        share = torch.from_numpy(np.clip(train.mean(0), 1e-6, 1 - 1e-6)).double()
        found = self.scores(torch.logit(share).expand(len(targets), -1), targets)
        return {f"baseline_{name}": found[name] for name in ("mean_average_precision", "exact_match") if name in found}

    def predictions(self, outputs: Tensor, targets: np.ndarray) -> dict[str, np.ndarray]:
        """`probability` `(N, C)` up to `task.MOST_KEPT` numbers; of more the largest (see `task.largest`). Labels and
        answers `(N, C)`, nearly all of them 0, take little room once they are compressed."""
        probability = torch.sigmoid(outputs.double())
        found = {
            "label": targets.astype(np.uint8),
            "predicted": (probability.numpy() >= self.threshold).astype(np.uint8),
        }
        if outputs.numel() <= task.MOST_KEPT:
            return {**found, "probability": probability.numpy().astype(np.float16)}
        top = task.largest(probability)
        log.warning(
            "Of %s test examples and %s labels the predictions keep the %d largest probabilities of each example, not "
            "all.",
            *(f"{len(outputs):,}", f"{outputs.shape[1]:,}", top["top"].shape[1]),
        )
        return {**found, **top}

    def said(self, outputs: Tensor) -> np.ndarray:
        return torch.sigmoid(outputs.double()).numpy()

    def chosen(self, said: np.ndarray) -> list[int]:
        return [int(place) for place in np.argsort(-said, kind="stable") if said[place] >= self.threshold]

    def details(self, outputs: Tensor, targets: Tensor, names: tuple[str, ...]) -> dict[str, Any]:
        probability, truth = torch.sigmoid(outputs.double()).numpy(), targets.numpy() > 0
        decided = probability >= self.threshold
        precision = average_precision(probability, truth)
        rows = {
            name: {
                "examples": int(truth[:, place].sum()),
                "predicted": int(decided[:, place].sum()),
                "right": int((truth & decided)[:, place].sum()),
                "average_precision": float(precision[place]) if truth[:, place].any() else None,
            }
            for place, name in enumerate(names)
        }
        return {"classes": list(names), "by_output": rows}

    def hardness(self, outputs: Tensor, targets: Tensor) -> np.ndarray:
        return self.plain_losses(outputs.double(), targets).numpy()

    def described(self, outputs: Tensor, targets: Tensor, place: int, names: tuple[str, ...]) -> Mapping[str, Any]:
        """`probability` is that of all its labels as they are, as if each were independent of the others."""
        probability = torch.sigmoid(outputs[place].double())
        own = torch.where(targets[place] > 0, probability, 1 - probability)
        return {
            "label": _said(targets[place] > 0, names),
            "predicted": _said(probability >= self.threshold, names),
            "probability": float(own.prod()),
        }


class StackedMultilabel(Stack):
    """As `torch.nn.functional.binary_cross_entropy_with_logits`, for each head by its own weights."""

    def __init__(self, tasks: Sequence[Multilabel], num_labels: int, device: torch.device) -> None:
        super().__init__(tasks)
        rows = [task.weights or (1.0,) * num_labels for task in tasks]
        self.weights = torch.tensor(rows, device=device).unsqueeze(-1)
        self.thresholds = torch.tensor([task.threshold for task in tasks], device=device).view(-1, 1, 1)

    def loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        truth, minus = targets.transpose(1, 2), -outputs
        # as torch has it: (1 - y) x + (1 + (w - 1) y) softplus(-x)
        factor = 1 + (self.weights - 1) * truth
        losses = (1 - truth) * outputs + factor * rowwise(F.softplus, minus)
        gradient = (1 - truth) - factor * rowwise(torch.sigmoid, minus)
        return losses.mean(1), gradient.div_(outputs[0].numel())

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        decided = rowwise(torch.sigmoid, outputs) >= self.thresholds
        return (decided == (targets > 0).transpose(1, 2)).all(1)

    def keep(self, members: Sequence[int]) -> None:
        super().keep(members)
        rows = torch.tensor(members, device=self.weights.device)
        self.weights, self.thresholds = self.weights[rows], self.thresholds[rows]


_ELSE = "For numbers use task=regression."


def _has_one_each(where: str, found: Sequence[str]) -> str:
    """What to say where each example has one label; `found` are these. It may be several, with another separator."""
    likely = next((mark for mark in ";|,/ " if sum(mark in name for name in found) * 2 > len(found)), None)
    said = f"{where} has exactly one label to each example, such as {found[0]!r}"
    if likely is not None:
        shown_as = "a blank" if likely == " " else repr(likely)
        return (
            f"{said}. If {shown_as} stands between labels, add 'task.separator=\"{likely}\"'; else use task=multiclass."
        )
    return (
        f"{said}: use task=multiclass. If a cell holds several, say what stands between them (task.separator); class "
        "folders hold one class a file, so several labels need a table."
    )


def _is_columns(cell: Cell) -> bool:
    return isinstance(cell, tuple) and bool(cell) and isinstance(cell[0], tuple)


def _is_there(value: Any, name: str, where: str) -> bool:
    text = str(value).strip().lower()
    if text in ("1", "1.0", "true", "yes"):
        return True
    if text in ("0", "0.0", "false", "no"):
        return False
    raise InputError(f"Columns of labels in {where} must hold 0 or 1, but {name!r} holds {value!r}. {_ELSE}")


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _said(there: Tensor, names: tuple[str, ...]) -> str:
    return ", ".join(name for name, yes in zip(names, there.tolist(), strict=True) if yes) or "–"
