"""The exact linear probe: the optimum of an L2-regularised multinomial logistic regression."""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.metrics import counts, of_classes
from headstart.training.probe_spec import Divergence, ProbeOutcome, Row
from headstart.training.threads import threads_for

_log = logging.getLogger(__name__)
Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]


def solve(
    features: Tensor,
    labels: Tensor,
    train: np.ndarray,
    val: np.ndarray,
    num_classes: int,
    l2: float,
    *,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
    max_iterations: int = 10_000,
    tolerance: float = 1e-9,
) -> ProbeOutcome:
    """Weights and biases that minimise `Σᵢ lossᵢ + l2 / 2 · ‖W‖²` over the training examples.

    As scikit-learn's `LogisticRegression(C=1 / l2)`: biases are free, and an example's class weight scales its loss.
    Found by L-BFGS (Liu and Nocedal, 1989) in double precision from zero; the problem is convex, so that neither seed
    nor start matters. The outcome has one epoch, whose steps are the iterations.

    Args:
        features: `(N, D)`, of all examples; `train` and `val` are indices into them.
        labels: `(N,)`, int64.
        l2: Strength of the penalty, above 0.
        tolerance: The largest entry of the gradient, per training example, at which it is done.
    """
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    began = time.perf_counter()
    inputs = features[torch.from_numpy(train).to(features.device)].double()
    centre = inputs.mean(0)
    targets = _targets(labels[torch.from_numpy(train).to(labels.device)], num_classes, label_smoothing, class_weights)
    # Centring changes no optimum, for the biases take it up, but far fewer iterations reach it.
    options = {"maxiter": max_iterations, "maxfun": 2 * max_iterations, "gtol": tolerance, "ftol": 0.0, "maxls": 50}
    with threads_for(2 * inputs.numel() * num_classes), threadpool_limits(1, "blas"):
        found = minimize(
            _objective(inputs - centre, targets.to(features.device), l2),
            np.zeros(num_classes * (features.shape[1] + 1)),
            jac=True,
            method="L-BFGS-B",
            options=options,
        )
    if found.nit >= max_iterations:
        _log.warning("The solver stopped after %d iterations, short of the optimum; raise head.l2.", found.nit)
    solution = torch.from_numpy(found.x).view(num_classes, -1)
    weight, bias = solution[:, :-1], solution[:, -1]
    state = {"weight": weight.float(), "bias": (bias - weight @ centre.cpu()).float()}
    scores = F.linear(features.float(), *(tensor.to(features.device) for tensor in state.values())).double().cpu()
    weights = None if class_weights is None else torch.tensor(list(class_weights), dtype=torch.float64)
    criterion = partial(F.cross_entropy, weight=weights, label_smoothing=label_smoothing)
    row = _measure(scores, labels.cpu(), train, val, criterion)
    row |= {"step": found.nit, "seconds": time.perf_counter() - began}
    outcome = ProbeOutcome([row], 0, state, int(found.nit), None, row["seconds"])
    if not np.isfinite(found.fun):
        outcome.best_epoch, outcome.best_state, outcome.divergence = None, None, Divergence(0, 0)
    return outcome


def _targets(labels: Tensor, num_classes: int, label_smoothing: float, class_weights: Sequence[float] | None) -> Tensor:
    """`t_c w_c` of each example `(N, C)`, as in `torch.nn.functional.cross_entropy`."""
    weights = torch.ones(num_classes) if class_weights is None else torch.tensor(list(class_weights))
    smoothed = (1 - label_smoothing) * torch.eye(num_classes) + label_smoothing / num_classes
    return (smoothed.double() * weights.double())[labels.cpu()]


def _objective(inputs: Tensor, targets: Tensor, l2: float) -> Objective:
    """The penalised loss per example and its gradient, as a function of `[W, b]` laid out `(C, D + 1)`."""
    num_examples, num_classes = targets.shape
    mass = targets.sum(1, keepdim=True)

    def evaluate(flat: np.ndarray) -> tuple[float, np.ndarray]:
        solution = torch.from_numpy(flat).to(inputs.device).view(num_classes, -1)
        weight, bias = solution[:, :-1], solution[:, -1]
        log_p = torch.log_softmax(inputs @ weight.T + bias, 1)
        loss = -(targets * log_p).sum() + l2 / 2 * weight.square().sum()
        residual = log_p.exp() * mass - targets
        gradient = torch.cat([residual.T @ inputs + l2 * weight, residual.sum(0)[:, None]], 1)
        return loss.item() / num_examples, gradient.div_(num_examples).cpu().numpy().ravel()

    return evaluate


def _measure(
    scores: Tensor, labels: Tensor, train: np.ndarray, val: np.ndarray, criterion: Callable[[Tensor, Tensor], Tensor]
) -> Row:
    predicted = scores.argmax(1)
    hits = (predicted == labels).double()
    counted = counts(labels[val].numpy(), predicted[val].numpy(), scores.shape[1])
    return {
        "epoch": 0,
        "train/loss": criterion(scores[train], labels[train]).item(),
        "train/accuracy": hits[train].mean().item(),
        "val/loss": F.cross_entropy(scores[val], labels[val]).item(),
        "val/accuracy": hits[val].mean().item(),
        **{f"val/{name}": float(value) for name, value in of_classes(counted).items()},
        "lr/head": 0.0,
    }
