"""Temperature, calibration error and conformal regions against what is known of them."""

import json

import numpy as np
import pytest
import torch

from headstart.compat import declare_torchvision_operators
from headstart.errors import InputError
from headstart.tasks.multiclass import Multiclass
from headstart.tasks.multilabel import Multilabel
from headstart.tasks.regression import Regression
from headstart.training.calibration import (
    MOST_KEPT,
    calibration_error,
    calibration_of,
    check_kept,
    check_tempered,
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
    assert (needed(0.9), needed(0.95), needed(0.98)) == (9, 19, 49)
    assert "0.95" in kept["coverage"]
    assert calibration_of(Multiclass(), (logits[:5], classes[:5]), (logits, classes)) is None
    assert conformity(Multilabel(), logits, np.zeros((20, 4))) is None


def kept_of(outputs, targets, task=None):
    return json.loads(json.dumps(calibration_of(task or Multiclass(), (outputs, targets), (outputs, targets))))


@pytest.mark.parametrize("task", [Multiclass(), Multilabel()])
def test_no_temperature_is_best_where_every_answer_is_right(task):
    """The surer the better: it would say 100% of whatever comes."""
    logits, _ = drawn(30)
    right = logits.argmax(1).numpy() if isinstance(task, Multiclass) else (logits > 0).float().numpy()
    kept = kept_of(logits, right, task)
    assert "temperature" not in kept
    assert (
        kept["no_temperature"] == "the surer the better, by its 30 validation examples, as they are all answered right"
    )
    assert [len(pair) for pair in kept["calibration_error"].values()] == [1, 1]
    with pytest.raises(
        InputError, match=r"run has no temperature that is best on val: the surer the better.*an interval"
    ):
        check_tempered(kept, "run")
    if isinstance(task, Multiclass):  # by undivided probabilities
        scores = 1 - torch.softmax(logits, 1).numpy()[np.arange(30), right]
        assert conformal(kept, 0.9, of_numbers=False).limits == pytest.approx(
            [np.sort(scores)[27]]
        )  # rank 28 of 31 * 0.9
        assert kept["coverage"]["0.9"]["covered"] >= 28 / 30


def test_no_temperature_is_best_where_every_answer_is_wrong():
    logits, _ = drawn(30)
    wrong = logits.argmin(1).numpy()
    kept = kept_of(logits, wrong)
    assert (
        "the less sure the better, by its 30 validation examples, of which its outputs say nothing"
        in kept["no_temperature"]
    )
    regions = conformal(kept, 0.9, of_numbers=False)
    held = [
        names[truth] in regions.region(row, names) for row, truth in zip(Multiclass().said(logits), wrong, strict=True)
    ]
    assert np.mean(held) >= 28 / 30
    assert kept["coverage"]["0.9"]["size"] > 3


def test_a_class_that_val_lacks_can_be_in_sets():
    logits, classes = drawn(200)
    seen = classes != 3
    kept = kept_of(logits[seen], classes[seen])
    regions = conformal(kept, 0.95, of_numbers=False)
    said = Multiclass().said(logits / kept["temperature"])
    assert any("d" in regions.region(row, names) for row in said)


def test_numbers_that_are_all_alike_have_intervals_of_no_width():
    task = Regression()
    task.mean, task.spread = (7.0,), (1.0,)
    kept = kept_of(torch.zeros(20, 1), np.full((20, 1), 7.0, np.float32), task)
    assert conformal(kept, 0.9, of_numbers=True).region(np.array([7.0]), ["x"]) == {"x": (7.0, 7.0)}
    assert kept["coverage"]["0.9"] == {"covered": [1.0], "size": [0.0]}


@pytest.mark.parametrize("num_val", [4, 9])
def test_too_few_validation_examples_are_said_with_their_number(num_val):
    with pytest.raises(InputError, match=rf"on 10 validation examples or more, but run had {num_val}\. Train with"):
        check_kept(None, "run", num_val)
    with pytest.raises(InputError, match="keeps no calibration"):
        check_kept(None, "run", 50)
    check_kept({}, "run", 50)


@pytest.mark.parametrize("num_val", [12, 40, 200])
def test_regions_of_a_model_that_was_selected_on_the_same_examples_hold_what_they_say(num_val):
    """Ridge regression whose penalty is the best on val of seven: 88 to 93% at 0.9, over draws of everything."""
    dice, task, covered = np.random.default_rng(0), Regression(), []
    task.mean, task.spread = (0.0,), (1.0,)
    for _ in range(200):
        inputs = dice.standard_normal((40 + num_val + 200, 8))
        targets = inputs @ dice.standard_normal(8) + 2 * dice.standard_normal(len(inputs))
        train, val, test = np.split(np.arange(len(inputs)), [40, 40 + num_val])
        gram, moment = inputs[train].T @ inputs[train], inputs[train].T @ targets[train]
        weights = [np.linalg.solve(gram + l2 * np.eye(8), moment) for l2 in 10.0 ** np.arange(-3, 4)]
        best = min(weights, key=lambda w: np.mean((inputs[val] @ w - targets[val]) ** 2))
        outputs = torch.from_numpy(inputs @ best)[:, None].float()
        parts = [(outputs[part], targets[part, None].astype(np.float32)) for part in (val, test)]
        covered.append(calibration_of(task, *parts)["coverage"]["0.9"]["covered"][0])
    assert 0.88 < np.mean(covered) < 0.93
