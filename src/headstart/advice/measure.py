"""What a backbone's features are worth on these data: neighbours, an exact probe, scores, and a learning curve."""

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart.advice import curve, neighbours, probes, scores
from headstart.advice.curve import Foretold
from headstart.advice.facts import reading_of
from headstart.advice.intervals import jackknife, over_folds
from headstart.advice.sample import FOLDS, Sample
from headstart.advice.solving import seconds_to_solve
from headstart.data.source import Examples
from headstart.report.statistics import Interval
from headstart.run.job import Job
from headstart.run.stored import frozen_features
from headstart.tasks.task import Task
from headstart.training.device import device_of, set_process_up

log = logging.getLogger(__name__)

KEPT_WHOLE = 3_000
"""Examples up to which all features are computed, so that the comparison that follows has them."""
TESTED = 1 / FOLDS
CHOSEN = 1 / 4
"""Share of what a fold trains and is scored on that is scored: one fold of four, as one chooses the penalty."""


class Chosen(Examples):
    """Some of the examples, in the order of their places."""

    def __init__(self, whole: Examples, places: np.ndarray) -> None:
        self.whole, self.places = whole, places

    def __len__(self) -> int:
        return len(self.places)

    def batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        return self.whole.batch(self.places[np.asarray(indices, dtype=np.int64)])

    @property
    def identity(self) -> str:
        return f"{self.whole.identity} chosen {hashlib.sha256(self.places.astype('<i8').tobytes()).hexdigest()[:24]}"

    def verify(self) -> None:
        self.whole.verify()

    @property
    def lengths(self) -> np.ndarray | None:
        lengths = self.whole.lengths
        return None if lengths is None else lengths[self.places]


@dataclass(frozen=True)
class Measured:
    """One backbone on the sample."""

    name: str
    num_features: int
    num_parameters: int
    seconds: float
    """Of computing features, an example, whenever that was done."""
    reading: Mapping[str, Any]
    batch_norm: bool = True
    """Whether the backbone has norms that keep statistics of batches."""
    neighbours: Interval | None = None
    """The score of the leave-one-out vote of the nearest; `None` where nothing is cross-validated."""
    probe: Interval | None = None
    """Of the exact probe trained on all that a fold trains on."""
    h_score: Interval | None = None
    log_me: Interval | None = None
    curve: probes.Probed | None = None
    foretold: Foretold | None = None
    """The probe's score with as many examples as the comparison trains on."""
    by_fold: np.ndarray | None = None
    """The probe's scores `(K,)` at the size nearest to that of the comparison."""
    doubted: frozenset[int] = frozenset()
    """Places in the source of examples whose neighbours speak against their label."""
    solving: float = 0.0
    """Seconds that an exact probe on all training examples takes to be solved for; not a number if not known."""
    bends: bool = False
    """Whether more examples made it worse at some size."""
    num_untold: int = 0
    """Folds whose score is not a number, as their targets are all the same: then nothing is foretold."""


def measure(name: str, job: Job, sample: Sample) -> Measured:
    """All scores of one backbone's features."""
    set_process_up(job.cfg.trainer.threads, job.cfg.trainer.deterministic)
    features, seconds = _features(job, sample)
    task = job.parts.task.exact()
    targets, num_outputs = _targets(job, sample)
    facts = features.shape[1], job.sketch.total_parameters, seconds, reading_of(job, sample.places)
    told = Measured(name, *facts, bool(job.sketch.batch_norms))
    if sample.folds is None:
        return told
    fitted = task.fitted(targets.numpy(), num_outputs)
    shares = fitted.shares(targets, num_outputs)
    near = neighbours.nearest(features, sample.units)
    doubted = sample.places[fitted.doubted(shares[near], targets).numpy()]
    votes = fitted.outputs_of(neighbours.voted(near, shares))
    wanted = round(len(job.split.train) * sample.num_taken / sample.num_strata)
    points = curve.sizes(probes.num_training(sample), wanted)
    by_votes = _by_fold(fitted, votes, targets, sample)
    if not np.isfinite(by_votes).all():
        return replace(told, num_untold=int((~np.isfinite(by_votes)).sum()))
    found = probes.probed(features, targets, num_outputs, task, sample, points)
    foretold = curve.foretell(points, found.scores, wanted, CHOSEN, len(sample))
    place = min(range(len(points)), key=lambda i: abs(points[i] - wanted))
    closed = _closed(features, shares, sample)
    return replace(
        told,
        neighbours=over_folds(by_votes, TESTED, len(sample)),
        probe=over_folds(found.scores[:, -1], CHOSEN, len(sample)),
        h_score=closed[0],
        log_me=closed[1] if np.isfinite(closed[1].half_width) else None,
        curve=found,
        foretold=foretold,
        by_fold=found.scores[:, place],
        doubted=frozenset(doubted.tolist()),
        solving=seconds_to_solve(job, features.shape[1], features.device, found.num_steps),
        bends=curve.bends_down(points, found.scores, CHOSEN),
    )


def _features(job: Job, sample: Sample) -> tuple[Tensor, float]:
    """Features `(n, D)` of the sample, and the seconds that one example took."""
    began = time.perf_counter()
    frozen = frozen_features(job, device_of(job.cfg.trainer.accelerator))
    known = job.source.fingerprint, job.reading.description
    if len(job.examples) <= KEPT_WHOLE:
        features = frozen.of(job.examples, *known)[torch.from_numpy(sample.places)]
        number = len(job.examples)
    else:
        features = frozen.of(Chosen(job.examples, sample.places), *known)
        number = len(sample)
    log.info("Features of %s took %.1f s.", job.factory.name, time.perf_counter() - began)
    return features.float().contiguous(), frozen.seconds / number


def _targets(job: Job, sample: Sample) -> tuple[Tensor, int]:
    """Labels of the sample, and how many outputs they take: classes that were not drawn have none."""
    values = job.targets.values[sample.places]
    if sample.num_taken == sample.num_strata:
        return torch.from_numpy(values), job.num_outputs
    classes, numbers = np.unique(values, return_inverse=True)
    return torch.from_numpy(numbers.astype(np.int64)), len(classes)


def _by_fold(task: Task, outputs: Tensor, targets: Tensor, sample: Sample) -> np.ndarray:
    assert sample.folds is not None
    places = [torch.from_numpy(np.flatnonzero(sample.folds == fold)) for fold in range(FOLDS)]
    scores = np.array([probes.rated(task, outputs[here], targets[here]) for here in places])
    return probes.on_the_level(scores, probes.rated(task, outputs, targets))


def _closed(features: Tensor, shares: Tensor, sample: Sample) -> list[Interval]:
    """H-score and LogME; numbers are taken in units of their spread."""
    assert sample.folds is not None
    x, y = features.double().numpy(), shares.double().numpy()
    y = y / np.where(y.std(0) > 0, y.std(0), 1.0) if not set(np.unique(y).tolist()) <= {0.0, 1.0} else y
    return [jackknife(*scores.jackknifed(one, x, y, sample.folds)) for one in (scores.h_score, scores.log_me)]
