"""What it takes to solve for an exact probe, foretold from a few evaluations."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from headstart.advice import solving
from headstart.advice.price import Price, price
from headstart.advice.words import costs
from headstart.tasks.multiclass import Multiclass
from headstart.training.solver import solve

CPU = torch.device("cpu")


def job_of(num_classes: int, a_class: int) -> SimpleNamespace:
    """As much of a job as solving asks for."""
    task = Multiclass()
    parts = SimpleNamespace(task=SimpleNamespace(exact=lambda: task))
    labels = np.repeat(np.arange(num_classes), a_class)
    targets = SimpleNamespace(values=labels)
    split = SimpleNamespace(train=np.arange(len(labels)), sizes={"train": len(labels), "val": 8, "test": 8})
    settings = SimpleNamespace(trainer=SimpleNamespace(batch_size=16))
    return SimpleNamespace(
        parts=parts, targets=targets, split=split, num_outputs=num_classes, cfg=settings, is_probe=True
    )


def test_the_price_of_an_exact_probe_foretells_how_often_solving_for_it_evaluates(monkeypatch):
    """With a second as the price of each evaluation, seconds are evaluations, whatever else the machine does."""
    monkeypatch.setattr(solving, "_an_evaluation", lambda *_: 1.0)
    job, rng = job_of(30, 10), np.random.default_rng(0)
    labels, width = job.targets.values, 96
    scale = np.arange(1, width + 1) ** -0.7
    places = rng.normal(size=(30, width))[labels] + 0.8 * rng.normal(size=(300, width))
    features, targets = torch.tensor(scale * places).float(), torch.from_numpy(labels)
    task, val = job.parts.task.exact().fitted(labels, 30), np.arange(0, 300, 7)
    rough = solve(features, targets, job.split.train, val, 30, "auto", task, tolerance=1e-5, says=False)
    told = solving.seconds_to_solve(job, width, CPU, rough.num_steps)
    fine = solve(features, targets, job.split.train, val, 30, "auto", task, says=False)
    assert fine.num_steps / 2 < told < 2 * fine.num_steps


def test_of_many_examples_a_part_is_timed_and_its_time_drawn_out(monkeypatch):
    seen = []
    monkeypatch.setattr(solving, "_an_evaluation", lambda job, targets, *rest: seen.append(len(targets)) or 0.5)
    monkeypatch.setattr(solving, "MOST_WORK", 100 * 384 * 1_000)
    assert solving.seconds_to_solve(job_of(1_000, 2), 384, CPU, 100) == pytest.approx(4 * 100 * 20 * 0.5)
    assert seen == [100]


def test_heads_too_large_to_try_have_no_price_and_it_is_said():
    told = solving.seconds_to_solve(job_of(100_000, 1), 1_280, CPU, 100)
    assert told != told
    found = SimpleNamespace(prices={("one", "probe"): price("probe", job_of(4, 2), 0.1, told)})
    assert list(costs(found, None)) == [
        "How long an exact probe on one takes is not known: its head is too large to be tried."
    ]


def test_solving_is_part_of_a_probes_price_and_long_solving_is_said():
    found = price("probe", job_of(4, 2), 0.5, 300.0)
    assert isinstance(found, Price)
    assert found.seconds == pytest.approx(0.5 * (8 + 8 + 8) + 300)
    said = " ".join(costs(SimpleNamespace(prices={("one", "probe"): found}), None))
    assert said == (
        "An exact probe on one takes about 5 min 00 s to be solved for: head.solver=gradient trains it by steps."
    )
    assert not list(costs(SimpleNamespace(prices={("one", "probe"): price("probe", job_of(4, 2), 0.5, 3.0)}), None))
