"""The exact linear probe: the optimum of an L2-regularised linear model, as the task says what is minimised."""

import logging
import time
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.metrics import best_epoch
from headstart.tasks.task import Objective, Task
from headstart.training.probe_spec import Divergence, ProbeOutcome, Row
from headstart.training.threads import threads_for

_log = logging.getLogger(__name__)

TRIED = tuple(10.0**power for power in range(2, -5, -1))
"""Strengths of the penalty that `auto` chooses among, from strong to weak, as multiples of the mean of `‖x‖²` over the
centred training examples: what is best for features in one unit is best for the same in another."""


def solve(
    features: Tensor,
    targets: Tensor,
    train: np.ndarray,
    val: np.ndarray,
    num_outputs: int,
    l2: float | Literal["auto"],
    task: Task,
    *,
    monitor: str | None = None,
    max_iterations: int = 10_000,
    tolerance: float = 1e-9,
    says: bool = True,
) -> ProbeOutcome:
    """Weights and biases that minimise `Σᵢ lossᵢ + l2 / 2 · ‖W‖²` over the training examples; biases are free.

    The losses are the task's (`Task.objective`). Found by L-BFGS (Liu and Nocedal, 1989) in double precision from zero;
    the problem is convex, so that neither seed nor start matters. The outcome has one epoch, whose steps are the
    iterations. `auto` solves for seven strengths and takes the one that is best on val, the strongest of equals.

    Args:
        features: `(N, D)`, of all examples; `train` and `val` are indices into them.
        targets: `(N,)` int64 or `(N, O)`.
        l2: Strength of the penalty, above 0, or `auto`.
        task: Fitted to the training examples.
        monitor: The metric that is measured beside those of every epoch; `None` for the task's own.
        tolerance: The largest entry of the gradient, per training example, at which it is done.
        says: Whether a strength at the end of what `auto` tries is to be told.
    """
    from threadpoolctl import threadpool_limits

    began, monitor = time.perf_counter(), monitor or task.monitor
    inputs = features[torch.from_numpy(train).to(features.device)].double()
    centre = inputs.mean(0)
    inputs = inputs - centre  # which changes no optimum, for the biases take it up, but far fewer iterations reach it
    wanted = targets[torch.from_numpy(train).to(targets.device)]
    spread = inputs.square().sum(1).mean().item() or 1.0
    strengths = [strength * spread for strength in TRIED] if l2 == "auto" else [l2]
    options = {"maxiter": max_iterations, "maxfun": 2 * max_iterations, "gtol": tolerance, "ftol": 0.0, "maxls": 50}
    with threads_for(2 * inputs.numel() * num_outputs), threadpool_limits(1, "blas"):
        objectives = [task.objective(inputs, wanted, num_outputs, strength) for strength in strengths]
        solved = _minimised(objectives, num_outputs * (features.shape[1] + 1), options)
    rows, states = [], []
    for found in solved:
        solution = torch.from_numpy(found.x).view(num_outputs, -1)
        weight, bias = solution[:, :-1], solution[:, -1]
        state = {"weight": weight.float(), "bias": (bias - weight @ centre.cpu()).float()}
        outputs = F.linear(features.float(), *(tensor.to(features.device) for tensor in state.values())).double().cpu()
        rows.append(measured_row(task, outputs, targets.cpu(), train, val, monitor))
        states.append(state)
    best, steps = best_epoch(rows, monitor), sum(int(found.nit) for found in solved)
    row = rows[best] | {"step": steps, "seconds": time.perf_counter() - began}
    outcome = ProbeOutcome([row], 0, states[best], steps, None, row["seconds"], l2=strengths[best])
    if not np.isfinite(solved[best].fun):
        outcome.best_epoch, outcome.best_state, outcome.divergence = None, None, Divergence(0, 0)
    elif says and len(strengths) > 1 and best in (0, len(strengths) - 1):
        _log.warning(
            "head.l2=auto came to %.3g, the %s of the %d strengths that it tries: set head.l2 to look further.",
            *(strengths[best], "weakest" if best else "strongest", len(strengths)),
        )
    elif solved[best].nit >= max_iterations:
        _log.warning("The solver stopped after %d iterations, short of the optimum; raise head.l2.", max_iterations)
    return outcome


def _minimised(objectives: Sequence[Objective], size: int, options: dict[str, Any]) -> list[Any]:
    """What scipy found for each, from zeros, or from what was found for the one before."""
    from scipy.optimize import minimize

    found, start = [], np.zeros(size)
    for objective in objectives:
        found.append(minimize(objective, start, jac=True, method="L-BFGS-B", options=options))
        start = found[-1].x
    return found


def measured_row(task: Task, outputs: Tensor, targets: Tensor, train: np.ndarray, val: np.ndarray, monitor: str) -> Row:
    """The one row of history of a head that takes no steps, from outputs `(N, O)` of all examples."""
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
