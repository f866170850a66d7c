"""The record: small for many classes, fast to write and to read, and what was written before is read as well."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

from headstart.record.result import Result
from headstart.record.writing import write_json
from headstart.report.artifacts import UnusableError, read_details
from headstart.report.pictures import confused, confusion
from headstart.report.reading import Run
from headstart.report.run_sheets import per_class
from headstart.system import bounded
from headstart.system.process import draft_of
from headstart.tasks.multiclass import Multiclass


def answers(num_classes: int, num_examples: int) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]:
    """Logits that are right for two in three, labels, and names as long as ImageNet's."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(num_classes, (num_examples,), generator=rng)
    logits = torch.randn(num_examples, num_classes, generator=rng)
    known = torch.rand(num_examples, generator=rng) < 2 / 3
    logits[known, labels[known]] += 20
    return logits, labels, tuple(f"n{number:08d}, class of things {number}" for number in range(num_classes))


def kept(directory: Path, details: object) -> Run:
    write_json(directory / "result.json", {"details": details})
    return Run("x", directory, "s")


@pytest.mark.parametrize("num_classes", [3, 50, 51, 1000])
def test_details_are_what_scikit_learn_says_whatever_their_form(tmp_path: Path, num_classes: int):
    logits, labels, classes = answers(num_classes, 4000)
    details = read_details(kept(tmp_path, Multiclass().details(logits, labels, classes)))
    assert details is not None
    expected = confusion_matrix(labels, logits.argmax(1), labels=range(num_classes))
    np.testing.assert_array_equal(details.confusion(), expected)
    np.testing.assert_array_equal(details.totals, expected.sum(axis=1))
    recall = expected.diagonal() / np.maximum(expected.sum(axis=1), 1)
    np.testing.assert_allclose(details.accuracy, recall, atol=1e-7)
    np.fill_diagonal(expected, 0)
    true, predicted, count = confused(details)[0]
    assert count == expected.max() == expected[classes.index(true), classes.index(predicted)]
    assert (confusion(details, "x", "confusion") is None) == (num_classes > 24)
    table = per_class(details, "x")
    taken = {row[0].text: row[3].text for row in table.rows}
    for name, row in zip(classes, expected, strict=True):
        assert taken[name] == (f"{classes[int(row.argmax())]} ({row.max()})" if row.max() else "–")


def test_what_was_written_before_is_read_as_well(tmp_path: Path):
    old = {"classes": ["a", "b"], "confusion": [[3, 1], [0, 2]], "per_class_accuracy": {"a": 0.75, "b": 1.0}}
    details = read_details(kept(tmp_path, old))
    assert confused(details) == [("a", "b", 1.0)]
    assert (details.confusion().tolist(), details.accuracy) == ([[3, 1], [0, 2]], [0.75, 1.0])


@pytest.mark.parametrize(
    "confusion",
    [
        {"true": [0], "predicted": [2], "count": [1]},
        {"true": [0, 1], "predicted": [0], "count": [1]},
        {"true": [-1], "predicted": [0], "count": [1]},
        {"true": ["a"], "predicted": [0], "count": [1]},
        {"true": [0]},
        [[1, 2]],
        "none",
    ],
)
def test_a_confusion_that_does_not_fit_is_not_used(tmp_path: Path, confusion: object):
    with pytest.raises(UnusableError):
        read_details(kept(tmp_path, {"classes": ["a", "b"], "confusion": confusion}))


def test_a_thousand_classes_make_a_small_record_in_no_time(tmp_path: Path):
    logits, labels, classes = answers(1000, 10_000)
    began = time.process_time()
    value = {
        "schema": 1,
        "status": "completed",
        "data": {"classes": list(classes)},
        "details": Multiclass().details(logits, labels, classes),
    }
    write_json(tmp_path / "result.json", value)
    path = tmp_path / "result.json"
    assert bounded.json_object(path) == value
    assert read_details(Run("x", tmp_path, "s")).counts[:, 2].sum() == 10_000
    assert time.process_time() - began < 1
    assert path.stat().st_size < 300_000


def test_numbers_take_one_line_and_the_rest_a_line_each(tmp_path: Path):
    value = {
        "a": [1, 2.5, None], "b": [[1, 2], [3, 4]], "c": {"d": ["x", "y é"], "e": {}, "f": []}, "g": float("nan"),
        "h": np.arange(3), "i": (1, 2), "j": [{"k": 1}], "l": [str(i) for i in range(100)],
    }  # fmt: skip
    write_json(tmp_path / "v.json", value)
    text = (tmp_path / "v.json").read_text()
    expected = {**value, "g": None, "h": [0, 1, 2], "i": [1, 2]}
    assert json.loads(text) == expected
    assert ' "a": [1, 2.5, null],\n "b": [\n  [1, 2],\n  [3, 4]\n ],\n "c": {\n  "d": [\n   "x",\n' in text
    assert len(text.splitlines()) < 40


