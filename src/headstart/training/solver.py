"""The exact linear probe: the optimum of an L2-regularised linear model, as the task says what is minimised."""

import logging
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.tasks.task import Task
from headstart.training.probe_spec import Divergence, ProbeOutcome, Row
from headstart.training.threads import threads_for

_log = logging.getLogger(__name__)


def solve(
    features: Tensor,
    targets: Tensor,
    train: np.ndarray,
    val: np.ndarray,
    num_outputs: int,
    l2: float,
    task: Task,
    *,
    monitor: str | None = None,
    max_iterations: int = 10_000,
    tolerance: float = 1e-9,
) -> ProbeOutcome:
    """Weights and biases that minimise `Σᵢ lossᵢ + l2 / 2 · ‖W‖²` over the training examples; biases are free.

    The losses are the task's (`Task.objective`). Found by L-BFGS (Liu and Nocedal, 1989) in double precision from zero;
    the problem is convex, so that neither seed nor start matters. The outcome has one epoch, whose steps are the
    iterations.

    Args:
        features: `(N, D)`, of all examples; `train` and `val` are indices into them.
        targets: `(N,)` int64 or `(N, O)`.
        l2: Strength of the penalty, above 0.
        task: Fitted to the training examples.
        monitor: The metric that is measured beside those of every epoch; `None` for the task's own.
        tolerance: The largest entry of the gradient, per training example, at which it is done.
    """
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    began = time.perf_counter()
    inputs = features[torch.from_numpy(train).to(features.device)].double()
    centre = inputs.mean(0)
    wanted = targets[torch.from_numpy(train).to(targets.device)]
    # Centring changes no optimum, for the biases take it up, but far fewer iterations reach it.
    options = {"maxiter": max_iterations, "maxfun": 2 * max_iterations, "gtol": tolerance, "ftol": 0.0, "maxls": 50}
    with threads_for(2 * inputs.numel() * num_outputs), threadpool_limits(1, "blas"):
        found = minimize(
            task.objective(inputs - centre, wanted, num_outputs, l2),
            np.zeros(num_outputs * (features.shape[1] + 1)),
            jac=True,
            method="L-BFGS-B",
            options=options,
        )
    if found.nit >= max_iterations:
        _log.warning("The solver stopped after %d iterations, short of the optimum; raise head.l2.", found.nit)
    solution = torch.from_numpy(found.x).view(num_outputs, -1)
    weight, bias = solution[:, :-1], solution[:, -1]
    state = {"weight": weight.float(), "bias": (bias - weight @ centre.cpu()).float()}
    outputs = F.linear(features.float(), *(tensor.to(features.device) for tensor in state.values())).double().cpu()
    row = _measure(task, outputs, targets.cpu(), train, val, monitor or task.monitor)
    row |= {"step": found.nit, "seconds": time.perf_counter() - began}
    outcome = ProbeOutcome([row], 0, state, int(found.nit), None, row["seconds"])
    if not np.isfinite(found.fun):
        outcome.best_epoch, outcome.best_state, outcome.divergence = None, None, Divergence(0, 0)
    return outcome


def _measure(task: Task, outputs: Tensor, targets: Tensor, train: np.ndarray, val: np.ndarray, monitor: str) -> Row:
    values = task.values(outputs, targets).double()
    names = [name.removeprefix("val/") for name in task.history([monitor])[4:]]
    return {
        "epoch": 0,
        "train/loss": task.loss(outputs[train], targets[train]).item(),
        f"train/{task.running}": values[train].mean().item(),
        "val/loss": task.plain_loss(outputs[val], targets[val]).item(),
        f"val/{task.running}": values[val].mean().item(),
        **{f"val/{name}": value for name, value in task.measured(outputs[val], targets[val], names).items()},
        "lr/head": 0.0,
    }
