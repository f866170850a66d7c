"""Nearest neighbours against scikit-learn, and the votes of DINO by hand."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from headstart.tasks.multiclass import Multiclass
from headstart.tasks.multilabel import Multilabel
from headstart.tasks.regression import Regression
from headstart.training.heads import built_head
from headstart.training.neighbours import LEAST, Neighbours, remember


@pytest.fixture(scope="module")
def problem():
    dice = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (90,), generator=dice)
    features = torch.randn(3, 12, generator=dice)[labels] + torch.randn(90, 12, generator=dice)
    order = np.random.default_rng(0).permutation(90)
    return features, labels, order[:60], order[60:]


def filled(problem, task, k, temperature, targets, num_outputs):
    features, _, train, val = problem
    task = task.fitted(targets[torch.from_numpy(train)].numpy(), num_outputs)
    head = built_head(Neighbours(k, temperature), 12, num_outputs, link=task.link)
    return head, remember(head, features, targets, train, val, task), task


@pytest.mark.parametrize("k", [1, 5, 20])
def test_equal_votes_are_scikit_learns(problem, k):
    features, labels, train, val = problem
    head, outcome, _ = filled(problem, Multiclass(), k, None, labels, 3)
    oracle = KNeighborsClassifier(k, metric="cosine").fit(features[train], labels[train])
    wanted = oracle.predict_proba(features[val].numpy())
    found = torch.softmax(head(features[val]).double(), 1).numpy()
    floored = np.maximum(wanted, LEAST)
    np.testing.assert_allclose(found, floored / floored.sum(1, keepdims=True), rtol=1e-5)
    hits = (found.argmax(1) == labels[val].numpy()).mean()
    assert outcome.history[0]["val/accuracy"] == pytest.approx(hits)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_votes_weigh_as_in_dino(problem, temperature):
    """`knn_classifier` of DINO's eval_knn.py: exp(cosine / T) of the k nearest, summed by class."""
    features, labels, train, val = problem
    head, _, _ = filled(problem, Multiclass(), 10, temperature, labels, 3)
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    similar = unit[val] @ unit[train].T
    for row, one in zip(torch.softmax(head(features[val]).double(), 1), similar, strict=True):
        nearest = one.sort(descending=True).indices[:10]
        votes = torch.zeros(3, dtype=torch.float64)
        for place in nearest:
            votes[labels[train[place]]] += (one[place] / temperature).exp()
        torch.testing.assert_close(row, (votes / votes.sum()).clamp(min=LEAST), rtol=1e-4, atol=1e-5)


def test_training_examples_are_scored_without_themselves(problem):
    features, labels, train, _ = problem
    _, outcome, _ = filled(problem, Multiclass(), 1, None, labels, 3)
    oracle = KNeighborsClassifier(2, metric="cosine").fit(features[train], labels[train])
    second = oracle.kneighbors(features[train].numpy(), return_distance=False)[:, 1]
    hits = (labels[train][second] == labels[train]).float().mean().item()
    assert outcome.history[0]["train/accuracy"] == pytest.approx(hits)
    assert hits < 1


def test_numbers_are_the_neighbours_mean_and_labels_their_share(problem):
    features, labels, train, val = problem
    numbers = torch.stack([labels.float() * 100 + 7, features[:, 0]], 1)
    head, outcome, task = filled(problem, Regression(), 6, None, numbers, 2)
    oracle = KNeighborsRegressor(6, metric="cosine").fit(features[train], numbers[train])
    wanted = oracle.predict(features[val].numpy())
    np.testing.assert_allclose(task.in_units(head(features[val])).numpy(), wanted, rtol=1e-4, atol=1e-4)
    error = np.sqrt(((wanted - numbers[val].numpy()) ** 2).mean(0)).mean()
    assert outcome.history[0]["val/rmse"] == pytest.approx(error, rel=1e-4)
    several = torch.stack([labels == 0, labels > 0, features[:, 1] > 0], 1).float()
    head, _, _ = filled(problem, Multilabel(), 6, None, several, 3)
    oracle = KNeighborsRegressor(6, metric="cosine").fit(features[train], several[train])
    found = torch.sigmoid(head(features[val])).numpy()
    np.testing.assert_allclose(found, oracle.predict(features[val].numpy()).clip(LEAST, 1 - LEAST), atol=1e-5)


def test_a_head_is_filled_again_from_what_it_kept_and_more_neighbours_than_there_are_all_vote(problem):
    features, labels, train, val = problem
    head, outcome, _ = filled(problem, Multiclass(), 500, None, labels, 3)
    again = built_head(Neighbours(500, None), 12, 3, link="softmax")
    again.load_state_dict(outcome.best_state)
    assert torch.equal(again(features[val]), head(features[val]))
    shares = torch.bincount(labels[train]) / 60
    torch.testing.assert_close(torch.softmax(head(features[val]), 1), shares.expand(30, 3))
    alone = torch.stack([head(one[None])[0] for one in features[val]])
    torch.testing.assert_close(alone, head(features[val]))
