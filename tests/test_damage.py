"""Files of ours on a bad disk: a bit that flipped or an end that is missing is noticed and said, or changes nothing.

Never a traceback, never another number. (What is kept between runs is tried in data/test_kept.py.)
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.cli import commands
from headstart.cli.main import main
from headstart.cli.tell_tracker import _told
from headstart.config import recorded
from headstart.errors import InputError
from headstart.record import result
from headstart.record.directory import RunDirectory
from headstart.report import artifacts
from headstart.report.reading import read_sweeps
from headstart.run.prepare import prepare
from headstart.sweep.ledger import Ledger
from headstart.system import bounded, lock
from headstart.training.checkpoints import DamagedCheckpointError, read_checkpoint
from pictures import tiny, write_folder

SAID = (bounded.DamagedError, InputError, DamagedCheckpointError, artifacts.UnusableError, FileNotFoundError)
"""What readers raise for a file that they cannot use."""


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison of two runs, its report, and what a tracker and a holder would leave there."""
    home = tmp_path_factory.mktemp("home")
    pictures = write_folder(home / "pictures", per_class=8)
    words = tiny(pictures, "name=s", "strategy=feature_extraction", "seed=0,1", f"hydra.sweep.dir={home}/s")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "finish_comparison", lambda *_: None)
        assert main(["train", "-m", *words]) == 0
    (home / "s" / ".told").write_text("0123456789abcdef" * 4)
    with lock.Lock(home / "s" / "claim"):
        shutil.copy(home / "s" / "claim.holder", home / "holder")
    shutil.copy(home / "holder", home / "s" / "claim.holder")
    return home / "s"


def run_of(comparison: Path) -> Any:
    return read_sweeps([comparison]).runs[0]


def as_record(directory: Path) -> Any:
    found = result.checked(RunDirectory(directory), directory.name)
    assert found is not None
    return found


def as_config(directory: Path) -> Any:
    """The config as a run would be done by it; another run's is noticed by the name that it comes to."""
    job = prepare(recorded.load(directory / "config.yaml"))
    if job.run_id != directory.name:
        raise InputError("another run")
    return job.identity["settings"]


def as_listing(directory: Path) -> Any:
    found = Ledger(directory.parent).read()
    return [found[name] for name in ("name", "command", "commands", "runs")]


def as_runs(directory: Path) -> Any:
    """What a report takes from a comparison's listing; what it leaves out is said."""
    found = read_sweeps([directory.parent])
    said = [*found.notes, *(run.error[1] for run in found.runs if run.error is not None)]
    if said:
        raise InputError(*said)
    return [(run.run_id, run.metrics, run.settings) for run in found.runs]


READERS: dict[str, dict[str, Callable[[Path], Any]]] = {
    "result.json": {"record": as_record, "report": as_runs},
    "config.yaml": {"job": as_config},
    "history.csv": {"report": lambda path: artifacts.read_history(run_of(path.parent))},
    "plan.json": {"report": lambda path: artifacts.read_plan(run_of(path.parent))},
    "predictions.npz": {
        "report": lambda path: artifacts.read_predictions(run_of(path.parent)),
        "rerun": lambda path: bounded.arrays(path / "predictions.npz"),
    },
    "hardest/hardest.json": {"report": lambda path: artifacts.read_hardest(run_of(path.parent))},
    "checkpoints/best.ckpt": {"load": lambda path: read_checkpoint(path / "checkpoints" / "best.ckpt", path.name)},
    "../sweep.json": {"ledger": as_listing, "report": as_runs},
    "../.told": {"tracker": lambda path: _told(path.parent)},
    "../claim.holder": {"lock": lambda path: lock.holder(path.parent / "claim")},
}
HARMLESS = {"../.told", "../claim.holder"}
"""Where another value is no number: something is told once more, or someone waited for two minutes longer."""


def plain(value: Any) -> Any:
    """Something that can be compared."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return (str(value.dtype), value.shape, value.tolist()) if hasattr(value, "dtype") else value


def damaged(content: bytes, number: int) -> Iterator[bytes]:
    for bit in np.random.default_rng(0).integers(0, 8 * len(content), number).tolist():
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)
    for share in (0.0, 0.5):
        yield content[: int(share * len(content))]
    yield content[:-1]


@pytest.mark.parametrize("number", [15, pytest.param(1500, marks=pytest.mark.slow)], ids=["some", "many"])
@pytest.mark.parametrize("name", READERS)
def test_damage_is_said_or_changes_nothing(comparison: Path, caplog: pytest.LogCaptureFixture, name: str, number: int):
    directory = sorted(path for path in comparison.iterdir() if (path / "result.json").is_file())[0]
    path = directory / name
    content = path.read_bytes()
    readers = READERS[name]
    expected = {reader: plain(read(directory)) for reader, read in readers.items()}
    number = number // 10 if name == "config.yaml" else number  # which is made a job of
    try:
        for changed in damaged(content, number):
            path.write_bytes(changed)
            for reader, read in readers.items():
                caplog.clear()
                try:
                    found = plain(read(directory))
                except SAID:
                    continue
                assert found == expected[reader] or name in HARMLESS or caplog.text, (reader, first(content, changed))
    finally:
        path.write_bytes(content)


def first(content: bytes, changed: bytes) -> tuple[int, bytes, bytes]:
    """Where they differ, for messages."""
    place = next((i for i, (a, b) in enumerate(zip(content, changed, strict=False)) if a != b), len(changed))
    return place, content[place - 20 : place + 20], changed[place - 20 : place + 20]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in READERS if name not in HARMLESS])
def test_commands_on_damaged_files_end_with_a_message_or_make_them_anew(
    comparison: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
):
    shutil.copytree(comparison.parent, tmp_path / "home")
    sweep = tmp_path / "home" / "s"
    directory = sorted(path for path in sweep.iterdir() if (path / "result.json").is_file())[0]
    before = json.loads((directory / "result.json").read_text())["metrics"]
    words = tiny(comparison.parent / "pictures", "name=s", "strategy=feature_extraction", "seed=0,1")
    content = (directory / name).read_bytes()
    monkeypatch.chdir(tmp_path)
    for changed in damaged(content, 2):
        (directory / name).write_bytes(changed)
        for command in (
            ["status", str(sweep)],
            ["report", str(sweep)],
            ["rerun", str(directory), "--check"],
            ["train", "-m", *words, f"hydra.sweep.dir={sweep}"],
        ):
            status = main(command)
            said = capsys.readouterr()
            assert "Traceback" not in said.err + said.out
            assert status in (0, 1, 2)
        again = json.loads((directory / "result.json").read_text())
        assert again["metrics"] == before
        (directory / name).write_bytes(content)
