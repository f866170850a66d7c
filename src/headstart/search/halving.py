"""Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934): which paused trial goes on, and how far.

A trial that is paused keeps its checkpoint and goes on from it; nothing waits until a rung is full.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from headstart import metrics
from headstart.record.directory import RunDirectory
from headstart.record.result import Result


def rungs(max_epochs: int, reduction: int) -> list[int]:
    """Epochs at which trials are compared, the last being the end: 1, 3, 10 of 10 by thirds."""
    found = [max_epochs]
    while found[0] / reduction >= 0.8:
        found.insert(0, max(1, round(found[0] / reduction)))
        if found[0] == 1:
            break
    return found


def epochs_in_all(num_trials: float, ends: Sequence[int], reduction: int, fewest: int) -> float:
    """About how many epochs so many trials train: one in `reduction` goes on from each rung, and at least `fewest` in
    all come to their end."""
    found, there, before = 0.0, num_trials, 0
    for end in ends:
        found += there * (end - before)
        there, before = max(there // reduction, min(num_trials, fewest)), end
    return found


@dataclass(frozen=True)
class Reached:
    """How far a trial is. `scores` are the best so far at each rung that it reached, higher ones being better."""

    number: int
    scores: Sequence[float]
    is_paused: bool
    """Whether it is not at its end."""


def promotable(trials: Sequence[Reached], num_rungs: int, reduction: int) -> Iterator[tuple[int, int]]:
    """Trials that may go on, each with the rung (from 0) that it goes on to: from the highest rung down, the best of
    those among the first in `reduction` there that are paused at it; of equals the earlier."""
    for rung in range(num_rungs - 2, -1, -1):
        there = sorted(
            (one for one in trials if len(one.scores) > rung), key=lambda one: (-one.scores[rung], one.number)
        )
        for one in there[: len(there) // reduction]:
            if one.is_paused and len(one.scores) == rung + 1:
                yield one.number, rung + 1


def most_promising(trials: Sequence[Reached]) -> list[Reached]:
    """Paused trials, those first that are furthest and, there, best."""
    paused = [one for one in trials if one.is_paused]
    return sorted(paused, key=lambda one: (-len(one.scores), -one.scores[-1] if one.scores else 0.0, one.number))


def foreseen_ends(trials: Sequence[Reached], num_rungs: int) -> dict[int, float]:
    """What each trial may come to at its end: its score at the highest rung that it reached, and beyond what those
    gained on the mean that went on from there. So what is paused can be held against what is not."""
    gains = []
    for rung in range(num_rungs - 1):
        known = [one.scores[rung + 1] - one.scores[rung] for one in trials if len(one.scores) > rung + 1]
        gains.append(fmean(known) if known else 0.0)
    return {one.number: one.scores[-1] + sum(gains[len(one.scores) - 1 :]) for one in trials if one.scores}


def scores_at(directory: RunDirectory, done: Result, ends: Sequence[int]) -> list[float]:
    """The best score of a trial at each rung that it reached; higher ones are better."""
    if done.selection is None:
        return []
    name, sign = done.selection.metric, 1 if done.selection.mode == "max" else -1
    epochs = int(done.cost.get("epochs") or 0)
    values = _history(directory, name)[:epochs]
    if len(values) < epochs:  # someone is going on with it just now
        values = [float(done.selection.value or 0.0)] * epochs
    is_over = done.status == "completed"
    reached = [end for end in ends if end <= epochs or is_over]
    return [max(sign * value for value in values[:end]) for end in reached] if values else []


def _history(directory: RunDirectory, name: str) -> list[float]:
    try:
        with directory.history.open(encoding="utf8", newline="") as file:
            return [_number(row, name) for row in csv.DictReader(file)]
    except (OSError, ValueError):
        return []


def _number(row: Mapping[str, str], name: str) -> float:
    value = float(row[name])
    return value if value == value else -float("inf") if metrics.mode(name) == "max" else float("inf")
