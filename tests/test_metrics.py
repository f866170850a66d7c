"""Which way a metric is better, which epoch is best by it, and metrics in which all classes weigh the same."""

from math import nan

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from headstart import metrics
from headstart.report.metric import Metric


@pytest.mark.parametrize(
    ("metric", "mode", "share"),
    [
        ("val/accuracy", "max", True),
        ("val/balanced_accuracy", "max", True),
        ("val/macro_f1", "max", True),
        ("val/loss", "min", False),
        ("test/calibration_error", "min", False),
    ],
)
def test_every_metric_has_a_better_way(metric, mode, share):
    assert (metrics.mode(metric), metrics.is_share(metric)) == (mode, share)
    assert metrics.sign(metric) == (1 if mode == "max" else -1)


@pytest.mark.parametrize(
    ("monitor", "values", "best"),
    [
        ("val/accuracy", [0.1, 0.7, 0.7, 0.2], 1),
        ("val/loss", [3.0, 1.0, 2.0, 1.0], 1),
        ("val/loss", [nan, 2.0, nan, 1.5], 3),
        ("val/macro_f1", [nan, nan], 0),
    ],
)
def test_the_best_epoch_is_the_earliest_of_the_best(monitor, values, best):
    assert metrics.best_epoch([{monitor: value} for value in values], monitor) == best


def test_what_is_better_by_no_more_than_min_delta_is_waited_on():
    watch = metrics.Watch("val/loss", min_delta=0.5)
    assert [watch.see(value) for value in (3.0, 2.5, 2.4, nan, 1.9)] == [True, False, True, False, False]
    assert watch.waited == 2


def test_classes_that_weigh_the_same_are_averaged_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    for num_classes in (2, 3, 40):
        labels = rng.integers(0, num_classes, 60) % max(2, num_classes - 5)  # some classes have no examples
        predicted = np.where(rng.random((4, 60)) < 0.4, labels, rng.integers(0, num_classes, (4, 60)))
        found = metrics.of_classes(metrics.counts(labels, predicted, num_classes))
        for row in range(4):
            recalls = [np.mean(predicted[row][labels == label] == label) for label in np.unique(labels)]
            assert found["balanced_accuracy"][row] == pytest.approx(np.mean(recalls))
            if set(predicted[row]) <= set(labels):
                assert found["balanced_accuracy"][row] == pytest.approx(balanced_accuracy_score(labels, predicted[row]))
            assert found["macro_f1"][row] == pytest.approx(f1_score(labels, predicted[row], average="macro"))
            alone = metrics.of_classes(metrics.counts(labels, predicted[row], num_classes))
            assert {name: value[row] for name, value in found.items()} == alone


@pytest.mark.parametrize(
    ("name", "scores", "text"),
    [
        ("accuracy", (-1.618, 2.618), "0.0 to 100.0%"),
        ("accuracy", (0.52, 0.61), "52.0 to 61.0%"),
        ("rmse", (-3.0, 0.5), "0.000 to 3.000"),
        ("r2", (-4.0, 1.5), "−4.000 to 1.000"),
        ("quadratic_kappa", (-1.5, 1.5), "−1.000 to 1.000"),
    ],
)
def test_an_interval_ends_where_the_measure_does(name: str, scores: tuple[float, float], text: str):
    assert Metric(name, 3).range(*scores) == text
