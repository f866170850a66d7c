"""What solving for an exact probe takes: evaluations on the very shape are timed, and their number is foretold."""

import time
from statistics import median

import torch
from torch import Tensor

from headstart.run.job import Job
from headstart.training.threads import threads_for

FINER = 4.0
"""Evaluations down to a run's tolerance by the steps down to that of a cross-validated probe: 3.0 to 4.3 on features of
20 to 300 classes."""
MOST_WORK = 1e9
"""Multiplications of one evaluation that is timed: of more examples so many are taken as that allows."""
FEWEST_ROWS = 64
MOST_WEIGHTS = 5e7
"""Weights of a head beyond which nothing is timed: the solver keeps some twenty vectors as long."""
TIMED = 3


def seconds_to_solve(job: Job, num_features: int, device: torch.device, num_steps: int) -> float:
    """Seconds of one exact probe of `job` on all its training examples; not a number for heads that are too large.

    Args:
        num_steps: Of the solver in a cross-validated probe, over all penalties that are tried.
    """
    num_outputs = job.num_outputs
    if num_outputs * (num_features + 1) > MOST_WEIGHTS:
        return float("nan")
    train = job.split.train
    rows = max(FEWEST_ROWS, int(MOST_WORK / (num_features * num_outputs)))
    targets = torch.from_numpy(job.targets.values[train[:rows]])
    share = len(train) / len(targets)
    return FINER * num_steps * share * _an_evaluation(job, targets, num_features, device)


def _an_evaluation(job: Job, targets: Tensor, num_features: int, device: torch.device) -> float:
    """Seconds, the median of a few; what the features are does not change it."""
    from threadpoolctl import threadpool_limits

    inputs = torch.rand(len(targets), num_features, dtype=torch.float64, device=device) - 0.5
    with threads_for(2 * inputs.numel() * job.num_outputs), threadpool_limits(1, "blas"):
        task = job.parts.task.exact().fitted(job.targets.values[job.split.train], job.num_outputs)
        evaluate = task.objective(inputs, targets, job.num_outputs, 1.0)
        weights = torch.zeros(job.num_outputs * (num_features + 1), dtype=torch.float64).numpy()
        seconds = []
        for _ in range(1 + TIMED):
            began = time.perf_counter()
            evaluate(weights)
            seconds.append(time.perf_counter() - began)
    return median(seconds[1:])
