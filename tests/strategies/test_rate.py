"""One function tells every rate, whether it is trained by or drawn, to the bit."""

import pytest

from headstart.strategies import drawing
from headstart.strategies.plan import HEAD, KINDS, Plan
from headstart.strategies.rate import PhaseRates, foreseen, head_alone
from headstart.strategies.schedule import Constant, Cosine, OneCycle, SlantedTriangular
from headstart.strategies.strategy import Strategy
from headstart.strategies.unfreeze import AtStart, Gradual, HeadFirst, Phases

STEPS = 7
"""Of an epoch."""
SCHEDULES = [Constant(), Cosine(), OneCycle(), SlantedTriangular()]


def plans(kinds) -> list[Plan]:
    unfreezes = [
        AtStart(), Gradual(every=2, num_groups=3, warmup_epochs=1.5, restart=True), HeadFirst(epochs=3, rate=0.1),
        Phases([{"start": 0}, {"start": 1, "groups": ["*"], "rate": 0.5}], warmup_epochs=0.7),
    ]  # fmt: skip
    return [Strategy(lr=0.1, layer_decay=0.7).plan(kinds, unfreeze, 9) for unfreeze in unfreezes]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize("total", [9 * STEPS, 5 * STEPS + 3])
def test_a_rate_is_base_times_schedule_times_multiplier_times_warm_up(kinds, schedule, total: int):
    for plan in plans(kinds):
        begun = [phase.start * STEPS for phase in plan.phases]
        for step in range(total):
            index = sum(start <= step for start in begun) - 1
            start, end = (epoch * STEPS for epoch in plan.span(index))
            rates = PhaseRates(plan, schedule.factor, index, STEPS, total, begun[: index + 1])
            ahead = foreseen(plan, schedule.factor, step // STEPS, STEPS, total)
            for group in plan.groups:
                for kind in KINDS:
                    warmup = plan.warmup(index, group, [(step + 1 - begun[p]) / STEPS for p in range(index + 1)])
                    factor = schedule.factor(step - start, min(end, total) - start)
                    expected = 0.03 * factor * plan.phases[index].rates[group][kind] * warmup
                    assert rates.at(step, (group, kind), 0.03) == expected
                    assert ahead.at(step, (group, kind), 0.03) == expected


def test_a_head_alone_trains_at_the_schedule_of_the_base_rate():
    for schedule in SCHEDULES:
        for step in range(5 * STEPS):
            rates = foreseen(head_alone(5), schedule.factor, step // STEPS, STEPS, 33)
            assert rates.at(step, (HEAD, "weight"), 0.003) == 0.003 * schedule.factor(step, 33)


def test_what_is_drawn_is_the_highest_rate_of_each_epoch(kinds):
    for plan in plans(kinds):
        drawn = drawing.rates(plan, Cosine())
        for epoch in range(plan.max_epochs):
            rates = foreseen(plan, Cosine().factor, epoch, drawing.STEPS_PER_EPOCH, 9 * drawing.STEPS_PER_EPOCH)
            steps = range(epoch * drawing.STEPS_PER_EPOCH, (epoch + 1) * drawing.STEPS_PER_EPOCH)
            for group in plan.groups:
                highest = max(rates.at(step, (group, kind)) for step in steps for kind in KINDS)
                assert drawn[group][epoch] == highest
