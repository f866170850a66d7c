"""Trackers mirror a run, with its exit status, and never fail it."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from headstart.cli.main import main
from headstart.cli.tell_tracker import tell
from headstart.config import recorded
from headstart.record.mirror import Mirror
from headstart.record.trackers import Comparison, RunCard, Tracker
from headstart.record.wandb import WandB
from headstart.report.build import Report, build
from pictures import tiny, write_folder
from wandb_files import offline_records, summary_of


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"))


def train(*words: str) -> int:
    return main(["train", *words])


def compared(pictures: Path, logger: str) -> int:
    """A comparison of two strategies over two seeds, named pets."""
    words = tiny(pictures, "name=pets", "strategy=feature_extraction,fine_tune", "seed=0,1")
    return train("-m", *(word for word in words if word != "logger=none"), logger)


def test_wandb_holds_group_job_type_rows_and_the_exit_status(at_home: Path, pictures: Path):
    words = [word for word in tiny(pictures, "name=pets", "hydra.run.dir=run") if word != "logger=none"]
    assert train(*words, "strategy=fine_tune", "logger=wandb") == 0
    records = offline_records(at_home / "run")
    (run,) = records["run"]
    assert run.run_group == "pets"
    assert run.job_type == "fine_tune"
    assert run.run_id == json.loads((at_home / "run" / "result.json").read_text())["run_id"]
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["optimizer"]["lr"] == 0.001
    assert config["choices"]["strategy"] == "fine_tune"
    rows = [{item.key or item.nested_key[0]: item.value_json for item in row.item} for row in records["history"]]
    assert len(rows) == 2
    assert {"val/accuracy", "lr/head", "lr/stem"} <= rows[0].keys()
    summary = {
        item.key or item.nested_key[0]: item.value_json for record in records["summary"] for item in record.update
    }
    result = json.loads((at_home / "run" / "result.json").read_text())
    assert float(summary["test/accuracy"]) == result["metrics"]["test/accuracy"]
    assert records["exit"][0].exit_code == 0


def test_wandb_is_told_of_a_failure_and_the_next_run_is_its_own(at_home: Path, pictures: Path):
    words = [word for word in tiny(pictures, "optimizer=sgd") if word != "logger=none"]
    assert train("-m", *words, "strategy=fine_tune", "logger=wandb", "optimizer.lr=1e12,0.001") == 1
    codes = {}
    for path in at_home.rglob("result.json"):
        codes[json.loads(path.read_text())["status"]] = offline_records(path.parent)["exit"][0].exit_code
    assert codes["completed"] == 0
    assert codes["failed"] != 0


def test_wandb_keeps_runs_apart_that_are_open_together(tmp_path: Path):
    trackers = {name: WandB() for name in ("a", "b")}
    for name, tracker in trackers.items():
        (tmp_path / name).mkdir()
        tracker.start(RunCard(name, tmp_path / name, "group", "type", {}))
    for name, tracker in trackers.items():
        tracker.log({"own": float(ord(name))}, 0)
    for tracker in trackers.values():
        tracker.finish({}, 0)
    for name in trackers:
        records = offline_records(tmp_path / name)
        assert summary_of(records)["own"] == ord(name)
        assert records["exit"][0].exit_code == 0


def test_wandb_gets_one_run_for_the_whole_comparison(at_home: Path, pictures: Path):
    assert compared(pictures, "logger=wandb") == 0
    sweep = at_home / "outputs" / "pets"
    records = offline_records(sweep / "wandb")
    (run,) = records["run"]
    assert (run.run_group, run.job_type) == ("pets", "comparison")
    assert offline_records(next(sweep.glob("*/result.json")).parent)["run"][0].run_group == "pets"
    kept = summary_of(records)
    assert kept["runs/completed"] == 4
    files = next((sweep / "wandb").glob("offline-run-*")) / "files"
    for name in ("comparison", "differences"):
        table = json.loads((files / kept[f"{name}/path"]).read_text())
        rows = list(csv.reader((sweep / "report" / "tables" / f"{name}.csv").open()))
        assert table["columns"] == rows[0]
        assert len(table["data"]) == len(rows) - 1
        numbers = [place for place, cell in enumerate(rows[1]) if cell.replace(".", "").lstrip("-").isdigit()]
        assert numbers
        assert all(float(table["data"][0][place]) == float(rows[1][place]) for place in numbers)
    assert "<svg" in (files / kept["figures/scores/path"]).read_text()
    (report,) = (artifact for artifact in records["artifact"] if artifact.type == "report")
    held = {entry.path: Path(entry.local_path) for entry in report.manifest.contents}
    assert held["report.html"].read_bytes() == (sweep / "report" / "report.html").read_bytes()
    assert all(path.is_relative_to(sweep) for path in held.values())
    assert records["exit"][0].exit_code == 0


@pytest.fixture
def finished(at_home: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """The report of a comparison whose runs were mirrored in W&B, though nobody was told how it ended."""
    monkeypatch.setattr("headstart.cli.tell_tracker.Mirror.compare", lambda *_: False)
    words = (word for word in tiny(pictures, "name=pets", "strategy=feature_extraction") if word != "logger=none")
    assert train("-m", *words, "logger=wandb", "seed=0,1") == 0
    monkeypatch.undo()
    monkeypatch.chdir(at_home)
    return build([at_home / "outputs" / "pets"])


def chosen(sweep: Path) -> Any:
    """The config of one of the comparison's runs, which chooses a tracker as the comparison did."""
    return recorded.load(next(sweep.glob("*/config.yaml")))


