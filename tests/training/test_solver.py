"""The exact solver against scikit-learn, and against the conditions of an optimum."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch.nn import functional

from headstart.tasks.multiclass import Multiclass
from headstart.tasks.multilabel import Multilabel
from headstart.tasks.regression import Regression
from headstart.training import solver


def solve(*problem, label_smoothing=0.0, class_weights=None):
    task = Multiclass(label_smoothing)
    task.weights = None if class_weights is None else tuple(class_weights)
    return solver.solve(*problem, task)


@pytest.fixture(scope="module")
def problem():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (200,), generator=generator)
    centres = torch.randn(4, 30, generator=generator)
    features = (centres[labels] + 2 * torch.randn(200, 30, generator=generator)).relu() * 3 + 1
    order = np.random.default_rng(0).permutation(200)
    return features, labels, order[:150], order[150:]


def penalised(features, labels, weight, bias, l2, weights=None, smoothing=0.0):
    scores = features.double() @ weight.double().T + bias.double()
    weights = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    loss = functional.cross_entropy(scores, labels, weights, label_smoothing=smoothing, reduction="sum")
    return loss + l2 / 2 * weight.double().square().sum()


@pytest.mark.parametrize("l2", [100.0, 1.0, 0.01])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 1.5]], ids=["unweighted", "weighted"])
def test_it_finds_the_same_optimum_as_scikit_learn(problem, l2, weights):
    features, labels, train, val = problem
    outcome = solve(features, labels, train, val, 4, l2, class_weights=weights)
    oracle = LogisticRegression(
        C=1 / l2, tol=1e-9, max_iter=100_000, class_weight=None if weights is None else dict(enumerate(weights))
    ).fit(features[train].double().numpy(), labels[train].numpy())
    reference = torch.from_numpy(oracle.coef_), torch.from_numpy(oracle.intercept_)
    state = outcome.best_state
    ours = penalised(features[train], labels[train], state["weight"], state["bias"], l2, weights).item()
    theirs = penalised(features[train], labels[train], *reference, l2, weights).item()
    assert ours == pytest.approx(theirs, rel=1e-8)
    torch.testing.assert_close(state["weight"].double(), reference[0], rtol=1e-3, atol=1e-4)
    probabilities = torch.from_numpy(oracle.predict_proba(features[val].double().numpy()))
    loss = functional.nll_loss(probabilities.log(), labels[val]).item()
    assert outcome.history[0]["val/loss"] == pytest.approx(loss, rel=1e-4)
    assert outcome.history[0]["val/accuracy"] == oracle.score(features[val].numpy(), labels[val].numpy())


def test_the_gradient_vanishes_at_the_optimum_with_smoothing_and_weights(problem):
    features, labels, train, val = problem
    weights = [0.5, 1.0, 2.0, 1.5]
    state = solve(features, labels, train, val, 4, 0.5, label_smoothing=0.1, class_weights=weights).best_state
    weight, bias = (state[name].double().requires_grad_() for name in ("weight", "bias"))
    penalised(features[train], labels[train], weight, bias, 0.5, weights, 0.1).backward()
    assert weight.grad.abs().max() < 1e-2
    assert bias.grad.abs().max() < 1e-3
    start = torch.zeros_like(weight, requires_grad=True)
    penalised(features[train], labels[train], start, bias.detach(), 0.5, weights, 0.1).backward()
    assert weight.grad.abs().max() < 1e-4 * start.grad.abs().max()


def test_twice_gives_the_same_bits(problem):
    first, second = (solve(*problem, 4, 1.0) for _ in range(2))
    assert all(torch.equal(tensor, second.best_state[name]) for name, tensor in first.best_state.items())


def test_features_that_are_not_finite_are_a_divergence(problem):
    features, *rest = problem
    broken = features.clone()
    broken[rest[1][0], 0] = float("nan")
    outcome = solve(broken, *rest, 4, 1.0)
    assert outcome.divergence is not None
    assert outcome.best_state is None


def test_the_loss_is_the_criterion_without_the_penalty(problem):
    features, labels, train, val = problem
    outcome = solve(features, labels, train, val, 4, 1.0, label_smoothing=0.1, class_weights=[1.0, 2.0, 3.0, 4.0])
    scores = functional.linear(features[train], outcome.best_state["weight"], outcome.best_state["bias"])
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    loss = functional.cross_entropy(scores, labels[train], weights, label_smoothing=0.1).item()
    assert outcome.history[0]["train/loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("l2", [10.0, 0.1])
def test_numbers_are_solved_for_as_by_ridge_regression(problem, l2):
    features, _, train, val = problem
    noise = torch.randn(200, 2, generator=torch.Generator().manual_seed(1))
    targets = 40 + 9 * (features @ torch.randn(30, 2, generator=torch.Generator().manual_seed(2)) + noise)
    task = Regression().fitted(targets[train].numpy(), 2)
    outcome = solver.solve(features, targets, train, val, 2, l2, task)
    standardised = (targets[train].double().numpy() - task.mean) / task.spread
    oracle = Ridge(alpha=l2).fit(features[train].double().numpy(), standardised)
    weight = outcome.best_state["weight"].double()
    torch.testing.assert_close(weight, torch.from_numpy(oracle.coef_), rtol=1e-4, atol=1e-5)
    said = oracle.predict(features[val].double().numpy()) * task.spread + task.mean
    rmse = np.sqrt(((said - targets[val].numpy()) ** 2).mean(0)).mean()
    assert outcome.history[0]["val/rmse"] == pytest.approx(rmse, rel=1e-4)


@pytest.mark.parametrize("weights", [None, (3.0, 1.0, 0.5)], ids=["unweighted", "weighted"])
def test_several_labels_are_solved_for_one_against_the_rest(problem, weights):
    features, _, train, val = problem
    rng = torch.Generator().manual_seed(3)
    chances = torch.sigmoid(features @ torch.randn(30, 3, generator=rng) / 5)
    targets = torch.bernoulli(chances, generator=rng)
    task = Multilabel()
    task.weights = weights
    state = solver.solve(features, targets, train, val, 3, 0.5, task).best_state
    for label in range(3):
        own = None if weights is None else {0: 1.0, 1: weights[label]}
        oracle = LogisticRegression(C=1 / 0.5, tol=1e-10, max_iter=100_000, class_weight=own)
        oracle.fit(features[train].double().numpy(), targets[train, label].numpy())
        expected = torch.from_numpy(oracle.coef_[0])
        torch.testing.assert_close(state["weight"][label].double(), expected, rtol=1e-3, atol=1e-4)


def test_the_strength_is_the_best_of_seven_on_val_whatever_the_unit_of_the_features(problem):
    features, _, train, val = problem
    train = train[:40]  # few enough for the penalty to matter
    noise = torch.randn(200, 1, generator=torch.Generator().manual_seed(1))
    targets = 40 + features @ torch.randn(30, 1, generator=torch.Generator().manual_seed(2)) + 10 * noise
    task = Regression().fitted(targets[train].numpy(), 1)
    inputs = features[train].double().numpy()
    spread = ((inputs - inputs.mean(0)) ** 2).sum(1).mean()
    rmse = {}
    for power in range(2, -5, -1):
        oracle = Ridge(alpha=spread * 10.0**power).fit(inputs, targets[train, 0].double().numpy())
        error = oracle.predict(features[val].double().numpy()) - targets[val, 0].numpy()
        rmse[power] = np.sqrt((error**2).mean())
    best = min(rmse, key=rmse.get)
    assert -4 < best < 2, "or it would show nothing"
    for unit in (1.0, 1000.0):
        outcome = solver.solve(unit * features, targets, train, val, 1, "auto", task)
        assert outcome.history[0]["val/rmse"] == pytest.approx(rmse[best], rel=1e-4)
        assert outcome.l2 == pytest.approx(unit**2 * spread * 10.0**best, rel=1e-4)


def test_the_strongest_of_equals_is_taken_and_an_end_of_what_is_tried_is_said(problem, caplog):
    features, labels, train, val = problem
    far = features + 100 * functional.one_hot(labels, 4).repeat(1, 8)[:, :30]  # right at all strengths
    outcome = solver.solve(far, labels, train, val, 4, "auto", Multiclass())
    assert outcome.history[0]["val/accuracy"] == 1.0
    centred = far[train].double() - far[train].double().mean(0)
    assert outcome.l2 == pytest.approx(100 * centred.square().sum(1).mean().item())
    assert "the strongest of the 7 strengths that it tries: set head.l2" in caplog.text
