"""Losses, gradients and metrics against torch, scikit-learn and scipy."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch.nn import functional as F

from headstart.errors import InputError
from headstart.tasks.multiclass import Multiclass
from headstart.tasks.multilabel import Multilabel
from headstart.tasks.regression import Regression
from headstart.tasks.task import Targets

RNG = np.random.default_rng(0)
LABELS = (RNG.random((200, 4)) < np.array([0.5, 0.3, 0.1, 0.05])).astype(np.float32)
OUTPUTS = torch.from_numpy(RNG.normal(size=(200, 4)) + LABELS).float()
NUMBERS = RNG.normal(50, 12, (200, 2)).astype(np.float32)


@pytest.mark.parametrize(
    "task",
    [
        Multilabel(),
        Multilabel(positive_weights="balanced").fitted(LABELS, 4),
        *(Regression(objective=kind, delta=0.7).fitted(NUMBERS, 2) for kind in ("mse", "huber", "l1")),
    ],
    ids=["plain", "weighted", "mse", "huber", "l1"],
)
def test_the_loss_of_stacked_heads_and_its_gradient_are_autograds(task):
    targets = LABELS if isinstance(task, Multilabel) else NUMBERS
    num = targets.shape[1]
    scores = torch.randn(3, num, 32, requires_grad=True, generator=torch.Generator().manual_seed(1))
    chosen = torch.from_numpy(np.stack([targets[start : start + 32] for start in (0, 40, 80)]))
    losses, gradient = task.stack([task] * 3, num, torch.device("cpu")).loss(scores.detach(), chosen)
    for head in range(3):
        loss = task.loss(scores[head].T, chosen[head])
        (expected,) = torch.autograd.grad(loss, scores)
        assert losses[head].mean().item() == pytest.approx(loss.item(), rel=1e-5)
        torch.testing.assert_close(gradient[head], expected[head], rtol=1e-4, atol=1e-7)


def test_a_heads_loss_is_bit_equal_alone_and_in_company():
    tasks = [Regression(objective=kind).fitted(NUMBERS, 2) for kind in ("mse", "huber", "l1")]
    scores, targets = torch.randn(3, 2, 17), torch.from_numpy(np.stack([NUMBERS[:17]] * 3))
    together = Regression.stack(tasks, 2, torch.device("cpu"))
    losses, gradient = together.loss(scores, targets)
    for place, task in enumerate(tasks):
        alone = Regression.stack([task], 2, torch.device("cpu")).loss(scores[[place]], targets[[place]])
        assert torch.equal(alone[0][0], losses[place])
        assert torch.equal(alone[1][0], gradient[place])
    together.keep([2])
    assert torch.equal(together.loss(scores[[2]], targets[[2]])[0][0], losses[2])


def test_metrics_of_several_labels_are_scikit_learns():
    found = Multilabel().scores(OUTPUTS, torch.from_numpy(LABELS))
    p, said = torch.sigmoid(OUTPUTS).numpy(), (torch.sigmoid(OUTPUTS) >= 0.5).numpy()
    assert found["mean_average_precision"] == pytest.approx(sk.average_precision_score(LABELS, p, average="macro"))
    assert found["micro_average_precision"] == pytest.approx(
        sk.average_precision_score(LABELS, p, average="micro"), abs=1e-6
    )
    assert found["macro_f1"] == pytest.approx(sk.f1_score(LABELS, said, average="macro"))
    assert found["micro_f1"] == pytest.approx(sk.f1_score(LABELS, said, average="micro"))
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(LABELS, p, average="macro"))
    assert found["exact_match"] == pytest.approx(sk.accuracy_score(LABELS, said))
    assert found["loss"] == pytest.approx(F.binary_cross_entropy_with_logits(OUTPUTS, torch.from_numpy(LABELS)).item())


def test_metrics_of_numbers_are_scikit_learns_in_the_datas_units():
    task = Regression().fitted(NUMBERS[:150], 2)
    outputs = torch.from_numpy((NUMBERS - np.array(task.mean)) / np.array(task.spread)).float() + 0.3
    found, said = task.scores(outputs, torch.from_numpy(NUMBERS)), task.in_units(outputs.double()).numpy()
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(NUMBERS, said), rel=1e-5)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(NUMBERS, said), rel=1e-5)
    assert found["r2"] == pytest.approx(sk.r2_score(NUMBERS, said), rel=1e-5)
    assert found["spearman"] == pytest.approx(1)
    baseline = task.baseline(NUMBERS, torch.from_numpy(NUMBERS))
    assert baseline["baseline_rmse"] == pytest.approx(
        sk.root_mean_squared_error(NUMBERS, np.full_like(NUMBERS, 1) * np.array(task.mean)), rel=1e-5
    )


@pytest.mark.parametrize(
    "cells",
    [
        ["a,b", "b", "[]", "c , a"],
        [["a", "b"], ["b"], [], ["c", "a"]],
        ['["a", "b"]', "['b']", "[]", "['c', 'a']"],
        [
            (("a", "1"), ("b", "1"), ("c", "0")),
            (("a", "0"), ("b", "1.0"), ("c", "False")),
            (("a", "0"), ("b", "0"), ("c", "0")),
            (("a", "true"), ("b", "0"), ("c", "1")),
        ],
    ],
    ids=["separator", "lists", "lists in text", "columns"],
)
def test_labels_are_read_from_cells_lists_and_columns(cells):
    targets = Multilabel().encode(cells, "table.csv")
    assert targets.names == ("a", "b", "c")
    assert targets.values.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]]


@pytest.mark.parametrize(
    ("task", "cells", "words"),
    [
        (Multilabel(), [0.31, 0.77], "use task=regression"),
        (Multilabel(), ["a", "a"], "use task=multiclass"),
        (Multilabel(), [(("a", "2"), ("b", "0"))], "must hold 0 or 1, but 'a' holds '2'"),
        (Regression(), ["1.5", "cat"], "2: 'cat'.*use task=multiclass"),
        (Regression(), ["1", "nan"], "2: 'nan'"),
        (Regression(), ["1", "1"], "nothing can be learned"),
    ],
)
def test_labels_of_another_task_are_refused_with_its_name(task, cells, words):
    with pytest.raises(InputError, match=words):
        task.encode(cells, "table.csv")


def test_numbers_are_stratified_by_quantile():
    strata, names = Regression(bins=4).strata(Regression().encode([str(n) for n in range(40)], "t"))
    assert np.bincount(strata).tolist() == [10, 10, 10, 10]
    assert len(names) == 4
    few, names = Regression(bins=5).strata(Regression().encode(["0", "0", "0", "1"] * 7, "t"))
    assert few.tolist() == [0, 0, 0, 1] * 7


def test_what_a_part_lacks_is_said_with_its_number():
    labels = Targets(np.array([[1, 0], [1, 1], [0, 0], [1, 0]], dtype=np.float32), ("a", "rare"))
    said = Multilabel().remarks(labels, {"train": labels.values[1:], "val": labels.values[[0, 3]]})
    assert said == [
        "1 of 2 labels has no example in val: 'rare' (1), with how many there are in all. Averages over labels leave "
        "them out there."
    ]
    classes = Targets(np.array([0, 0, 1, 2, 2]), ("x", "y", "z"))
    (one,) = Multiclass().remarks(classes, {"test": classes.values[:2]})
    assert one.startswith("2 of 3 classes have no example in test: 'y' (1), 'z' (2)")
    numbers = Targets(np.arange(100, dtype=np.float32)[:, None], ("n",))
    (two,) = Regression(bins=4).remarks(numbers, {"train": numbers.values[30:], "val": numbers.values[::5]})
    assert two.startswith("1 of 4 ranges of the first target has no example in train: '0 to 24.75' (25)")
    assert two.endswith("Nothing is learned of them.")


def test_few_numbers_are_divided_into_few_quantiles():
    for count, expected in ((6, 1), (14, 2), (35, 5), (200, 5)):
        values = np.arange(count, dtype=np.float32)[:, None]
        assert len(Regression().strata(Targets(values, ("n",)))[1]) == expected
