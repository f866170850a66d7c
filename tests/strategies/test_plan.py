"""The plan as data: JSON and back, phases by epoch, breaks in training, warm-up."""

import json

import pytest

from headstart.strategies.plan import HEAD, Plan
from headstart.strategies.strategy import Strategy
from headstart.strategies.unfreeze import AtStart, Gradual, HeadFirst, OnPlateau, Phases

UNFREEZE = [
    AtStart(),
    Gradual(every=1, warmup_epochs=0.5),
    OnPlateau(restore_best=True),
    HeadFirst(epochs=2, rate=0.1, restart=True),
    Phases([{"start": 0, "groups": []}, {"start": 1, "groups": ["tail"], "rates": {"head": 0.1}}]),
]


@pytest.mark.parametrize("unfreeze", UNFREEZE, ids=lambda unfreeze: type(unfreeze).__name__)
def test_a_plan_survives_json(kinds, unfreeze):
    plan = Strategy(lr=0.1, layer_decay=0.9, frozen_norm="batch_stats").plan(kinds, unfreeze, 20)
    again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    assert again.digest() == plan.digest()


def test_plans_that_differ_have_other_digests(kinds):
    plans = [Strategy(lr=0.1).plan(kinds, unfreeze, 20) for unfreeze in UNFREEZE]
    assert len({plan.digest() for plan in plans}) == len(UNFREEZE)


def test_the_phase_of_an_epoch_follows_the_calendar(kinds):
    plan = Strategy(lr=0.1).plan(kinds, Gradual(every=2, num_groups=3), 9)
    assert [plan.phase_at(epoch) for epoch in range(9)] == [0, 0, 1, 1, 2, 2, 2, 2, 2]


def test_a_group_frozen_for_a_while_counts_from_its_second_thaw(kinds):
    phases = [
        {"start": 0, "groups": ["tail"]},
        {"start": 1, "groups": []},
        {"start": 2, "groups": ["tail"]},
        {"start": 3, "groups": ["tail"]},
    ]
    plan = Strategy(lr=0.1).plan(kinds, Phases(phases, warmup_epochs=2.0), 4)
    assert [plan.thawed_in(phase, "tail") for phase in range(4)] == [0, None, 2, 2]
    assert plan.warmup(0, "tail", [0.5]) == 1.0  # thawed at the start: the schedule's own warm-up is enough
    assert plan.warmup(2, "tail", [2.5, 1.5, 0.5]) == 0.25
    assert plan.warmup(3, "tail", [3.5, 2.5, 1.5, 0.5]) == 0.75
    assert plan.warmup(3, HEAD, [3.5, 2.5, 1.5, 0.5]) == 1.0


def test_a_schedule_runs_once_or_anew_in_each_phase(kinds):
    once = Strategy(lr=0.1).plan(kinds, HeadFirst(epochs=2), 9)
    anew = Strategy(lr=0.1).plan(kinds, HeadFirst(epochs=2, restart=True), 9)
    assert [once.span(0), once.span(1)] == [(0, 9), (0, 9)]
    assert [anew.span(0), anew.span(1)] == [(0, 2), (2, 9)]
