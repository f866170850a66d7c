"""Records of earlier versions are read as they were meant."""

import json
from pathlib import Path

import pytest

from headstart.cli.main import main
from headstart.config.earlier import RENAMED, settings_up_to_date, up_to_date
from headstart.config.guard import located
from headstart.record.trackers import Tracker
from headstart.report.reading import read_sweeps
from pictures import tiny, write_folder


def test_parts_that_moved_are_found_under_their_old_names():
    before = {
        "logger": {"_target_": "headstart.tracking.WandB", "project": "headstart.tracking.x"},
        "list": [{"_target_": "headstart.mlflow_tracking.MLflow"}, {"_target_": "torch.optim.AdamW"}, 3],
    }
    after = up_to_date(before)
    assert after == {
        "logger": {"_target_": "headstart.record.wandb.WandB", "project": "headstart.tracking.x"},
        "list": [{"_target_": "headstart.record.mlflow.MLflow"}, {"_target_": "torch.optim.AdamW"}, 3],
    }
    assert located(after["logger"]["_target_"], "logger", Tracker).__name__ == "WandB"
    assert located(after["list"][0]["_target_"], "logger", Tracker).__name__ == "MLflow"


OLD = {"val_fraction": 0.15, "test_fraction": 0.25, "n_per_class": None, "split_seed": None}


@pytest.mark.parametrize(
    ("before", "target", "choice", "after"),
    [
        ({}, "Holdout", "holdout", {}),
        ({"n_per_class": 5, "split_seed": 3}, "Holdout", "holdout", {"n_per_class": 5, "seed": 3}),
        ({"split_column": "part"}, "Column", "column", {"column": "part"}),
        ({"fold_column": None, "test_fold": None, "val_fold": None}, "Holdout", "holdout", {}),
        (
            {"fold_column": "fold", "test_fold": 2, "val_fold": "3"},
            "KFold",
            "kfold",
            {"column": "fold", "fold": 2, "val_fold": "3"},
        ),
    ],
)
def test_a_config_of_before_is_split_as_it_was(before, target, choice, after):
    cfg = {"data": {"_target_": "lab.Source", "root": "x", **OLD, **before}, "choices": {"data": "image_folder"}}
    found = up_to_date(cfg)
    assert found["data"] == {"_target_": "lab.Source", "root": "x"}
    assert found["split"].pop("_target_").rpartition(".")[2] == target
    fractions = {"val_fraction": 0.15} | ({"test_fraction": 0.25} if choice != "kfold" else {})
    assert found["split"] == {**fractions, **after, "duplicates": "keep"}
    assert found["choices"] == {"data": "image_folder", "split": choice}
    assert up_to_date(found) == found
    flat = {"data._target_": "headstart.data.openmoji.OpenMoji"}
    flat |= {f"data.{name}": value for name, value in {**OLD, **before}.items()}
    settings, split = settings_up_to_date(flat)
    assert split == choice
    assert settings == {"data._target_": flat["data._target_"], **{f"split.{k}": v for k, v in after.items()}}


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_is_answered_with_the_new_one(at_home: Path, capsys: pytest.CaptureFixture[str], old: str):
    forms = [[f"{old}=1"], [f"+{old}=1"], ["-m", f"{old}=1,2"]]
    for words in forms if old == next(iter(RENAMED)) else forms[:1]:
        assert main(["train", *tiny(at_home), *words]) == 2
        assert f"{old} is called {RENAMED[old]} now" in capsys.readouterr().err


def test_a_run_of_before_is_repeated_and_reported(at_home: Path, capsys: pytest.CaptureFixture[str]):
    words = [*tiny(write_folder(at_home / "pictures")), "strategy=feature_extraction", "split.n_per_class=3"]
    assert main(["train", "-m", *words, "seed=0,1", "name=old"]) == 0
    (run, other) = sorted(path.parent for path in (at_home / "outputs" / "old").glob("*/result.json"))
    config = (run / "config.yaml").read_text()
    start = config.index("split:\n")
    split = config[start:].partition("\n  duplicates: group\n")[0]
    assert "n_per_class: 3" in split
    config = config.replace(split + "\n  duplicates: group\n", "")
    config = config.replace("data:\n", "data:\n  n_per_class: 3\n  val_fraction: 0.15\n  test_fraction: 0.15\n", 1)
    (run / "config.yaml").write_text(config)
    capsys.readouterr()
    main(["rerun", str(run), "--check"])
    shown = "".join(capsys.readouterr())
    assert "settings: split.duplicates was not there before, is keep now" in shown
    assert shown.count("settings: ") == 3  # and both fractions, which the record of today leaves out
    assert "metrics" not in shown
    assert "split_sha256" not in shown
    assert "test/" not in shown
    for path in (run, other):
        result = json.loads((path / "result.json").read_text())
        settings = {**result["settings"], "data.n_per_class": result["settings"].pop("split.n_per_class")}
        result |= {"settings": settings, "choices": {k: v for k, v in result["choices"].items() if k != "split"}}
        result.pop("checksum", None)
        (path / "result.json").write_text(json.dumps(result))
    (at_home / "outputs" / "old" / "sweep.json").unlink()
    found = read_sweeps([at_home / "outputs" / "old"])
    assert {run.settings["split.n_per_class"] for run in found.runs} == {3}
    assert {run.choices["split"] for run in found.runs} == {"holdout"}


def test_settings_that_have_another_name_are_found_under_it():
    before = {"trainer": {"label_smoothing": 0.1, "class_weights": "balanced", "max_epochs": 3}}
    after = up_to_date(before)
    assert after["trainer"] == {"max_epochs": 3, "monitor": "val/accuracy"}
    assert (after["task"]["label_smoothing"], after["task"]["class_weights"]) == (0.1, "balanced")
