"""Scores of a trained model on test sets: metrics by torchmetrics, predictions for the record."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from headstart.metrics import counts, of_classes
from headstart.training.device import autocast

MOST_DENSE = 50
"""Classes up to which the confusion matrix is kept whole: of a thousand it would take megabytes, nearly all zeros."""


def predict(
    model: Callable[[Mapping[str, Tensor]], Tensor],
    batches: Iterable[Mapping[str, Any]],
    device: torch.device,
    precision: str = "32-true",
) -> Tensor:
    """Outputs of `model` for every batch, in order, float32 on the CPU; no graph, autocast as in training."""
    outputs = []
    with torch.inference_mode(), autocast(device, precision):
        for batch in batches:
            inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in batch["inputs"].items()}
            outputs.append(model(inputs).float())
    return torch.cat(outputs).cpu()


def metrics(logits: Tensor, labels: Tensor, prefix: str, majority: int) -> dict[str, float]:
    """Metrics of logits `(N, C)` against labels `(N,)`, each as `<prefix>/<name>`.

    `loss`, `accuracy`, `balanced_accuracy` and `macro_f1` (see `metrics.of_classes`), and what the class `majority`
    would score if it were always the answer: `majority_accuracy`.
    """
    num_classes = logits.shape[1]
    by_class = of_classes(counts(labels.numpy(), logits.argmax(1).numpy(), num_classes))
    accuracy = partial(multiclass_accuracy, target=labels, num_classes=num_classes, average="micro")
    found: dict[str, Any] = {
        "loss": F.cross_entropy(logits.double(), labels),
        "accuracy": accuracy(logits),
        "balanced_accuracy": by_class["balanced_accuracy"],
        "macro_f1": multiclass_f1_score(logits, labels, num_classes, average="macro"),
        "majority_accuracy": accuracy(torch.full_like(labels, majority)),
    }
    return {f"{prefix}/{name}": float(value) for name, value in found.items()}


def majority(labels: np.ndarray) -> int:
    """The class that most of `labels` are of, the first of equals."""
    return int(np.bincount(labels).argmax())


def details(logits: Tensor, labels: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """The accuracy within each class, and how often which class was taken for which.

    `confusion` is the matrix (rows: the truth, columns: the prediction); of more than `MOST_DENSE` classes, what of it
    is not zero, as three lists of one length: `true` and `predicted` (places in `classes`) and `count`.
    """
    size = len(classes)
    pairs, times = torch.unique(labels * size + logits.argmax(dim=1), return_counts=True)
    true, predicted = pairs // size, pairs % size
    right = torch.zeros(size, dtype=torch.int64).index_add(0, true, times * (true == predicted))
    totals = torch.bincount(labels, minlength=size).clamp(min=1)
    per_class = {name: float(value) for name, value in zip(classes, right / totals, strict=True)}
    confusion: Any = {"true": true.tolist(), "predicted": predicted.tolist(), "count": times.tolist()}
    if size <= MOST_DENSE:
        confusion = torch.zeros(size, size, dtype=torch.int64).index_put((true, predicted), times).tolist()
    return {"classes": list(classes), "confusion": confusion, "per_class_accuracy": per_class}


def predictions(logits: Tensor, labels: np.ndarray, ids: Iterable[str]) -> dict[str, np.ndarray]:
    """What `predictions.npz` keeps of a test set: id, label, class decided for, class probabilities (N, C) in float16.

    The decision is kept besides: halves of close probabilities are equal, and would decide otherwise.
    """
    probability = torch.softmax(logits, dim=1).numpy().astype(np.float16)
    return {
        "id": np.asarray(list(ids)),
        "label": labels.astype(np.int64),
        "predicted": logits.argmax(dim=1).numpy().astype(np.int64),
        "probability": probability,
    }


def class_weights(labels: np.ndarray, num_classes: int) -> Tensor:
    """`(C,)`: inverse frequency in `labels`, with mean 1 over the examples (scikit-learn's "balanced")."""
    counts = np.bincount(labels, minlength=num_classes)
    return torch.tensor(len(labels) / (num_classes * np.maximum(counts, 1)), dtype=torch.float32)
