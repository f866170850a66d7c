"""From where each phase of a plan can start: the lowest groups are passed over as long as they never change."""

from itertools import pairwise, takewhile

import torch

from headstart.backbones.backbone import Backbone, Inputs
from headstart.strategies.plan import Plan

STORED_SHARE = 0.5
"""Of the feature store's budget, what the activations of one run may take."""


def starts(
    backbone: Backbone, plan: Plan, example: Inputs | None, num_read: int, num_examples: int, room: float
) -> dict[int, str]:
    """By phase, the highest group whose stored activations training can start from; a phase may have none.

    Features, what the last group gives, serve while the head alone trains. Below it the model is cut where it can be
    cut exactly, if the phase is long enough to pay for the pass over all examples, and all activations together fit.

    Args:
        example: examples `(B, …)`, one at least; None where nothing but features can be stored.
        num_read: examples that are read in each epoch, for training and validation.
        num_examples: examples that activations would be stored of.
        room: bytes that activations may take.
    """
    begins = [phase.start for phase in plan.phases]
    chosen: dict[int, str] = {}
    sizes: dict[str, float] = {}
    for phase, (start, end) in enumerate(pairwise([*begins, plan.max_epochs])):
        if plan.probes(phase):
            chosen[phase] = backbone.groups()[-1].name
            continue
        # a phase that waits for a plateau may never begin, or end at once
        lasts = start is not None and end is not None and (end - start) * num_read >= 2 * num_examples
        group = _highest_cut(backbone, plan, phase) if lasts and example is not None else None
        if group is not None and example is not None:
            sizes[group] = _num_bytes(backbone, example, group) * num_examples
            if sum(sizes.get(name, 0) for name in {*chosen.values(), group}) <= room:
                chosen[phase] = group
    return chosen


def _highest_cut(backbone: Backbone, plan: Plan, phase: int) -> str | None:
    """The last group within those that a phase leaves untouched, however coarse, that the model can be cut after."""
    untouched = plan.untouched(phase)
    if not untouched:
        return None
    coarse = [group for group in backbone.groups(plan.granularity) if group.name in untouched]
    frozen = {id(parameter) for group in coarse for parameter in group.parameters.values()}
    below = takewhile(lambda group: all(id(p) in frozen for p in group.parameters.values()), backbone.groups())
    exact = set(backbone.boundaries)
    return next((group.name for group in reversed(list(below)) if group.name in exact), None)


def _num_bytes(backbone: Backbone, example: Inputs, group: str) -> float:
    """Bytes of one example's activations after `group`."""
    was_training = backbone.training
    with torch.no_grad():
        activations = backbone.eval().prefix(example, group)
    backbone.train(was_training)
    return sum(tensor.nbytes / len(tensor) for tensor in activations.values())
