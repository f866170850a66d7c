"""Runs are divided by folds, groups and columns of a table, in one comparison and alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.cli.main import main
from pictures import tiny, write_folder


@pytest.fixture
def table(at_home: Path) -> list[str]:
    """36 pictures that a table names, each of one of nine people and of a part; as overrides."""
    files = sorted(write_folder(at_home / "pictures").rglob("*.png"))
    parts = ["train", "train", "val", "test"]
    lines = [
        f"{path.relative_to(at_home / 'pictures')},{path.parent.name},p{n % 9},{parts[n % 4]}"
        for n, path in enumerate(files)
    ]
    (at_home / "pictures" / "t.csv").write_text("\n".join(["image,label,who,part", *lines]))
    words = [word for word in tiny(at_home) if not word.startswith(("data=", "data.root"))]
    return [*words, "data=image_csv", "data.path=pictures/t.csv", "strategy=feature_extraction"]


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/result.json"))]


def scored_ids(folder: Path, run_id: str) -> list[str]:
    with np.load(folder / run_id / "predictions.npz") as found:
        return found["test/id"].tolist()


def test_folds_are_replicates_that_test_every_example_once(at_home: Path, table: list[str]):
    words = [*table, "split=kfold", "split.folds=3", "split.fold=range(3)", "seed=0,1", "name=folds"]
    assert main(["train", "-m", *words]) == 0
    done = results(at_home / "outputs" / "folds")
    assert len(done) == 6
    for seed in (0, 1):
        own = [one for one in done if one["seed"] == seed]
        assert {one["settings"]["split.fold"] for one in own} == {0, 1, 2}
        ids = [name for one in own for name in scored_ids(at_home / "outputs" / "folds", one["run_id"])]
        assert len(ids) == len(set(ids)) == 36
    for fold in range(3):
        same = [one for one in done if one["settings"]["split.fold"] == fold]
        sets = [scored_ids(at_home / "outputs" / "folds", one["run_id"]) for one in same]
        assert sorted(sets[0]) == sorted(sets[1])
    summary = json.loads((at_home / "outputs" / "folds" / "report" / "summary.json").read_text())
    (condition,) = summary["conditions"]
    assert [row["contender"] for row in condition["contenders"]] == ["feature_extraction"]
    assert len(condition["contenders"][0]["scores"]) == 6


def test_groups_lie_in_one_part_and_the_record_says_how_many(at_home: Path, table: list[str]):
    words = [*table, "split=holdout,kfold", "split.group_column=who", "name=groups"]
    assert main(["train", "-m", *words]) == 0
    for one in results(at_home / "outputs" / "groups"):
        groups = one["data"]["groups"]
        assert groups.pop("column") == "who"
        assert sum(groups.values()) == 9
        assert all(groups.values())


def test_a_column_says_the_parts_and_may_not_divide_a_group(at_home: Path, table: list[str], capsys):
    words = [*table, "split=column", "split.column=part"]
    assert main(["train", *words]) == 0
    (one,) = results(at_home / "outputs" / "runs")
    assert one["data"]["sizes"] == {"train": 18, "val": 9, "test": 9}
    capsys.readouterr()
    assert main(["train", *words, "split.group_column=who"]) == 2
    assert "A group of column 'who' must lie in one part, but the data put" in capsys.readouterr().err
    assert main(["train", *words, "split.group_column=nobody"]) == 2
    assert "no column 'nobody', which split.group_column names" in capsys.readouterr().err


def test_folders_have_no_columns(at_home: Path, capsys):
    words = [*tiny(write_folder(at_home / "pictures")), "split.group_column=who"]
    assert main(["train", *words]) == 2
    assert "split.group_column=who names a column of a table, but pictures has none" in capsys.readouterr().err
    assert not (at_home / "outputs").exists()


def test_a_dry_run_says_how_many_examples_there_are(at_home: Path, table: list[str], capsys):
    assert main(["train", "-m", *table, "seed=0,1", "--dry-run"]) == 0
    assert "examples: 24 train, 6 val, 6 test" in capsys.readouterr().out
    assert main(["train", "-m", *table, "split.n_per_class=2,4", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "train" in shown
    assert {"6", "12"} <= set(shown.split())
    assert main(["plan", *table]) == 0
    assert "Examples: 24 train, 6 val, 6 test (seed 0)." in capsys.readouterr().out
