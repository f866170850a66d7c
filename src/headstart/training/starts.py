"""From where each phase of a plan can start: the lowest groups are passed over as long as they never change."""

from dataclasses import dataclass
from itertools import pairwise, takewhile

import torch

from headstart.backbones.backbone import Backbone, Inputs
from headstart.strategies.plan import Plan

STORED_SHARE = 0.5
"""Of the feature store's budget, what the activations of one run may take."""


@dataclass(frozen=True)
class Stored:
    """What storing activations would be storing them of."""

    example: Inputs
    """Examples `(B, …)`, one at least."""
    times: float
    """How many times what is stored of one of them is stored in all."""
    passes: float
    """Examples that are run to store it all, over those that an epoch of training and validation reads."""


def starts(backbone: Backbone, plan: Plan, stored: Stored | None, room: float) -> dict[int, str]:
    """By phase, the highest group whose stored activations training can start from; a phase may have none.

    Features, what the last group gives, serve while the head alone trains. Below it the model is cut where it can be
    cut exactly, if the phase is long enough to pay for the pass over all examples, and all activations together fit
    into `room` bytes. With `stored` None, nothing but features can be stored.
    """
    begins = [phase.start for phase in plan.phases]
    chosen: dict[int, str] = {}
    sizes: dict[str, float] = {}
    for phase, (start, end) in enumerate(pairwise([*begins, plan.max_epochs])):
        if plan.probes(phase):
            chosen[phase] = backbone.groups()[-1].name
            continue
        # a phase that waits for a plateau may never begin, or end at once
        if stored is None or start is None or end is None or end - start < 2 * stored.passes:
            continue
        group = _highest_cut(backbone, plan, phase)
        if group is not None:
            sizes[group] = _num_bytes(backbone, stored, group)
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


def _num_bytes(backbone: Backbone, stored: Stored, group: str) -> float:
    """Bytes of all activations after `group`."""
    was_training = backbone.training
    with torch.no_grad():
        activations = backbone.eval().prefix(stored.example, group)
    backbone.train(was_training)
    return stored.times * sum(tensor.nbytes / len(tensor) for tensor in activations.values())
