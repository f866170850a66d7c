"""How a search stands by what is on the disk: budgets, finalists, choices, who goes on."""

from pathlib import Path

import pytest

from headstart.config.schema import SearchConfig
from headstart.errors import InputError
from headstart.record import result
from headstart.record.directory import SweepDirectory
from headstart.record.result import DataRecord, Failure, Result, Selection
from headstart.record.search import CellRecord, Trial
from headstart.record.variable import Variable
from headstart.report.history import studies, trials
from headstart.report.importance import importances
from headstart.report.reading import SweepRecords
from headstart.report.search_figures import progress_of
from headstart.report.searched import read_searches
from headstart.report.searches import section
from headstart.search.screen import best_mean, show_chosen
from headstart.search.standing import Standing
from headstart.search.worker import Worker

SPACE = [Variable("optimizer.lr", 1e-4, 1e-2, log=True), Variable("head.dropout", 0.0, 0.9)]


def standing(home: Path, stopping: str = "none", max_epochs: int = 1, **budget: float) -> Standing:
    search = SearchConfig(method="random", stopping=stopping, **budget)  # type: ignore[arg-type]
    record = CellRecord(
        cell="cell",
        overrides=["strategy=fine_tune"],
        choices={"strategy": "fine_tune"},
        space=[one.to_dict() for one in SPACE],
        defaults={"optimizer.lr": 1e-3, "head.dropout": 0.5},
        method="random",
        stopping=stopping,
        search_seed=0,
        seed=0,
        monitor="val/accuracy",
        max_epochs=max_epochs,
        is_probe=False,
    )
    from headstart.record.search import cell_directory

    sweep = SweepDirectory(home)
    cell_directory(sweep, "cell").write(record, ["seed: 0"])
    found = Standing(sweep, "cell", search)
    found.look()
    return found


def end(found: Standing, number: int, scores: list[float] | None, status: str = "completed", **params: float) -> Trial:
    """A trial whose best score by epoch is told; `None`: it failed."""
    trial = next((one for one in found.trials if one.number == number), None)
    if trial is None:
        trial = Trial(number, f"run{number}", params, 0)
        found.directory.append(trial)
    record(found, trial, scores, status)
    found.look()
    return trial


def record(found: Standing, trial: Trial, scores: list[float] | None, status: str) -> None:
    place = found.sweep.run(trial.run_id)
    place.path.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{epoch},{score}\n" for epoch, score in enumerate(scores or []))
    place.history.write_text(f"epoch,val/accuracy\n{rows}")
    done = Result(
        run_id=trial.run_id,
        choices={},
        settings={"trial": True},
        overrides=[],
        data=DataRecord(),
        status=status if scores else "failed",
        error=None if scores else Failure(type="DivergedError"),
        metrics={},
        cost={"total_seconds": 2.0, "epochs": len(scores)} if scores else {"total_seconds": 1.0},
        selection=Selection(metric="val/accuracy", mode="max", value=max(scores)) if scores else None,
    )
    result.write(place, done)


def test_each_budget_is_spent_and_no_more(tmp_path: Path):
    for name, budget in (("trials", {"trials": 3}), ("epochs", {"epochs": 7}), ("hours", {"hours": 6 / 3600})):
        found = standing(tmp_path / name, max_epochs=2, **budget)
        number = 0
        while found.may_draw:
            end(found, number, [0.5, 0.6], **({"optimizer.lr": 1e-3, "head.dropout": number / 100} if number else {}))
            number += 1
        assert number == 3
        assert found.spent <= found.amount


def test_the_default_wins_unless_another_is_better_over_all_seeds(tmp_path: Path):
    found = standing(tmp_path, trials=6, replicates=2)
    scores = [0.6, 0.8, 0.5, 0.7, None, 0.65]
    for number, score in enumerate(scores):
        end(found, number, score and [score], **({"optimizer.lr": 1e-3, "head.dropout": number / 10} if number else {}))
    assert not found.may_draw
    assert [trial.number for trial in found.finalists] == [0, 1, 3, 5]
    assert [(trial.number, seed) for trial, seed in found.missing_replicates()] == [(0, 1), (1, 1), (3, 1), (5, 1)]
    again = {0: 0.7, 1: 0.45, 3: 0.6, 5: 0.6}
    for place, (number, score) in enumerate(again.items()):
        trial = Trial(6 + place, f"again{number}", {}, 1, replicate_of=number)
        found.directory.append(trial)
        record(found, trial, [score], "completed")
    found.look()
    assert found.is_done
    assert found.means() == pytest.approx({0: 0.65, 1: 0.625, 3: 0.65, 5: 0.625})
    assert found.chosen == found.drawn[0]  # of equals the default
    assert best_mean(found) == 0
    assert found.tried()[4].value == 0.5  # a loss that was not finite counts as the worst


