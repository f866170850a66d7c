"""Metrics of one class each, and of rankings, against scikit-learn; labels that are something else."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from headstart.errors import InputError
from headstart.tasks.multiclass import Multiclass
from headstart.tasks.ranking import auroc, average_precision

RNG = np.random.default_rng(1)


def test_rankings_are_scikit_learns_with_ties_too():
    truth = (RNG.random((80, 6)) < 0.3).astype(int)
    scores = RNG.integers(0, 9, (80, 6)) / 9  # many tie
    for column in range(6):
        expected = sk.average_precision_score(truth[:, column], scores[:, column])
        assert average_precision(scores, truth)[column] == pytest.approx(expected)
        assert auroc(scores, truth)[column] == pytest.approx(sk.roc_auc_score(truth[:, column], scores[:, column]))
    none = np.zeros((80, 1), dtype=int)
    assert np.isnan(average_precision(scores[:, :1], none)).all()
    assert np.isnan(auroc(scores[:, :1], none)).all()


def test_metrics_are_scikit_learns():
    labels = RNG.integers(0, 4, 300)
    outputs = torch.from_numpy(RNG.normal(size=(300, 4)) + 1.5 * np.eye(4)[labels]).float()
    found = Multiclass().scores(outputs, torch.from_numpy(labels))
    probability, predicted = torch.softmax(outputs.double(), 1).numpy(), outputs.argmax(1).numpy()
    assert set(found) == set(Multiclass.metrics)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(labels, probability, multi_class="ovr", average="macro"))
    assert found["log_loss"] == found["loss"] == pytest.approx(sk.log_loss(labels, probability))
    assert found["quadratic_kappa"] == pytest.approx(sk.cohen_kappa_score(labels, predicted, weights="quadratic"))
    confidence, bins = probability.max(1), np.clip((probability.max(1) * 15).astype(int), 0, 14)
    gaps = [
        abs((predicted == labels)[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean()
        for b in range(15)
        if (bins == b).any()
    ]
    assert found["expected_calibration_error"] == pytest.approx(sum(gaps), abs=1e-5)
    measured = Multiclass().measured(outputs, torch.from_numpy(labels), Multiclass.metrics)
    assert measured == pytest.approx(found)


def test_what_cannot_be_said_of_a_class_without_examples_is_left_out():
    labels, outputs = torch.zeros(5, dtype=torch.int64), torch.randn(5, 3)
    found = Multiclass().scores(outputs, labels)
    assert "auroc" not in found
    assert np.isfinite(list(found.values())).all()
    assert np.isnan(Multiclass().measured(outputs, labels, ["auroc"])["auroc"])


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([f"{n / 7:.3f}" for n in range(40)], "use task=regression"),
        ([("a", "b"), ("b",)], "task=multilabel"),
        ([(("a", "1"), ("b", "0"))], "task=multilabel"),
        (["a", "a"], "has one class, a"),
    ],
)
def test_labels_of_another_task_are_refused_with_its_name(cells, words):
    with pytest.raises(InputError, match=words):
        Multiclass().encode(cells, "table.csv")


def test_a_monitor_must_be_a_metric_of_the_task():
    Multiclass().check_monitor("val/quadratic_kappa", "trainer.monitor")
    with pytest.raises(InputError, match=r"task=multiclass.*val/rmse.*Choices.*val/auroc"):
        Multiclass().check_monitor("val/rmse", "trainer.monitor")


def test_the_constant_answer_is_shared_by_classes_that_are_equally_frequent_in_training():
    targets = torch.tensor([0, 1, 1, 1, 2, 2, 2, 2, 2, 2])  # shares of 0.1, 0.3 and 0.6
    task = Multiclass()
    for train, expected in (([0, 1, 1, 2], 0.3), ([0, 1, 2], 1 / 3), ([0, 1, 1, 2, 2], 0.45)):
        assert task.baseline(np.array(train), targets) == {"majority_accuracy": pytest.approx(expected)}


def test_of_very_many_probabilities_the_largest_are_kept_and_it_is_said(monkeypatch):
    from headstart import notes
    from headstart.tasks import task

    rng = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(40, 30, generator=rng), torch.randint(30, (40,), generator=rng).numpy()
    whole = Multiclass().predictions(outputs, targets)
    assert whole["probability"].shape == (40, 30)
    monkeypatch.setattr(task, "MOST_KEPT", 40 * 30 - 1)
    with notes.listening() as heard:
        few = Multiclass().predictions(outputs, targets)
    assert heard.messages == [
        "Of 40 test examples and 30 classes the predictions keep the 5 largest probabilities of each example and that "
        "of its own class, not all."
    ]
    assert few.keys() == {"label", "predicted", "top", "top_probability", "own_probability"}
    assert (few["top"][:, 0] == few["predicted"]).all()
    rows = np.arange(40)
    assert (few["own_probability"] == whole["probability"][rows, targets]).all()
    assert (few["top_probability"] == np.sort(whole["probability"])[:, :-6:-1]).all()
    assert (whole["probability"][rows[:, None], few["top"]] == few["top_probability"]).all()


def test_of_many_labels_the_largest_probabilities_are_kept(monkeypatch: pytest.MonkeyPatch):
    from headstart import notes
    from headstart.tasks import task
    from headstart.tasks.multilabel import Multilabel

    outputs = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    targets = (outputs.numpy() > 1).astype(np.float32)
    whole = Multilabel().predictions(outputs, targets)
    monkeypatch.setattr(task, "MOST_KEPT", 40 * 30 - 1)
    with notes.listening() as heard:
        few = Multilabel().predictions(outputs, targets)
    assert heard.messages == [
        "Of 40 test examples and 30 labels the predictions keep the 5 largest probabilities of each example, not all."
    ]
    assert few.keys() == {"label", "predicted", "top", "top_probability"}
    assert all((few[name] == whole[name]).all() for name in ("label", "predicted"))
    assert (few["top_probability"] == np.sort(whole["probability"])[:, :-6:-1]).all()
