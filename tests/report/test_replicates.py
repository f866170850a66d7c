"""Runs that differ only in what is drawn repeat a measurement: they are means of one contender, never ranked."""

import json
from statistics import fmean

import pytest

from headstart.report.analysis import analyse
from headstart.report.answer import answer
from headstart.report.build import build
from headstart.report.design import read_design
from headstart.report.reading import Run, read_sweeps
from headstart.report.replicates import read_replicates


def with_settings(sweep, change):
    """Apply `change(seed) -> (seed, settings)` to every run, each combination with a split of its own."""
    for path in sweep.glob("*/result.json"):
        result = json.loads(path.read_text())
        seed, settings = change(result["seed"])
        result["seed"], result["settings"] = seed, {**result["settings"], "seed": seed, **settings}
        result["data"]["split_sha256"] = str((seed, settings))
        path.write_text(json.dumps(result))
    (sweep / "sweep.json").unlink()
    return sweep


def analysis_of(sweep):
    records = read_sweeps([sweep])
    found = analyse(read_design(records))
    return found, answer(found, records)


@pytest.mark.usefixtures("quick_drawing")
def test_folds_are_replicates_of_one_contender(make_sweep, tmp_path):
    sweep = with_settings(make_sweep(tmp_path / "s"), lambda seed: (0, {"data.test_fold": seed + 1}))
    made = build([sweep])
    assert len(made.analysis.design.contenders) == 3
    text = " ".join(made.answer)
    assert "mean of 4 folds" in text
    assert "paired over 4 folds" in text
    assert "Folds are tested on other examples, but trained on much the same ones" in text
    assert "seed" not in text
    summary = json.loads(made.summary.read_text())
    runs = [json.loads(path.read_text()) for path in sweep.glob("*/result.json")]
    for row in summary["conditions"][0]["contenders"]:
        own = [run for run in runs if run["choices"]["strategy"] == row["contender"]]
        assert row["scores"] == {str(r["settings"]["data.test_fold"]): r["metrics"]["test/accuracy"] for r in own}
        assert row["mean"] == pytest.approx(fmean(row["scores"].values()))
    assert summary["conditions"][0]["differences"][0]["num_pairs"] == 4
    page = made.page.read_text()
    assert "4 folds" in page
    assert ", fold " in page


def test_folds_and_seeds_together_are_runs(make_sweep, tmp_path):
    sweep = with_settings(make_sweep(tmp_path / "s"), lambda seed: (seed % 2, {"data.test_fold": f"f{seed // 2}"}))
    found, words = analysis_of(sweep)
    assert len(found.design.contenders) == 3
    assert sorted(found.design.replicates.names.values()) == [
        "seed 0, fold f0", "seed 0, fold f1", "seed 1, fold f0", "seed 1, fold f1",
    ]  # fmt: skip
    assert any("mean of 4 runs" in text for text in words.sentences)


@pytest.mark.parametrize("key", ["data.split_seed", "split.seed"])
def test_the_split_of_another_seed_is_a_replicate(make_sweep, tmp_path, key):
    found, words = analysis_of(with_settings(make_sweep(tmp_path / "a"), lambda seed: (seed, {key: seed})))
    assert found.design.replicates.unit == "seed"
    assert sorted(found.design.replicates.names) == [0, 1, 2, 3]
    found, words = analysis_of(with_settings(make_sweep(tmp_path / "b"), lambda seed: (0, {key: seed})))
    assert len(found.design.contenders) == 3
    assert any("mean of 4 splits" in text for text in words.sentences)


def test_replicates_are_numbered_by_size_and_what_follows_says_nothing_more():
    runs = [Run(str(i), None, "s", settings={"split.fold": i, "split.val_fold": (i + 1) % 12}) for i in range(12)]
    found = read_replicates(runs)
    assert (found.unit, [found.names[number] for number in found.numbers]) == ("fold", [str(i) for i in range(12)])
    assert found.numbers == list(range(12))
    assert found.name(3) == "fold 3"


def test_equal_scores_are_not_highest(make_sweep, tmp_path):
    sweep = make_sweep(tmp_path / "s", runs=3, seeds=1)
    for path in sweep.glob("*/result.json"):
        result = json.loads(path.read_text())
        result["metrics"]["test/accuracy"] = 0.5 if result["choices"]["strategy"] != "lp_ft" else 0.5001
        path.write_text(json.dumps(result))
    headline = analysis_of(sweep)[1].headline
    assert headline.startswith("It cannot be told which of ")
    assert all(name in headline for name in ("feature_extraction", "fine_tune", "lp_ft"))
