"""Which source classes go with each class: against the authors' procedure, by scikit-learn."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from headstart.strategies.regularizers import CoTuning
from headstart.training.relationship import STRENGTHS, relationship


@pytest.fixture(scope="module")
def logits():
    """Of 12 source classes on 120 examples of three classes, each of which looks like two of them."""
    dice = np.random.default_rng(0)
    labels = dice.integers(0, 3, 120)
    found = dice.normal(size=(120, 12)) * 1.5
    found[np.arange(120), 2 * labels + dice.integers(0, 2, 120)] += 2.5
    return found, labels


def by_the_authors(train_logits, train_labels, val_logits, val_labels):
    """As `relationship_learning` of their code says: penalty by val accuracy, from weak to strong, then calibrated."""
    train, val = softmax(train_logits, 1), softmax(val_logits, 1)
    tried = []
    for strength in sorted(STRENGTHS, reverse=True):
        model = LogisticRegression(C=strength, fit_intercept=False, max_iter=20_000, tol=1e-10)
        model.fit(train, train_labels)
        tried.append((model.score(val, val_labels), model))
    best = tried[int(np.argmax([score for score, _ in tried]))][1]
    said = val @ best.coef_.T

    def loss(scale):
        return -np.log(softmax(said * scale, 1)[np.arange(len(val_labels)), val_labels]).mean()

    scale = minimize_scalar(loss, bounds=(1 / 50, 50), method="bounded", options={"xatol": 1e-8}).x
    joint = (softmax(best.coef_.T * scale, 1) * np.concatenate([train, val]).mean(0)[:, None]).T
    return joint / joint.sum(1, keepdims=True)


def test_the_relationship_is_that_of_the_authors_procedure(logits):
    found, labels = logits
    parts = found[:80], labels[:80], found[80:], labels[80:]
    ours = relationship(*map(torch.from_numpy, parts), 3).numpy()
    np.testing.assert_allclose(ours.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(ours, by_the_authors(*parts), atol=2e-3)
    for label in range(3):
        assert set(np.argsort(ours[label])[-2:]) == {2 * label, 2 * label + 1}


def test_the_penalty_is_the_papers_cross_entropy():
    dice = torch.Generator().manual_seed(0)
    logits, wanted = torch.randn(5, 7, generator=dice), torch.rand(5, 7, generator=dice).softmax(1)
    expected = 2.3 * torch.nn.functional.cross_entropy(logits, wanted)
    torch.testing.assert_close(CoTuning().of_source(logits, wanted), expected)
