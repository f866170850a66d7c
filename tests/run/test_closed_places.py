"""Folders that may only be read: a cache is done without, and what is finished there is shown."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from headstart.cli.main import main
from pictures import tiny, write_folder

NOWHERE = "/proc/nowhere/cache"
"""A folder that nobody can make."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"), per_class=8)


def metrics(run: str) -> dict:
    return json.loads(Path(run, "result.json").read_text())["metrics"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no folder that nobody can write to")
def test_a_cache_that_cannot_be_written_is_said_at_once_and_done_without(
    at_home: Path, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    words = tiny(pictures, "strategy=feature_extraction")
    assert main(["train", *words, "hydra.run.dir=with"]) == 0
    monkeypatch.setenv("HEADSTART_CACHE", NOWHERE)
    capsys.readouterr()
    assert main(["train", *words, "hydra.run.dir=without"]) == 0
    said = capsys.readouterr().err
    first = said.index(f"Nothing can be written to {NOWHERE} (No such file or directory)")
    assert first < said.index("feature_extraction")
    assert any("Set HEADSTART_CACHE" in note for note in json.loads(Path("without/result.json").read_text())["notes"])
    assert metrics("without") == metrics("with")


def test_a_folder_of_the_library_datasets_is_read_without_a_cache(at_home: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("datasets")
    from headstart.data.hub import load_splits

    (at_home / "corpus").mkdir()
    rows = [{"text": f"the cat {number} runs", "label": "ab"[number % 2]} for number in range(4)]
    (at_home / "corpus" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("HEADSTART_CACHE", NOWHERE)
    assert list(load_splits("corpus", None, None)["train"]["text"]) == [row["text"] for row in rows]


@pytest.fixture
def finished(at_home: Path, pictures: Path) -> Iterator[list[str]]:
    """A comparison that is done, in a folder that has been closed since."""
    words = ["train", "-m", *tiny(pictures, "name=s"), "strategy=feature_extraction", "optimizer.lr=1e-2,1e-3"]
    assert main(words) == 0
    folder = at_home / "outputs"
    if os.getuid():
        subprocess.run(["chmod", "-R", "a-w", folder], check=True)
        undo = ["chmod", "-R", "u+w", str(folder)]
    else:  # who may write everywhere
        bound = subprocess.run(["mount", "--bind", folder, folder], capture_output=True, check=False).returncode
        if bound:
            pytest.skip("nothing can be closed to root here")
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        undo = ["umount", str(folder)]
    try:
        yield words
    finally:
        subprocess.run(undo, check=True)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX permissions")
def test_a_finished_comparison_is_shown_where_nothing_can_be_written(
    finished: list[str], capsys: pytest.CaptureFixture[str]
):
    before = {path: path.stat().st_mtime_ns for path in Path("outputs").rglob("*")}
    capsys.readouterr()
    assert main(finished) == 0
    shown, said = capsys.readouterr()
    assert "All 2 runs were done before. Nothing can be written to outputs/s" in said
    assert "headstart report outputs/s --out=DIR" in said
    assert "feature_extraction" in shown
    assert "report  not written" in shown
    assert {path: path.stat().st_mtime_ns for path in Path("outputs").rglob("*")} == before
    assert main([*finished[:-1], "optimizer.lr=1e-2,1e-4"]) == 2  # one of them is to be done
    assert "hydra.sweep.dir must be a folder that can be made or written to" in capsys.readouterr().err
