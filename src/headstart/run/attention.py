"""The attention over channels that a run's penalty on feature maps weighs them by."""

from copy import deepcopy

import torch
from torch import nn

from headstart.backbones.backbone import Backbone
from headstart.run.job import Job
from headstart.run.parts import some_training_batches
from headstart.strategies.regularizers import Delta
from headstart.training.activations import FrozenFeatures
from headstart.training.channel_attention import attention, importances
from headstart.training.solver import solve
from headstart.training.work import counter


def weigh_channels(job: Job, backbone: Backbone, frozen: FrozenFeatures, device: torch.device) -> float:
    """Let the job's penalty know how much each channel of `backbone`, as it came, matters for the task.

    The head that tells it is solved for on features of the frozen backbone, with the L2 penalty that is best on val.
    Returns the floating-point operations that it took, but for those of the features, which are told by `frozen`.
    """
    penalty = job.strategy.regularizer
    if not isinstance(penalty, Delta) or penalty.attention is None:
        return 0.0
    features = frozen.of(job.examples, job.source.fingerprint, job.reading.description).to(device)
    targets = torch.from_numpy(job.targets.values).to(device)
    divided = (job.split.train, job.split.val)
    monitor = job.cfg.trainer.monitor
    solved = solve(features, targets, *divided, job.num_outputs, "auto", job.task, monitor=monitor, says=False)
    head = nn.Linear(features.shape[1], job.num_outputs)
    if solved.best_state is None:
        raise RuntimeError("The head that is to weigh channels has no finite solution on these features.")
    head.load_state_dict(solved.best_state)
    batches = [
        ({name: t.to(device) for name, t in batch["inputs"].items()}, batch["labels"].to(device))
        for batch in some_training_batches(job, penalty.attention)
    ]
    with counter() as count:
        found = importances(deepcopy(backbone).eval().to(device), head.to(device), batches, job.task.loss)
    penalty.weights = {name: attention(rises) for name, rises in found.items()}
    return float(count.get_total_flops())
