"""Schedules against torch's own, a closed form and the paper's equation."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from headstart.strategies.schedule import Constant, Cosine, OneCycle, SlantedTriangular

ALL = [Constant(), Constant(0.2), Cosine(), Cosine(0.0, 0.1), OneCycle(), SlantedTriangular()]


def rates_by_torch(make, num_steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("num_steps", [12, 37, 200])
@pytest.mark.parametrize("rise", [0.1, 0.3, 0.5])
def test_one_cycle_gives_the_rates_of_torch(num_steps, rise):
    expected = rates_by_torch(
        lambda optimizer: OneCycleLR(
            optimizer, max_lr=1.0, total_steps=num_steps, pct_start=rise, cycle_momentum=False
        ),
        num_steps,
    )
    schedule = OneCycle(rise=rise)
    assert [schedule.factor(step, num_steps) for step in range(num_steps)] == pytest.approx(expected, rel=1e-9)


def test_one_cycle_takes_torchs_divisors():
    expected = rates_by_torch(
        lambda o: OneCycleLR(o, 1.0, total_steps=50, div_factor=10.0, final_div_factor=100.0, cycle_momentum=False), 50
    )
    schedule = OneCycle(start_divisor=10.0, end_divisor=100.0)
    assert [schedule.factor(step, 50) for step in range(50)] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("final", [0.0, 0.25])
def test_cosine_without_warmup_gives_the_rates_of_torch(final):
    expected = rates_by_torch(lambda optimizer: CosineAnnealingLR(optimizer, T_max=40, eta_min=final), 40)
    schedule = Cosine(warmup=0.0, final=final)
    assert [schedule.factor(step, 40) for step in range(40)] == pytest.approx(expected, rel=1e-9)


def test_cosine_warms_up_in_a_line_then_falls_by_half_a_cosine():
    schedule = Cosine(warmup=0.1, final=0.2)
    for step in range(100):
        expected = (step + 1) / 11 if step < 10 else 0.2 + 0.4 * (1 + math.cos(math.pi * (step - 10) / 90))
        assert schedule.factor(step, 100) == pytest.approx(expected, rel=1e-12)


def test_slanted_triangular_is_equation_3_of_howard_and_ruder():
    num_steps, cut_frac, ratio, highest = 200, 0.1, 32, 0.01
    cut = math.floor(num_steps * cut_frac)
    schedule = SlantedTriangular(cut_frac, float(ratio))
    for t in range(num_steps):
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / cut_frac - 1))
        assert 0.01 * schedule.factor(t, num_steps) == pytest.approx(highest * (1 + p * (ratio - 1)) / ratio, rel=1e-12)


@pytest.mark.parametrize("schedule", ALL, ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 15, 100])
def test_every_schedule_stays_between_nothing_and_the_base_rate(schedule, num_steps):
    factors = [schedule.factor(step, num_steps) for step in range(num_steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert num_steps < 15 or max(factors) > 0.9
