"""Trials that are paused: who goes on, and that going on is as if there had been no pause."""

from pathlib import Path
from typing import Any

import pytest
import torch

from headstart.cli.hydra_app import compose_config
from headstart.record.directory import RunDirectory
from headstart.run import experiment
from headstart.run.prepare import job_config, prepare
from headstart.search.halving import Reached, epochs_in_all, foreseen_ends, promotable, rungs
from pictures import tiny, write_folder


def test_rungs_are_thirds_of_the_way():
    assert rungs(27, 3) == [1, 3, 9, 27]
    assert rungs(10, 3) == [1, 3, 10]
    assert rungs(8, 3) == [1, 3, 8]
    assert rungs(2, 3) == [2]
    assert rungs(1, 3) == [1]
    assert rungs(100, 4) == [2, 6, 25, 100]


def test_the_best_third_of_a_rung_goes_on_from_the_highest_down():
    first = [Reached(number, [score], True) for number, score in enumerate([0.1, 0.9, 0.5, 0.7, 0.2])]
    assert list(promotable(first[:2], 3, 3)) == []
    assert list(promotable(first, 3, 3)) == [(1, 1)]
    gone = [Reached(1, [0.9, 0.9], True), *first[:1], *first[2:]]
    assert list(promotable(gone, 3, 3)) == []  # one in three of five has gone on
    more = [*gone, Reached(5, [0.95], True)]
    assert list(promotable(more, 3, 3)) == [(5, 1)]
    top = [*more[:-1], *(Reached(number, [0.9, 0.8 + number / 100], True) for number in (6, 7))]
    assert next(promotable(top, 3, 3)) == (1, 2)
    assert list(promotable([Reached(0, [0.5], False), *first[1:]], 3, 3)) == [(1, 1)]


def test_paused_trials_are_held_against_others_by_what_they_may_come_to():
    trials = [
        Reached(0, [0.5, 0.6, 0.8], False),
        Reached(1, [0.5, 0.8], True),
        Reached(2, [0.6], True),
        Reached(3, [], False),
    ]
    ends = foreseen_ends(trials, 3)
    assert ends == pytest.approx({0: 0.8, 1: 0.8 + 0.2, 2: 0.6 + 0.2 + 0.2})
    assert foreseen_ends([Reached(2, [0.6], True)], 3) == {2: 0.6}


@pytest.mark.parametrize(("trials", "epochs"), [(27, 27 + 9 * 2 + 4 * 6), (4, 36), (2, 18)])
def test_epochs_in_all_are_what_a_search_by_thirds_trains(trials: int, epochs: int):
    assert epochs_in_all(trials, [1, 3, 9], 3, 4) == epochs


@pytest.mark.parametrize(
    "strategy", ["fine_tune", "lp_ft", "strategy=fine_tune unfreeze=on_plateau unfreeze.num_groups=4"]
)
def test_a_trial_that_goes_on_is_bit_equal_to_one_that_was_never_paused(at_home: Path, strategy: str):
    words = strategy.split() if "=" in strategy else [f"strategy={strategy}"]
    pictures = write_folder(at_home / "pictures", per_class=8)
    cfg = job_config(compose_config([*tiny(pictures), *words, "trainer.max_epochs=5", "augmentation=light"]))
    cfg.trial = True
    places = [RunDirectory(at_home / name) for name in ("paused", "whole")]
    for until in (1, 3):
        (paused,) = experiment.run([prepare(cfg)], [places[0]], until)
        assert (paused.status, paused.cost["epochs"]) == ("stopped", until)
        assert not any(name.startswith("test/") for name in paused.metrics)
        places[0].best.unlink(missing_ok=True)  # as a search does
        assert not list(places[0].checkpoints.glob("*.unusable"))
    experiment.run([prepare(cfg)], [places[1]], 3)
    kept = [torch.load(place.last, weights_only=True) for place in places]
    assert same(*(state["state_dict"] for state in kept))
    assert same(*(state["optimizer_states"] for state in kept))
    done = [experiment.run([prepare(cfg)], [place])[0] for place in places]
    (whole,) = experiment.run([prepare(cfg)], [RunDirectory(at_home / "never")])
    for one in done:
        assert one.status == "completed"
        assert one.metrics == whole.metrics
        assert one.cost["train_flops"] == whole.cost["train_flops"]
    assert rows(places[0]) == rows(places[1]) == rows(RunDirectory(at_home / "never"))
    assert not places[0].checkpoints.exists()


def rows(place: RunDirectory) -> list[list[str]]:
    header, *lines = [line.split(",") for line in place.history.read_text().splitlines()]
    return [[cell for name, cell in zip(header, line, strict=True) if name != "seconds"] for line in lines]


def same(one: Any, other: Any) -> bool:
    """Whether two nests of tensors are equal bit by bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other
