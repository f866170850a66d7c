"""Which examples advice is measured on."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from headstart.advice import probes
from headstart.advice.sample import Sample, _drawn, _of_few_classes
from headstart.splits.kfold import dealt
from headstart.splits.splitter import Pool
from headstart.tasks.multiclass import Multiclass
from headstart.tasks.multilabel import Multilabel
from headstart.tasks.regression import Regression

RNG = np.random.default_rng(0)


def test_of_thousands_of_classes_some_are_drawn_so_that_each_has_examples():
    strata = np.repeat(np.arange(3000), 12)
    kept = _of_few_classes(strata, 2000)
    assert len(np.unique(strata[kept])) == 200
    assert kept.sum() == 2400


def test_units_are_drawn_whole_and_a_smaller_draw_is_part_of_a_larger_one():
    together = np.repeat(np.arange(200), 5)
    small, large = (set(_drawn(together, np.arange(1000), most).tolist()) for most in (100, 400))
    assert len(small) == 100
    assert small < large
    counts = np.bincount(together[sorted(small)], minlength=200)
    assert set(counts.tolist()) == {0, 5}


def drawn(labels: np.ndarray, units: np.ndarray) -> Sample:
    names = [str(label) for label in range(labels.max() + 1)]
    folds = dealt(Pool(labels, names, units), 5, 0)
    return Sample(np.arange(len(labels)), units, labels, folds, len(labels), len(names), len(names))


def test_no_unit_lies_in_two_folds_and_parts_are_disjoint():
    labels = np.repeat(np.arange(4), 30)
    sample = drawn(labels, np.arange(120) // 3)
    assert sample.folds is not None
    for unit in np.unique(sample.units):
        assert len(set(sample.folds[sample.units == unit].tolist())) == 1
    for fold in range(5):
        parts = probes.divided(sample, fold)
        assert sorted(np.concatenate(parts).tolist()) == list(range(120))


def test_subsets_are_nested_and_keep_the_shares_of_classes():
    labels = np.repeat([0, 1], [90, 30])
    train = np.arange(120)
    small, large = (probes.nested(train, labels, size, 0) for size in (20, 60))
    assert set(small.tolist()) <= set(large.tolist())
    assert labels[small].sum() == pytest.approx(5, abs=1)


def test_a_probe_scores_what_scikit_learns_does_with_the_same_penalty():
    labels = np.repeat(np.arange(3), 40)
    x = RNG.normal(size=(120, 6)) + np.eye(6)[labels]
    sample = drawn(labels, np.arange(120))
    features, targets = torch.from_numpy(x).float(), torch.from_numpy(labels)
    size = probes.num_training(sample)
    found = probes.probed(features, targets, 3, Multiclass(), sample, [size])
    for fold in range(5):
        train, val, test = probes.divided(sample, fold)
        train = probes.nested(train, labels, size, fold)
        spread = ((x[train] - x[train].mean(0)) ** 2).sum(1).mean()
        scored = []
        for strength in probes.TRIED:
            model = LogisticRegression(C=1 / (strength * spread), max_iter=5000, tol=1e-8).fit(x[train], labels[train])
            scored.append((model.score(x[val], labels[val]), model.score(x[test], labels[test])))
        best = max(range(len(scored)), key=lambda place: (scored[place][0], -place))
        assert found.scores[fold, 0] == pytest.approx(scored[best][1], abs=1e-9)


@pytest.mark.parametrize(("num", "within"), [(60, 0.07), (300, 0.03)])
def test_average_precision_of_few_examples_is_what_features_of_noise_come_to(num, within):
    """Which is the share of examples that have the label; the mean over folds of 12 would be three times as much."""
    told = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        labels = (rng.random((num, 4)) < 0.1).astype(np.int64)
        labels[:5] = 1  # each label has some
        features, targets = torch.from_numpy(rng.normal(size=(num, 6))).float(), torch.from_numpy(labels)
        folds = dealt(Pool(labels, list("abcd"), np.arange(num)), 5, 0)
        sample = Sample(np.arange(num), np.arange(num), labels, folds, num, 4, 4)
        found = probes.probed(features, targets, 4, Multilabel(), sample, [probes.num_training(sample)])
        told.append(found.scores.mean() - labels.mean())
    assert np.mean(told) == pytest.approx(0, abs=within)


def test_r2_of_few_examples_is_what_it_is_on_many():
    told, truth = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(4060, 10))
        y = (x[:, 0] + 0.7 * rng.normal(size=4060))[:, None] + 30
        few = np.arange(60)
        features, targets = torch.from_numpy(x[few]).float(), torch.from_numpy(y[few])
        folds = np.arange(60) % 5
        sample = Sample(few, few, np.zeros(60, dtype=np.int64), folds, 60, 1, 1)
        size = probes.num_training(sample)
        found = probes.probed(features, targets, 1, Regression(), sample, [size])
        told.append(found.scores.mean())
        for fold in range(5):  # trained on as many, with whichever penalty is best: an upper bound
            train, _, _ = probes.divided(sample, fold)
            fits = [Ridge(strength).fit(x[train], y[train]) for strength in np.geomspace(0.1, 100, 7)]
            truth.append(max(fit.score(x[60:], y[60:]) for fit in fits))
    assert np.mean(told) == pytest.approx(np.mean(truth), abs=0.04)


def test_scores_by_fold_are_moved_to_what_all_score_together():
    scores = np.array([[0.5, 0.2], [0.7, np.nan]])
    moved = probes.on_the_level(scores, np.array([0.5, 0.1]))
    assert moved[:, 0] == pytest.approx([0.4, 0.6])
    assert moved[0, 1] == pytest.approx(0.1)
    assert np.isnan(moved[1, 1])
