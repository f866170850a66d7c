"""A record counts only if it is whole and the run's own; what does not count is said, kept, and done again."""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.cli import commands
from headstart.cli.main import main
from headstart.record import result
from headstart.record.directory import RunDirectory
from headstart.record.tables import write_predictions
from headstart.record.writing import write_json
from pictures import tiny, write_folder

WHOLE = {
    "schema": 1, "run_id": "0123456789ab", "status": "completed", "error": None, "choices": {}, "settings": {},
    "overrides": [], "seed": 0, "metrics": {"test/accuracy": 0.5, "val/loss": None}, "cost": {}, "data": {},
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's directory as it was left before records knew the size of their predictions."""
    write(tmp_path / "0123456789ab")
    part = {"id": np.array(["a"]), "label": np.array([0]), "probability": np.array([[1.0]])}
    write_predictions(tmp_path / "0123456789ab" / "predictions.npz", {"test": part})
    return tmp_path / "0123456789ab"


def write(directory: Path, **changes: Any) -> None:
    write_json(directory / "result.json", {**WHOLE, **changes})


def test_an_old_record_counts(run: Path):
    assert result.completed(RunDirectory(run), run.name)
    assert result.damage(RunDirectory(run), run.name) is None
    assert result.checked(RunDirectory(run.parent / "elsewhere")) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"run_id": "another"}, "another run, another"),
        ({"run_id": None}, "lacks what every completed run has: run_id"),
        ({"schema": 2}, "schema 1"),
        ({"status": "done"}, "status must be one of"),
        ({"status": ["completed"]}, "status must be one of"),
        ({"metrics": {}}, "no metric of a test set"),
        ({"metrics": {"test/accuracy": "high"}}, "no numbers"),
        ({"settings": [], "cost": 3}, "settings, cost"),
        ({"data": None}, "data"),
        ({"status": "failed"}, "why the run failed"),
        ({"predictions_bytes": 7}, "should have 7"),
    ],
)
def test_a_record_that_is_hollow_or_foreign_does_not_count(run: Path, changes: dict[str, Any], why: str):
    write(run, **changes)
    assert not result.completed(RunDirectory(run), run.name)
    assert result.read(RunDirectory(run), run.name) is None
    assert why in str(result.damage(RunDirectory(run), run.name))


@pytest.mark.parametrize("damage", ["missing", "cut", "folder", "pipe"])
@pytest.mark.parametrize("known", [False, True], ids=["old", "new"])
def test_predictions_that_are_missing_or_cut_are_noticed(run: Path, damage: str, known: bool):
    path = run / "predictions.npz"
    size = path.stat().st_size
    write(run, predictions_bytes=size) if known else None
    assert result.completed(RunDirectory(run))
    os.truncate(path, size - 30) if damage == "cut" else path.unlink()
    if damage == "folder":
        path.mkdir()
    if damage == "pipe":
        os.mkfifo(path)
    assert not result.completed(RunDirectory(run))
    why = str(result.damage(RunDirectory(run)))
    assert "predictions.npz" in why or "regular file" in why


def test_a_thousand_finished_runs_are_recognised_at_once(run: Path):
    began = time.monotonic()
    assert all(result.completed(RunDirectory(run), run.name) for _ in range(1000))
    assert time.monotonic() - began < 5


def test_what_is_set_aside_takes_the_next_free_place(run: Path):
    (run / "attempts" / "2").mkdir(parents=True)
    assert RunDirectory(run).set_aside() == "attempts/1"
    write(run)
    assert RunDirectory(run).set_aside() == "attempts/3"
    assert {path.name for path in (run / "attempts" / "1").iterdir()} == {"result.json", "predictions.npz"}


def test_damaged_runs_of_a_comparison_are_done_again_and_said(
    at_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(commands, "finish_comparison", lambda *_: None)
    pictures = write_folder(at_home / "pictures", per_class=8)
    words = tiny(pictures, "name=s", "strategy=feature_extraction", "seed=0,1,2", "trainer.max_epochs=1")
    assert main(["train", "-m", *words]) == 0
    kept = {path.parent.name: json.loads(path.read_text()) for path in at_home.glob("outputs/s/*/result.json")}
    hollow, foreign, cut = (at_home / "outputs" / "s" / name for name in kept)
    (hollow / "result.json").write_text('{"schema": 1, "status": "completed"}')
    (foreign / "result.json").write_text(json.dumps(kept[cut.name]))
    (cut / "predictions.npz").write_bytes(b"")
    capsys.readouterr()
    assert main(["status", "outputs/s"]) == 0
    assert "3 damaged" in capsys.readouterr().out
    assert main(["train", "-m", *words]) == 0
    said = capsys.readouterr().err
    assert "Records that cannot be used: 3 of 3 runs: " in said
    assert all(f"{path.name} (" in said for path in (hollow, foreign, cut))
    for path in (hollow, foreign, cut):
        again = json.loads((path / "result.json").read_text())
        assert again["metrics"] == kept[path.name]["metrics"]
        assert "attempts/1" in " ".join(again["notes"])
        assert (path / "attempts" / "1" / "result.json").is_file()
        assert not (path / "attempts" / "1" / "log.txt").exists()


def test_a_run_is_not_done_where_another_one_lies(at_home: Path, capsys: pytest.CaptureFixture[str]):
    pictures = write_folder(at_home / "pictures", per_class=8)
    words = ["train", *tiny(pictures, "strategy=feature_extraction", "hydra.run.dir=run", "trainer.max_epochs=1")]
    assert main(words) == 0
    before = (at_home / "run" / "result.json").read_bytes()
    assert main([*words, "seed=1"]) == 2
    assert "it is the result of another run" in capsys.readouterr().err
    assert (at_home / "run" / "result.json").read_bytes() == before
