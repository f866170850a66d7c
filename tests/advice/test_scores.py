"""Scores of features against other people's code and closed forms."""

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import BayesianRidge
from sklearn.neighbors import KNeighborsClassifier

from headstart.advice import neighbours, scores
from headstart.tasks.multiclass import Multiclass
from headstart.tasks.multilabel import Multilabel
from headstart.tasks.regression import Regression

RNG = np.random.default_rng(3)


def examples(num: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    labels = RNG.integers(0, classes, num)
    return RNG.normal(size=(num, width)) + 0.8 * np.eye(max(width, classes))[labels][:, :width], labels


@pytest.mark.parametrize(("num", "width"), [(150, 12), (80, 60)])
def test_log_me_is_the_evidence_that_bayesian_ridge_maximises(num, width):
    x, labels = examples(num, width, 4)
    expected = []
    for target in np.eye(4)[labels].T:
        ridge = BayesianRidge(
            alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0, max_iter=3000, tol=1e-12, compute_score=True
        )
        expected.append(ridge.fit(x, target).scores_[-1] / num)
    assert scores.log_me(x, np.eye(4)[labels]) == pytest.approx(np.mean(expected), rel=1e-4)


def test_log_me_says_nothing_of_more_features_than_examples():
    x, labels = examples(40, 60, 4)
    assert np.isnan(scores.log_me(x, np.eye(4)[labels]))


def test_the_h_score_without_shrinkage_is_pillais_trace():
    manova = pytest.importorskip("statsmodels.multivariate.manova")
    x, labels = examples(120, 6, 3)
    design = np.column_stack([np.ones(len(x)), np.eye(3)[labels][:, 1:]])
    hypothesis = [("classes", np.array([[0.0, 1, 0], [0, 0, 1]]), None)]
    table = manova.MANOVA(x, design).mv_test(hypothesis).results["classes"]["stat"]
    assert scores.pillai(x, np.eye(3)[labels]) == pytest.approx(table.loc["Pillai's trace", "Value"], rel=1e-8)


@pytest.mark.parametrize(("num", "width"), [(150, 12), (40, 60)])
def test_shrinkage_and_h_score_are_those_of_scikit_learns_covariance(num, width):
    x, labels = examples(num, width, 4)
    around = x - x.mean(0)
    covariance, shrinkage = ledoit_wolf(around, assume_centered=True)
    assert scores.ledoit_wolf(around) == pytest.approx(shrinkage, rel=1e-8)
    means = np.stack([around[labels == label].mean(0) for label in range(4)])[labels]
    between = (1 - shrinkage) * means.T @ means / num
    assert scores.h_score(x, np.eye(4)[labels]) == pytest.approx(
        np.trace(np.linalg.solve(covariance, between)), rel=1e-6
    )


def test_of_numbers_the_h_score_is_r_squared():
    from sklearn.linear_model import LinearRegression

    x = RNG.normal(size=(200, 5))
    y = x @ RNG.normal(size=5) + RNG.normal(size=200)
    assert scores.pillai(x, y[:, None]) == pytest.approx(LinearRegression().fit(x, y).score(x, y), rel=1e-8)


def test_a_vote_is_scikit_learns_without_the_example_itself():
    x, labels = examples(90, 10, 4)
    task, targets = Multiclass(), torch.from_numpy(labels)
    near = neighbours.nearest(torch.from_numpy(x), np.arange(90))
    votes = neighbours.voted(near, task.shares(targets, 4))
    around = x - x.mean(0)
    expected = []
    for place in range(90):
        others = np.arange(90) != place
        model = KNeighborsClassifier(5, metric="cosine", algorithm="brute").fit(around[others], labels[others])
        expected.append(model.predict_proba(around[[place]])[0])
    np.testing.assert_allclose(votes.numpy(), expected)
    assert (task.outputs_of(votes).argmax(1).numpy() == np.argmax(expected, 1)).all()


def test_copies_and_examples_of_one_group_do_not_vote_for_each_other():
    x = torch.from_numpy(np.repeat(RNG.normal(size=(10, 8)), 2, axis=0))
    near = neighbours.nearest(x, np.repeat(np.arange(10), 2))
    assert (near // 2 != torch.arange(20)[:, None] // 2).all()


def test_outputs_say_what_they_were_made_of():
    shares = torch.tensor([[0.2, 0.8], [1.0, 0.0]], dtype=torch.float64)
    np.testing.assert_allclose(Multiclass().said(Multiclass().outputs_of(shares)), shares, atol=1e-6)
    np.testing.assert_allclose(Multilabel().said(Multilabel().outputs_of(shares)), shares, atol=1e-6)
    task = Regression().fitted(np.array([[1.0], [5.0]]), 1)
    np.testing.assert_allclose(task.said(task.outputs_of(torch.tensor([[7.0]]))), [[7.0]])


def test_labels_are_doubted_where_the_neighbours_agree_on_another():
    near = torch.eye(3)[torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 2], [0, 1, 1, 1, 1], [1, 1, 1, 2, 2]])]
    assert Multiclass().doubted(near, torch.zeros(4, dtype=torch.int64)).tolist() == [True, True, False, False]
    several = torch.tensor([[[1.0, 0], [1, 1], [1, 0]], [[1, 0], [0, 1], [1, 0]]])
    assert Multilabel().doubted(several, torch.tensor([[0.0, 1], [0, 0]])).tolist() == [True, False]
    numbers = torch.tensor(RNG.normal(size=(50, 5, 1)))
    labels = numbers.mean(1) + 0.1 * torch.tensor(RNG.normal(size=(50, 1)))
    labels[7] = 90.0
    assert Regression().doubted(numbers, labels).nonzero().ravel().tolist() == [7]