def test_who_is_ahead_but_not_clearly_is_told_and_not_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    found = standing(tmp_path, trials=3, replicates=3)
    for number, score in enumerate([0.6, 0.8, 0.5]):
        end(found, number, [score], **({"optimizer.lr": 1e-3, "head.dropout": number / 10} if number else {}))
    again = {(0, 1): 0.7, (1, 1): 0.75, (2, 1): 0.45, (0, 2): 0.6, (1, 2): 0.59, (2, 2): 0.5}
    for place, ((number, seed), score) in enumerate(again.items(), 3):
        trial = Trial(place, f"again{place}", {}, seed, replicate_of=number)
        found.directory.append(trial)
        record(found, trial, [score], "completed")
    found.look()
    assert found.is_done
    assert found.chosen == found.drawn[0]
    show_chosen([found])
    said = " ".join(capsys.readouterr().out.split())
    assert "3 settings tried: the default (val 63.3%)" in said
    assert "trial 1 has val 71.3% on the mean, but is not clearly ahead of the default" in said
    found.search.level = 1.0
    assert found.chosen == found.drawn[1]


def test_paused_trials_go_on_by_rank_and_three_come_to_their_end(tmp_path: Path):
    found = standing(tmp_path, "halving", max_epochs=9, trials=7, replicates=1)
    assert found.rungs == [1, 3, 9]
    end(found, 0, [0.1] * 9)
    for number in range(1, 7):
        trial = Trial(number, f"run{number}", {"optimizer.lr": 1e-3, "head.dropout": number / 10}, 0)
        assert found.until(trial) == 1
        end(found, number, [number / 10], "stopped", **dict(trial.params))
    assert not found.may_draw
    gone = []
    for _ in range(20):
        found.look()
        promotion = found.promotion()
        if promotion is None:
            break
        trial, until = promotion
        gone.append((trial.number, until))
        epochs = until or 9
        end(found, trial.number, [trial.number / 10] * epochs, "completed" if until is None else "stopped")
    assert gone[:2] == [(6, 3), (5, 3)]
    assert {number for number, until in gone if until is None} == {4, 5, 6}
    assert found.is_done
    assert {trial.number for trial in found.finalists} == {0, 4, 5, 6}
    assert found.chosen is not None
    assert found.chosen.number == 6


@pytest.mark.parametrize("epochs", [18, 31, 60, 200])
def test_halving_spends_its_epochs_and_no_more(tmp_path: Path, epochs: int):
    found = standing(tmp_path, "halving", max_epochs=9, epochs=epochs, replicates=1)
    for _ in range(1000):
        found.look()
        if promotion := found.promotion():
            trial, until = promotion
        elif found.may_draw:
            number = len(found.trials)
            params = {"optimizer.lr": 1e-3, "head.dropout": ((number * 37) % 101) / 120} if number else {}
            trial = Trial(number, f"run{number}", params, 0)
            until = found.until(trial)
        else:
            break
        score = ((trial.number * 53) % 97) / 97
        end(found, trial.number, [score] * (until or 9), "stopped" if until else "completed", **dict(trial.params))
    assert epochs - 9 <= found.spent <= epochs
    assert found.num_finishing >= 1
    assert found.num_finishing >= min(3, len(found.drawn) - 1)
    assert found.is_done


def test_who_is_clearly_behind_on_the_same_seeds_is_measured_no_more(tmp_path: Path):
    found = standing(tmp_path, trials=4, replicates=8)
    for number, score in enumerate([0.5, 0.8, 0.7, 0.79]):
        end(found, number, [score], **({"optimizer.lr": 1e-3, "head.dropout": number / 10} if number else {}))
    levels, runs = {0: 0.5, 1: 0.8, 2: 0.6, 3: 0.79}, 0
    while missing := found.missing_replicates():
        trial, seed = missing[0]
        again = Trial(len(found.trials), f"again{len(found.trials)}", {}, seed, replicate_of=trial.number)
        found.directory.append(again)
        record(found, again, [levels[trial.number] + (0.03 * (-1) ** seed if trial.number == 3 else 0.0)], "completed")
        found.look()
        runs += 1
    assert {number: len(known) for number, known in found.replicates().items()} == {0: 8, 1: 8, 2: 4, 3: 8}
    assert runs == 3 * 7 + 3
    assert found.chosen is not None
    assert found.chosen.number == 1
    assert set(found.means()) == {0, 1, 3}