def test_a_comparison_ends_well_though_its_tracker_does_not(
    finished: Report, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    sweep = finished.directory.parent

    def broken(self: Any, comparison: Comparison) -> None:
        raise SystemExit(3)

    for compare in (broken, lambda *_: time.sleep(60)):
        monkeypatch.setattr(WandB, "compare", compare)
        caplog.clear()
        began = time.monotonic()
        tell(sweep, finished, chosen(sweep), patience=0.2)
        assert time.monotonic() - began < 5
        assert "tracker" in caplog.text or "WandB failed" in caplog.text
    monkeypatch.undo()
    for _ in range(2):  # nothing had arrived, so it is told again, and then known
        tell(sweep, finished, chosen(sweep))
    assert offline_records(sweep / "wandb")["run"][0].job_type == "comparison"
    finished.counts["failed"] = 1
    tell(sweep, finished, chosen(sweep))  # a comparison is one run, which what was told last stands in
    assert summary_of(offline_records(sweep / "wandb"))["runs/failed"] == 1


def test_a_comparison_without_wandb_installed_is_only_warned(
    finished: Report, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    tell(finished.directory.parent, finished, chosen(finished.directory.parent))
    assert "WandB failed" in caplog.text


def test_without_a_logger_nobody_is_told(at_home: Path, pictures: Path):
    assert train("-m", *tiny(pictures, "name=pets", "strategy=feature_extraction", "seed=0,1")) == 0
    assert not (at_home / "outputs" / "pets" / ".told").exists()


@pytest.mark.parametrize("strategy", ["feature_extraction", "fine_tune"])
def test_the_best_checkpoint_is_an_artifact_if_asked_for(at_home: Path, pictures: Path, strategy: str):
    words = [word for word in tiny(pictures, f"strategy={strategy}", "hydra.run.dir=run") if word != "logger=none"]
    assert train(*words, "logger=wandb", "logger.log_checkpoints=true") == 0
    (artifact,) = offline_records(at_home / "run")["artifact"]
    assert (artifact.type, sorted(artifact.aliases)) == ("model", ["best", "latest"])
    (entry,) = artifact.manifest.contents
    kept = at_home / "run" / "checkpoints" / "best.ckpt"
    assert entry.path == "best.ckpt"
    assert Path(entry.local_path).read_bytes() == kept.read_bytes()


def test_mlflow_holds_runs_and_the_comparison(at_home: Path, pictures: Path):
    pytest.importorskip("mlflow")
    words = tiny(
        pictures, "name=pets", "strategy=fine_tune", "seed=0,1", "logger=mlflow", "logger.log_checkpoints=true"
    )
    assert train("-m", *(word for word in words if word != "logger=none")) == 0
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{at_home}/outputs/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("pets").experiment_id])
    by_type = {run.data.tags["job_type"]: run for run in runs}
    assert len(runs) == 3
    assert {run.info.status for run in runs} == {"FINISHED"}
    trained, whole = by_type["fine_tune"], by_type["comparison"]
    run_id = trained.info.run_name.rpartition("-")[2]
    result = json.loads((at_home / "outputs" / "pets" / run_id / "result.json").read_text())
    assert trained.data.metrics["final/test/accuracy"] == pytest.approx(result["metrics"]["test/accuracy"])
    assert trained.data.params["optimizer.lr"] == "0.001"
    assert [point.step for point in client.get_metric_history(trained.info.run_id, "val/accuracy")] == [0, 1]
    assert [file.path for file in client.list_artifacts(trained.info.run_id, "checkpoints")] == [
        "checkpoints/best.ckpt"
    ]
    assert "report/report.html" in [file.path for file in client.list_artifacts(whole.info.run_id, "report")]


OPENING = """
import sys, time
from pathlib import Path
from headstart.record.mlflow import MLflow
from headstart.record.mirror import Mirror
from headstart.record.trackers import RunCard
import mlflow.tracking
folder, run_id, begin = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
(folder / run_id).mkdir()
time.sleep(max(0.0, begin - time.time()))
mirror = Mirror(MLflow(f"sqlite:///{folder}/new.db"))
mirror.start(RunCard(run_id, folder / run_id, "pets", "fine_tune", {"optimizer.lr": 0.1}))
mirror.log({"x": 1.0}, 0)
mirror.finish({"x": 2.0}, 0)
sys.exit(mirror.broken)
"""


