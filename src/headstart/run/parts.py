"""The parts of a run that are made when it is done, from its job."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from headstart.backbones.backbone import Backbone
from headstart.data.source import Source
from headstart.run.chosen import backbone_of
from headstart.run.job import Job
from headstart.run.unchanged import check_weights
from headstart.seeding import seed_for
from headstart.training.device import device_of
from headstart.training.heads import built_head

if TYPE_CHECKING:
    from headstart.data.module import DataModule

log = logging.getLogger(__name__)

UPDATES = frozenset({"fused", "foreach", "capturable", "differentiable"})
"""Options of torch's optimizers that choose how an update is computed."""


def data_module(job: Job) -> "DataModule":
    # Lightning takes seconds, and who only looks needs none of it
    from headstart.data.module import DataModule, ShiftSet

    source, settings = job.source, job.cfg.trainer
    augmentation = job.parts.augmentation
    shifts = {
        name: ShiftSet(shift.examples(**job.reading.arguments), job.shift_targets[name], shifted_indices(job, shift))
        for name, shift in source.shifts.items()
    }
    return DataModule(
        job.examples,
        job.targets.values,
        job.split,
        augmentation,
        settings.batch_size,
        job.seed,
        settings.num_workers,
        shifts,
        settings.reuse_views,
    )


def some_training_batches(job: Job, most: int) -> Iterator[dict[str, Any]]:
    """At most so many training examples, evenly spaced, as they are read in scoring, with their labels: batches of
    about the same size."""
    places = job.split.train
    chosen = places[np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int))]
    number = -(-len(chosen) // max(2, int(job.cfg.trainer.batch_size)))
    for part in np.array_split(chosen, number):
        yield {"inputs": job.examples.batch(part), "labels": torch.from_numpy(job.targets.values[part])}


def shifted_indices(job: Job, shift: Source) -> np.ndarray:
    """Which of a shifted set's examples are scored: all, or the test examples where it shows this source's own."""
    return job.split.test if job.source.paired_shifts else np.arange(len(shift.ids))


def build_backbone(job: Job) -> Backbone:
    backbone = backbone_of(job.factory, job.strategy, job.seed)
    check_weights(job)  # now that they are read: what they were until then says nothing of what was read
    return backbone


def build_head(job: Job, num_features: int) -> nn.Module:
    seed = seed_for(job.seed, "head")
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        torch.manual_seed(seed)
    else:  # which for devices that are not there would keep a list of all calls
        torch.default_generator.manual_seed(seed)
    return built_head(job.parts.head, num_features, job.num_outputs, job.sketch.num_weighed, job.task.link)


def build_optimizer(job: Job) -> Callable[..., torch.optim.Optimizer]:
    """The optimizer, still without parameters; it updates all of them in one pass over memory where it can."""
    chosen, settings = job.parts.optimizer, job.cfg.trainer
    # SGD has it too, but fails where parameters of a group get their first gradients at different steps
    can = chosen.func in (torch.optim.Adam, torch.optim.AdamW) and not chosen.keywords.keys() & UPDATES
    # Lightning refuses to clip before such an update in mixed precision, and float16's scaling is undone within it
    scaled = settings.precision == "16-mixed" or (settings.precision.endswith("mixed") and settings.gradient_clip_val)
    if not can or scaled or device_of(settings.accelerator).type not in ("cpu", "cuda"):
        return chosen
    return partial(chosen, fused=True)
