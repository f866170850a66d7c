"""`status` and `rerun` on records that someone or something changed: one message, or all that is still right."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.cli.main import main

ESCAPE = "\x1b[31m"
VALUES = (None, True, 0, -1, 3.5, "", "x" * 300, ESCAPE, [], [1], ["a"], [[]], {}, {"a": 1}, {"a": {"b": []}}, 10**15)
FEW = (None, 3.5, ESCAPE, ["a"], {"a": 1})
RUNS = ("000000000000", "000000000001")


def entry(place: int) -> dict[str, Any]:
    return {
        "run_id": RUNS[place],
        "overrides": ["strategy=fine_tune", f"seed={place}"],
        "choices": {"strategy": "fine_tune", "data": None},
        "settings": {"trainer.max_epochs": 2, "trainer.monitor": "val/accuracy"},
        "seed": place,
        "data": {"name": "x", "fingerprint": "a" * 64},
        "command": 0,
    }


LISTING = {
    "schema": 1,
    "name": "n",
    "command": "headstart train -m",
    "commands": ["headstart train -m seed=0,1"],
    "runs": [entry(0), entry(1)],
}
DONE = {
    "schema": 1,
    "run_id": RUNS[0],
    "status": "completed",
    "choices": {"strategy": "fine_tune"},
    "settings": {"trainer.max_epochs": 2},
    "overrides": ["strategy=fine_tune"],
    "seed": 0,
    "metrics": {"val/accuracy": 0.5, "test/accuracy": 0.5, "best_epoch": 1},
    "cost": {"total_seconds": 1.0, "fused_with": 0},
    "data": {"name": "x", "fingerprint": "a" * 64, "split_sha256": "b" * 64, "sizes": {"train": 1}, "classes": ["a"]},
    "weights": {"source": "none"},
    "environment": {"packages": {"torch": "2"}},
    "reading": {"kept": []},
    "started": "2026-01-01T00:00:00.000+00:00",
    "finished": "2026-01-01T00:00:01.000+00:00",
}
FAILED = {**DONE, "status": "failed", "error": {"type": "E", "message": "m", "traceback": "t"}, "rerun": "headstart x"}
WHOLE = json.dumps(LISTING)
BYTES = {
    "empty": b"",
    "cut": WHOLE[:-30].encode(),
    "null": b"null",
    "infinite": WHOLE.replace('"seed": 0', '"seed": 1e400').encode(),
    "nan": WHOLE.replace('"seed": 0', '"seed": NaN').encode(),
    "long_number": WHOLE.replace('"seed": 0', f'"seed": {"9" * 5000}').encode(),
    "deep_lists": b"[" * 100_000,
    "deep_mappings": b'{"a":' * 100_000,
    "latin1": WHOLE.replace('"n"', '"café"').encode("latin-1"),
    "nul": b"\0" * 100,
    "no_runs": b'{"runs": []}',
}


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a JSON value, itself first."""
    yield above
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*above, key))


def changed(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    whole = copy.deepcopy(value)
    node = whole
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = new
    return whole


@pytest.fixture
def sweep(at_home: Path) -> Path:
    """A comparison of two runs that are done."""
    for place, run_id in enumerate(RUNS):
        folder = at_home / "sweep" / run_id
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps({**DONE, "run_id": run_id, "seed": place}))
        (folder / "config.yaml").write_text("seed: 0\n")
        np.savez_compressed(folder / "predictions.npz", **{"test/label": np.array([0])})
    (at_home / "sweep" / "sweep.json").write_text(WHOLE)
    return at_home / "sweep"


def said_by(words: list[str], capsys: pytest.CaptureFixture[str], *statuses: int) -> None:
    """Runs a command that is to end with one of these exit statuses, one message if it refuses, and changes nothing."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    status = main(words)
    shown = "".join(capsys.readouterr())
    assert status in statuses
    assert "Traceback" not in shown
    assert ESCAPE not in shown
    assert shown.count("headstart: ") == (status == 2)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


HOW_MANY = [pytest.param(FEW, id="few"), pytest.param(VALUES, id="all", marks=pytest.mark.slow)]


@pytest.mark.parametrize("values", HOW_MANY)
def test_status_shows_what_is_right_in_any_listing(sweep: Path, capsys: pytest.CaptureFixture[str], values: Any):
    for place in places(LISTING):
        for value in values:
            (sweep / "sweep.json").write_text(json.dumps(changed(LISTING, place, value)))
            said_by(["status", "sweep"], capsys, 0, 2)


@pytest.mark.parametrize("content", [WHOLE.encode("utf-16"), b"\xef\xbb\xbf" + WHOLE.encode()], ids=["utf16", "mark"])
def test_status_reads_a_listing_in_the_encodings_of_json(
    sweep: Path, capsys: pytest.CaptureFixture[str], content: bytes
):
    (sweep / "sweep.json").write_bytes(content)
    said_by(["status", "sweep"], capsys, 0)


@pytest.mark.parametrize("name", BYTES)
def test_status_names_a_listing_that_is_none(sweep: Path, capsys: pytest.CaptureFixture[str], name: str):
    (sweep / "sweep.json").write_bytes(BYTES[name])
    said_by(["status", "sweep"], capsys, 2)


@pytest.mark.parametrize("values", HOW_MANY)
@pytest.mark.parametrize("record", [DONE, FAILED], ids=["completed", "failed"])
def test_status_shows_the_other_runs_beside_any_record(
    sweep: Path, capsys: pytest.CaptureFixture[str], record: Any, values: Any
):
    for place in places(record):
        for value in values:
            (sweep / RUNS[0] / "result.json").write_text(json.dumps(changed(record, place, value)))
            said_by(["status", "sweep"], capsys, 0)


@pytest.mark.parametrize("values", HOW_MANY)
def test_rerun_looks_at_a_record_before_it_repeats_it(
    sweep: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, values: Any
):
    monkeypatch.setattr("headstart.run.rerun.recorded.load", lambda _: pytest.fail(f"{value} was taken for {place}"))
    first = [(name,) for name in ("schema", "status", "metrics", "data", "weights", "environment", "reading")]
    below = ("data", "fingerprint"), ("data", "split_sha256"), ("environment", "packages"), ("metrics", "test/accuracy")
    for place in [*first, *below]:
        for value in values:
            if (
                type(value) is type(_at(DONE, place))
                or value == _at(DONE, place)
                or (place[0] == "metrics" and type(value) in (int, type(None)))
            ):
                continue
            (sweep / RUNS[0] / "result.json").write_text(json.dumps(changed(DONE, place, value)))
            said_by(["rerun", f"sweep/{RUNS[0]}", "--check"], capsys, 2)


def _at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value