COMPLETED = """{
 "schema": 1,
 "run_id": "0123456789ab",
 "choices": {
  "strategy": "lora",
  "experiment": null
 },
 "settings": {
  "seed": 0,
  "optimizer.lr": 0.001
 },
 "overrides": [
  "strategy=lora"
 ],
 "seed": 0,
 "data": {
  "name": "letters",
  "fingerprint": "f0",
  "split_sha256": "e1",
  "sizes": {
   "train": 8,
   "val": 4,
   "test": 4
  },
  "classes": [
   "a",
   "b"
  ],
  "license": "CC0",
  "duplicates": {
   "within": 2
  }
 },
 "environment": {
  "python": "3.11.7",
  "threads": 1
 },
 "git": {
  "commit": null,
  "dirty": null
 },
 "rerun": "headstart rerun outputs/r",
 "status": "completed",
 "error": null,
 "metrics": {
  "val/accuracy": 0.75,
  "val/loss": null,
  "test/accuracy": 0.5,
  "best_epoch": 1
 },
 "cost": {
  "total_seconds": 1.5,
  "peak_memory_bytes": null
 },
 "phases": {
  "names": [
   "all"
  ],
  "planned": 1,
  "reached": 1,
  "best": 0,
  "head_only": [false]
 },
 "selection": {
  "metric": "val/accuracy",
  "mode": "max",
  "value": 0.75
 },
 "weights": {
  "source": "none",
  "sha256": null,
  "ignored": []
 },
 "details": {
  "classes": [
   "a",
   "b"
  ]
 },
 "reading": {
  "size": 32,
  "kept": {}
 },
 "predictions_bytes": 12,
 "notes": [],
 "started": "2026-01-01T00:00:00.000+00:00",
 "finished": "2026-01-01T00:00:01.500+00:00"
}
"""
"""As a run's result was written before it had a type."""
DIED = {
    "schema": 1, "run_id": "0123456789ab", "choices": {"strategy": "fine_tune"}, "settings": {},
    "overrides": ["seed=1"], "seed": 1, "data": {"name": "letters", "fingerprint": "f0"}, "rerun": "headstart rerun r",
    "status": "failed", "error": {"type": "WorkerDied", "message": "gone", "traceback": ""}, "metrics": {}, "cost": {},
    "finished": "now",
}  # fmt: skip


def test_a_result_is_written_to_the_letter_as_it_always_was(tmp_path: Path):
    write_json(tmp_path / "result.json", Result.from_dict(json.loads(COMPLETED)).to_dict())
    assert (tmp_path / "result.json").read_text() == COMPLETED
    assert Result.from_dict(DIED).to_dict() == DIED
    assert list(Result.from_dict(DIED).to_dict()) == list(DIED)


def test_what_later_versions_add_is_kept(tmp_path: Path):
    value = json.loads(COMPLETED)
    value["task"], value["data"]["folds"], value["weights"]["licence"] = {"name": "regression"}, 5, "MIT"
    value["selection"]["rule"], value["phases"]["epochs"] = "earliest", [3]
    assert Result.from_dict(value).to_dict() == value


def test_what_an_earlier_version_did_not_write_is_named():
    value = {
        name: entry for name, entry in json.loads(COMPLETED).items() if name not in ("selection", "reading", "cost")
    }
    with pytest.raises(bounded.DamagedError, match="lacks what every completed run has: cost"):
        Result.from_dict(value)
    found = Result.from_dict({**value, "cost": {}})
    assert found.missing == ["task", "selection", "score", "reading", "calibration", "average", "crc32"]
    assert found.to_dict() == {**value, "cost": {}}


def test_a_worse_kind_of_entry_counts_as_missing():
    value = {**json.loads(COMPLETED), "selection": "val/accuracy", "weights": [1], "environment": 3}
    assert Result.from_dict(value).missing == [
        "task",
        "environment",
        "selection",
        "score",
        "weights",
        "calibration",
        "average",
        "crc32",
    ]


def test_what_a_killed_process_left_half_written_is_removed_by_the_next_that_writes_there(tmp_path: Path):
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    mine = draft_of(tmp_path / "sweep.json")
    left = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{gone.pid}-"))
    left.touch()
    write_json(tmp_path / "other.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["other.json"]