@pytest.mark.slow
def test_mlflow_loses_no_run_of_several_that_open_a_new_database_at_once(tmp_path: Path):
    pytest.importorskip("mlflow")
    begin = str(time.time() + 10)
    workers = [
        subprocess.Popen([sys.executable, "-c", OPENING, str(tmp_path), run_id, begin]) for run_id in ("a", "b", "c")
    ]
    assert [worker.wait(120) for worker in workers] == [0, 0, 0]
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/new.db")
    runs = client.search_runs([client.get_experiment_by_name("pets").experiment_id])
    assert sorted(run.data.tags["run_id"] for run in runs) == ["a", "b", "c"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert not list(tmp_path.glob(".new.db*"))


def test_mlflow_goes_on_with_the_run_of_an_attempt_that_was_killed(tmp_path: Path):
    pytest.importorskip("mlflow")
    from headstart.record.mlflow import MLflow

    (tmp_path / ".new.db.unfinished").touch()  # a process was killed while it made the database
    (tmp_path / "new.db").write_bytes(b"half a database")
    card = RunCard("id", tmp_path, "pets", "fine_tune", {"optimizer.lr": 0.1})
    uri = f"sqlite:///{tmp_path}/new.db"
    killed = MLflow(uri)
    killed.start(card)
    for epoch in range(2):
        killed.log({"x": float(epoch)}, epoch)
    again = MLflow(uri)
    again.start(card)
    for epoch in range(3):
        again.log({"x": float(epoch)}, epoch)
    again.finish({"x": 9.0}, 0)
    (run,) = again.client.search_runs([again.client.get_experiment_by_name("pets").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["run_id"] == "id"
    points = again.client.get_metric_history(run.info.run_id, "x")
    assert [(point.step, point.value) for point in points] == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_mlflow_is_told_of_a_failure(at_home: Path, pictures: Path):
    pytest.importorskip("mlflow")
    words = [word for word in tiny(pictures, "optimizer=sgd", "optimizer.lr=1e12") if word != "logger=none"]
    assert train(*words, "strategy=fine_tune", "logger=mlflow") == 1
    from mlflow.tracking import MlflowClient

    (run,) = MlflowClient(tracking_uri=f"sqlite:///{at_home}/outputs/mlflow.db").search_runs(["1"])
    assert run.info.status == "FAILED"


def test_tensorboard_writes_events(at_home: Path, pictures: Path):
    pytest.importorskip("tensorboard")
    words = tiny(pictures, "strategy=feature_extraction", "logger=tensorboard", "hydra.run.dir=run")
    assert train(*(word for word in words if word != "logger=none")) == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(at_home / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("val/accuracy")] == [0, 1]


def test_tensorboard_shows_a_run_that_was_killed_and_goes_on_once(tmp_path: Path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from headstart.record.tensorboard import TensorBoard

    card = RunCard("id", tmp_path, "pets", "fine_tune", {})
    killed = TensorBoard()
    killed.start(card)
    for epoch in range(3):
        killed.log({"x": float(epoch)}, epoch)
    killed.writer.flush()
    time.sleep(1.1)  # files of events are named after the second that they begin in
    again = TensorBoard()
    again.start(card)
    for epoch in range(4):
        again.log({"x": 10.0 + epoch}, epoch)
    again.finish({}, 0)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("x")] == [(n, 10.0 + n) for n in range(4)]


STOPPED_CORE = """
import os, signal, sys, threading
from pathlib import Path
from headstart.record.mirror import Mirror
from headstart.record.trackers import RunCard
from headstart.record.wandb import WandB

def core():
    for place in Path("/proc").glob("[0-9]*/stat"):
        name, _, rest = place.read_text().rpartition(")")
        if "wandb-core" in name and int(rest.split()[1]) == os.getpid():
            return int(place.parent.name)

def stop():
    os.kill(core(), signal.SIGSTOP)
    stopped.set()

stopped, tracker = threading.Event(), WandB()
tracker.patience = 1.0
mirror = Mirror(tracker)
mirror.start(RunCard("id", Path(sys.argv[1]), "group", "type", {}))
mirror.calls.put(stop)
assert stopped.wait(40)
mirror.log({"x": 1.0}, 0)
mirror.finish({}, 0)
sys.exit(3)
"""


def test_the_process_ends_though_the_core_of_wandb_has_stopped(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_CORE, str(tmp_path)],
        env={name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"},  # the core of these tests
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))


class Broken(Tracker):
    def start(self, card: RunCard) -> None:
        raise SystemExit(3)

    def log(self, row: Any, epoch: int) -> None:
        raise AssertionError("not reached")

    def finish(self, summary: Any, exit_code: int) -> None:
        raise AssertionError("not reached")


class Hanging(Broken):
    def start(self, card: RunCard) -> None:
        time.sleep(60)


@pytest.mark.parametrize("tracker", [Broken(), Hanging()])
def test_a_tracker_that_fails_or_hangs_does_not_hold_the_run(tmp_path: Path, tracker: Tracker):
    mirror = Mirror(tracker, patience=0.2)
    began = time.monotonic()
    mirror.start(RunCard("id", tmp_path, "group", "type", {}))
    mirror.log({"x": 1.0}, 0)
    mirror.finish({}, 0)
    assert time.monotonic() - began < 5