def test_the_least_promising_give_up_their_checkpoints_first(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    found = standing(tmp_path, "halving", max_epochs=9, trials=9)
    end(found, 0, [0.5] * 9)
    reached = {1: [0.6], 2: [0.9], 3: [0.1, 0.1, 0.2], 4: [0.7]}  # who is further is more promising
    for number, scores in reached.items():
        end(found, number, scores, "stopped", **{"optimizer.lr": 1e-3, "head.dropout": number / 10})
        checkpoints = found.sweep.run(f"run{number}").checkpoints
        checkpoints.mkdir()
        for name in ("last.ckpt", "best.ckpt"):
            (checkpoints / name).write_bytes(b"0" * 100)
    search = SearchConfig(method="random", stopping="halving", trials=9, paused_gb=250e-9)
    Worker(found.sweep, ["cell"], search)._make_room(found)
    left = {path.parents[1].name for path in tmp_path.rglob("last.ckpt")}
    assert left == {"run3", "run2"}
    assert not list(tmp_path.rglob("best.ckpt"))
    assert [record.getMessage()[:35] for record in caplog.records] == [
        "The checkpoint of paused trial 4 wa",
        "The checkpoint of paused trial 1 wa",
    ]


def test_what_was_tried_can_be_read_as_a_frame_and_by_optuna(tmp_path: Path):
    found = standing(tmp_path, "halving", max_epochs=9, trials=5, replicates=2)
    end(found, 0, [0.5] * 9)
    for number, score in enumerate([0.6, 0.7, None], 1):
        params = {"optimizer.lr": 1e-3 * number, "head.dropout": number / 10}
        end(found, number, score and [score], "stopped" if number == 1 else "completed", **params)
    again = Trial(4, "again0", {}, 1, replicate_of=0)
    found.directory.append(again)
    record(found, again, [0.4], "completed")
    frame = trials(tmp_path)
    assert frame["status"].tolist() == ["completed", "stopped", "completed", "failed", "completed"]
    assert frame["head.dropout"].tolist() == [0.5, 0.1, 0.2, 0.3, 0.5]
    assert frame["replicate_of"].isna().tolist() == [True] * 4 + [False]
    assert frame["val/accuracy"].tolist()[:3] == [0.5, 0.6, 0.7]
    (study,) = studies(tmp_path).values()
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE", "FAIL"]
    assert study.best_params == {"optimizer.lr": 2e-3, "head.dropout": 0.2}
    assert study.trials[1].user_attrs["run_id"] == "run1"
    with pytest.raises(InputError, match="Name directories of searches"):
        trials(tmp_path / "none")


def test_the_page_tells_what_mattered_where_the_best_lies_and_what_it_took(tmp_path: Path):
    found = standing(tmp_path, trials=60)
    end(found, 0, [0.5])
    for number in range(1, 30):
        params = found.draws._random(number, 0)
        end(found, number, [0.2 + params["head.dropout"]], **params)
    made = section(SweepRecords("s", [tmp_path], [], [], [], {}))
    assert [drawing.name for drawing in made.drawings] == ["search-cost", "search", "search-slices"]
    assert not any("mathdefault" in drawing.inline for drawing in made.drawings)  # numbers as settings are written
    _, settings = made.tables
    _, dropout = settings.rows
    assert [cell.text for cell in dropout][:2] == ["fine_tune", "head.dropout"]
    assert float(dropout[2].value) > 0.8
    best = max(found.drawn[1:], key=lambda trial: trial.params["head.dropout"]).params["head.dropout"]
    assert dropout[4].text == f"{best:g}"
    assert (dropout[6].text == "yes") == (best >= 0.95 * 0.9)
    (one,) = read_searches([tmp_path])
    costs, scores = progress_of(one)
    assert costs == [float(n) for n in range(1, 31)]
    assert scores[-1] == pytest.approx(0.2 + best)
    assert scores == sorted(scores)


def test_a_line_that_was_cut_off_was_never_drawn(tmp_path: Path):
    found = standing(tmp_path, trials=5)
    end(found, 0, [0.5])
    path = found.directory.path / "trials.jsonl"
    with path.open("ab") as file:
        file.write(b'{"number": 1, "run_')
    fresh = standing(tmp_path, trials=5)
    assert [trial.number for trial in fresh.trials] == [0]
    end(fresh, 1, [0.6], **{"optimizer.lr": 1e-3, "head.dropout": 0.1})
    assert [trial.number for trial in standing(tmp_path, trials=5).trials] == [0, 1]
    found.look()
    assert [trial.number for trial in found.trials] == [0, 1]


def test_what_matters_is_told_by_the_better_trials(tmp_path: Path):
    found = standing(tmp_path, trials=60)
    end(found, 0, [0.5])
    for number in range(1, 40):
        params = found.draws._random(number, 0)
        score = 0.9 - abs(params["head.dropout"] - 0.3)
        end(found, number, [score], **params)
    scored = [(one.params, one.value) for one in found.tried() if one.value is not None]
    shares = importances(SPACE, scored, maximize=True)
    assert list(shares) == ["head.dropout", "optimizer.lr"]
    assert shares["head.dropout"] > 0.8
