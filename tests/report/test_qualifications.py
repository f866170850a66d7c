"""What qualifies an answer: how epochs were selected, phases that were not reached, and the most frequent class."""

import csv
import json

import pytest

from headstart.report import style
from headstart.report.build import build

SHARES = {"accuracy": 0.93, "balanced_accuracy": 0.6, "macro_f1": 0.55}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Figures are painted but not written."""
    picture = '<svg role="img" aria-label="not drawn"></svg>'
    monkeypatch.setattr(style, "finish", lambda _, *words: style.Drawing(*words, picture, {"svg": b"", "pdf": b""}))


@pytest.fixture
def report(make_sweep, tmp_path):
    """`report(change)`: on a sweep of three strategies and four seeds, `change(strategy, seed, result)` applied."""

    def make(change):
        sweep = make_sweep(tmp_path / "sweep")
        for path in sorted(sweep.glob("*/result.json")):
            result = json.loads(path.read_text())
            change(result["choices"]["strategy"], result["seed"], result)
            path.write_text(json.dumps(result))
        return build([sweep])

    return make


def points(report):
    summary = json.loads(report.summary.read_text())
    return {point["about"]: point["text"] for point in summary["answer"]["points"]}, summary


def with_metrics(monitor):
    def change(strategy, seed, result):
        lead = {"feature_extraction": 0.0, "fine_tune": 0.02, "lp_ft": 0.01}[strategy] + 0.001 * seed
        shares = {name: value + lead for name, value in SHARES.items()}
        result["metrics"] = {f"{part}/{name}": value for part in ("val", "test") for name, value in shares.items()}
        result["metrics"] |= {"val/loss": 1.0, "test/loss": 1.0, "test/majority_accuracy": 0.935}
        result["selection"] = {"metric": monitor, "mode": "max", "value": 1.0}

    return change


def test_runs_are_compared_by_the_share_that_selected_their_epochs(report):
    said, summary = points(made := report(with_metrics("val/balanced_accuracy")))
    assert summary["metric"]["name"] == "balanced_accuracy"
    assert "Selection" not in said
    with (made.directory / "tables" / "comparison.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["contender"] == "fine_tune")
    assert float(row["mean_percent"]) == pytest.approx(62.15)
    assert float(row["accuracy_percent"]) == pytest.approx(95.15)
    assert float(row["macro_f1_percent"]) == pytest.approx(57.15)
    assert float(row["majority_accuracy_percent"]) == pytest.approx(93.5)


def test_where_loss_selected_the_epochs_accuracy_is_compared_and_that_is_said(report):
    said, summary = points(made := report(with_metrics("val/loss")))
    assert summary["metric"]["name"] == "accuracy"
    assert said["Selection"] == "The epoch of each run is the one that was best on validation loss."
    assert "the epoch with the best validation loss is kept" in made.page.read_text()


def test_epochs_that_were_selected_in_several_ways_are_counted(report):
    def change(strategy, seed, result):
        with_metrics("val/loss" if strategy == "lp_ft" else "val/accuracy")(strategy, seed, result)

    said, _ = points(report(change))
    expected = "validation accuracy in 8 runs and validation loss in 4 runs."
    assert said["Selection"] == f"The epoch of a run is the one that was best on {expected}"


def test_what_the_most_frequent_class_would_score_stands_beside_and_who_is_not_above_it(report):
    said, _ = points(report(with_metrics("val/accuracy")))
    expected = "Always answering the class most frequent in training (on average, of equal ones) is right in 93.5%; "
    expected += "no more accurate than that: feature_extraction."
    assert said["The baseline"] == expected


def test_a_contender_whose_strategy_was_not_at_work_at_the_epoch_selected_is_named_with_counts(report):
    def change(strategy, seed, result):
        if strategy == "lp_ft":
            result["phases"] = {"planned": 2, "reached": 2, "best": int(seed > 2), "head_only": [True, False]}
        elif strategy == "fine_tune":  # by plateaus, say
            counts = {"planned": 3, "reached": 2 + seed % 2, "best": 1}
            result["phases"] = {**counts, "head_only": [True, False, False]}
        else:
            result["phases"] = {"planned": 1, "reached": 1, "best": 0, "head_only": [True]}

    said, _ = points(report(change))
    assert said["Phases"].count("Of ") == 2
    assert (
        "Of 4 runs of fine_tune, in 4 the epoch selected comes before all that the plan thaws had begun to train and "
        "in 2 training ended before the plan's last phase."
    ) in said["Phases"]
    assert ("Of 4 runs of lp_ft, in 3 the epoch selected comes before anything but the head had trained.") in said[
        "Phases"
    ]


@pytest.mark.parametrize("phases", [None, {}, {"planned": 2, "reached": 5, "best": "x", "head_only": 1}])
def test_results_that_tell_nothing_of_phases_and_selection_are_read_as_ever(report, phases):
    def change(strategy, seed, result):
        result.pop("selection", None)
        result["phases"] = phases

    said, summary = points(report(change))
    assert not {"Phases", "Selection", "The baseline"} & said.keys()
    assert summary["metric"]["name"] == "accuracy"
