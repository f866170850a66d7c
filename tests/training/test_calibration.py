"""Temperature, calibration error and conformal regions against what is known of them."""

import json

import numpy as np
import pytest
import torch

from headstart.compat import declare_torchvision_operators
from headstart.tasks.multiclass import Multiclass
from headstart.tasks.multilabel import Multilabel
from headstart.tasks.regression import Regression
from headstart.training.calibration import (
    MOST_KEPT,
    calibration_error,
    calibration_of,
    conformal,
    conformity,
    fitted_temperature,
    needed,
)

declare_torchvision_operators()


def drawn(count: int, num_classes: int = 4, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Logits, and classes drawn from their very probabilities."""
    torch.manual_seed(seed)
    logits = 2 * torch.randn(count, num_classes)
    return logits, torch.multinomial(torch.softmax(logits, 1), 1)[:, 0].numpy()


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_the_temperature_undoes_what_logits_were_multiplied_by(factor: float):
    logits, classes = drawn(20_000)
    assert fitted_temperature(Multiclass(), factor * logits, classes) == pytest.approx(factor, rel=0.05)
    labels = torch.bernoulli(torch.sigmoid(logits)).numpy()
    assert fitted_temperature(Multilabel(), factor * logits, labels) == pytest.approx(factor, rel=0.05)


def test_the_temperature_is_the_minimum_of_the_loss():
    logits, classes = drawn(200)
    task, truth = Multiclass(), torch.from_numpy(classes)
    found = fitted_temperature(task, 2.5 * logits, classes)
    losses = [float(task.plain_loss(2.5 * logits.double() / t, truth)) for t in (found, found * 1.01, found / 1.01)]
    assert losses[0] == min(losses)


def test_the_calibration_error_is_torchmetrics():
    from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

    logits, classes = drawn(500)
    expected = multiclass_calibration_error(torch.softmax(3 * logits, 1), torch.from_numpy(classes), 4, n_bins=15)
    assert calibration_error(Multiclass(), 3 * logits, classes) == pytest.approx(float(expected), abs=1e-6)
    labels = torch.bernoulli(torch.sigmoid(logits))
    expected = binary_calibration_error(torch.sigmoid(2 * logits).ravel(), labels.long().ravel(), n_bins=15)
    assert calibration_error(Multilabel(), 2 * logits, labels.numpy()) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("count", [50, 2000])
@pytest.mark.parametrize("level", [0.8, 0.9])
def test_sets_hold_the_class_as_often_as_they_say_on_average_over_draws(count: int, level: float):
    task, covered = Multiclass(), []
    for seed in range(40):
        logits, classes = drawn(count + 500, seed=seed)
        val, test = (logits[:count], classes[:count]), (logits[count:], classes[count:])
        kept = json.loads(json.dumps(calibration_of(task, val, test)))
        regions = conformal(kept, level, of_numbers=False)
        said = task.said(test[0] / kept["temperature"])
        inside = [names[truth] in regions.region(row, names) for row, truth in zip(said, test[1], strict=True)]
        covered.append(np.mean(inside))
        assert kept["coverage"][f"{level:g}"]["covered"] == pytest.approx(covered[-1])
    assert level - 0.01 < np.mean(covered) < level + 0.04
    assert len(kept["conformity"][0]) == min(count, MOST_KEPT)


names = ["a", "b", "c", "d"]


def test_intervals_of_numbers_are_the_quantile_of_absolute_errors():
    task = Regression()
    task.mean, task.spread = (100.0, -5.0), (10.0, 2.0)
    torch.manual_seed(0)
    outputs = torch.randn(99, 2)
    errors = np.random.default_rng(0).standard_normal((99, 2))
    targets = (task.said(outputs) + errors).astype(np.float32)
    kept = calibration_of(task, (outputs, targets), (outputs, targets))
    regions = conformal(kept, 0.9, of_numbers=True)
    expected = np.sort(np.abs(task.said(outputs) - targets), axis=0)[89]  # rank ceil(100 * 0.9) = 90
    np.testing.assert_allclose(regions.limits, expected)
    low, high = regions.region(np.array([1.0, 2.0]), ["x", "y"])["y"]
    assert (low, high) == pytest.approx((2 - expected[1], 2 + expected[1]))
    assert "temperature" not in kept


def test_levels_that_the_examples_cannot_bear_give_nothing():
    logits, classes = drawn(20)
    kept = calibration_of(Multiclass(), (logits, classes), (logits, classes))
    assert conformal(kept, 0.96, of_numbers=False) is None
    assert conformal(kept, 0.95, of_numbers=False) is not None
    assert needed(0.95) == 19
    assert "0.95" in kept["coverage"]
    assert calibration_of(Multiclass(), (logits[:5], classes[:5]), (logits, classes)) is None
    assert conformity(Multilabel(), logits, np.zeros((20, 4))) is None
