"""Trackers mirror a run, with its exit status, and never fail it."""

import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from headstart.cli import main
from headstart.tracking import Mirror, RunCard, Tracker
from pictures import tiny, write_folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"))


def offline_records(folder: Path) -> dict[str, list[Any]]:
    """Everything in the offline file below `folder`, by kind of record.

    The file is a LevelDB log: blocks of 32 KiB, each fragment with a header of checksum, length and type (1 whole,
    2 first, 3 middle, 4 last), after seven bytes of W&B's own; each record is one of its protocol buffers.
    """
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.rglob("run-*.wandb")
    data, position, parts = path.read_bytes(), 7, b""
    records: dict[str, list[Any]] = {}
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            name, parts = record.WhichOneof("record_type"), b""
            records.setdefault(name, []).append(getattr(record, name))
    return records


def train(*words: str) -> int:
    return main(["train", *words])


def test_wandb_holds_group_job_type_rows_and_the_exit_status(at_home: Path, pictures: Path):
    words = [word for word in tiny(pictures, "name=pets", "hydra.run.dir=run") if word != "logger=none"]
    assert train(*words, "strategy=fine_tune", "logger=wandb") == 0
    records = offline_records(at_home / "run")
    (run,) = records["run"]
    assert run.run_group == "pets"
    assert run.job_type == "fine_tune"
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["optimizer.lr"] == 0.001
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
    assert train("-m", *words, "strategy=fine_tune", "logger=wandb", "optimizer.lr=1e30,0.001") == 1
    codes = {}
    for path in at_home.rglob("result.json"):
        codes[json.loads(path.read_text())["status"]] = offline_records(path.parent)["exit"][0].exit_code
    assert codes["completed"] == 0
    assert codes["failed"] != 0


def test_tensorboard_writes_events(at_home: Path, pictures: Path):
    pytest.importorskip("tensorboard")
    words = tiny(pictures, "strategy=feature_extraction", "logger=tensorboard", "hydra.run.dir=run")
    assert train(*(word for word in words if word != "logger=none")) == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(at_home / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("val/accuracy")] == [0, 1]


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
