"""The source classes that go with each class of the task, where a run tunes the classifier of its pretraining."""

import torch

from headstart.backbones.backbone import Backbone, DepthGroup
from headstart.errors import InputError
from headstart.run.job import Job
from headstart.tasks.multiclass import Multiclass
from headstart.training.activations import FrozenFeatures
from headstart.training.relationship import relationship
from headstart.training.source_head import SourceHead, attach, source_of


def with_source(job: Job, backbone: Backbone, groups: list[DepthGroup]) -> list[DepthGroup]:
    """The backbone's depth groups, with the classifier of its pretraining among them if the job's penalty needs it."""
    if job.strategy.regularizer is None or not job.strategy.regularizer.needs_source:
        return groups
    return attach(SourceHead(job.factory.source_classifier(), job.num_outputs), backbone, groups)


def relate(job: Job, backbone: Backbone, frozen: FrozenFeatures) -> float:
    """Let that classifier know which source classes go with each of the task's, by features of the frozen backbone.

    Returns the floating-point operations of its logits; those of the features are told by `frozen`.
    """
    source = source_of(backbone)
    if source is None:
        return 0.0
    features = frozen.of(job.examples, job.source.fingerprint, job.reading.description)
    parts = [torch.from_numpy(part) for part in (job.split.train, job.split.val)]
    labels = torch.from_numpy(job.targets.values)
    linear = source.linear
    with torch.no_grad():
        logits = [linear(features[part].to(linear.weight)).cpu() for part in parts]
    found = relationship(logits[0], labels[parts[0]], logits[1], labels[parts[1]], job.num_outputs)
    source.relationship.copy_(found)
    return 2.0 * linear.weight.numel() * sum(map(len, parts))


def check_source(job: Job) -> None:
    """Raise `InputError` where a penalty needs the classifier of the pretraining and there is none, or no classes."""
    penalty = job.strategy.regularizer
    if penalty is None or not penalty.needs_source:
        return
    if not isinstance(job.parts.task, Multiclass):
        raise InputError(
            f"strategy.regularizer={type(penalty).__name__} asks which source classes go with each class, so that "
            f"every example must have one, but task={job.parts.task.name}. Use task=multiclass, or another strategy."
        )
    if job.identity["weights"]["weights"] is None:
        raise InputError(
            f"strategy.regularizer={type(penalty).__name__} tunes the classifier that the backbone was pretrained "
            "with, but its weights are random. Use pretrained weights, or another strategy."
        )
    weights = job.factory.record(job.strategy.pretrained)
    if weights.sha256 is not None:  # those of the hub that are not here yet are asked when they are
        job.factory.source_classifier()
