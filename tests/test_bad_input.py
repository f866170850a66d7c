"""A corpus of bad input: each ends with status 2 and one message of rule, value and remedy, and nothing is written."""

import time
from pathlib import Path

import pytest

from headstart.cli import main

LONG = "x" * 300

SETTINGS = [
    ("~seed", "seed cannot be left out"),
    ("~name", "name cannot be left out"),
    ("~features", "features cannot be left out"),
    ("~companions", "companions cannot be left out"),
    ("name=''", "name must be the name of one folder"),
    ("name=' '", "it is empty"),
    ("name=.", "stands for another folder"),
    ("name=..", "stands for another folder"),
    ("name=../..", "it holds / or"),
    ("name=/etc/x", "it holds / or"),
    ("name=a/b", "it holds / or"),
    ("name=runs", "where runs outside of comparisons lie"),
    ("name='a\nb'", "characters that cannot be shown"),
    (f"name={LONG}", "it has 300 bytes"),
]
PLACES = [
    ("hydra.run.dir=/etc/passwd", "/etc/passwd is no folder"),
    ("hydra.run.dir=/etc/passwd/x", "/etc/passwd is no folder"),
    ("hydra.run.dir=/proc/x", "cannot be written"),
    ("hydra.run.dir=''", "hydra.run.dir must name a folder"),
    ("hydra.run.dir='~/runs'", "write $HOME"),
    (f"hydra.run.dir={LONG}", "File name too long"),
    (f"hydra.run.dir=nowhere/{LONG}", "more than 255 bytes"),
    (f"hydra.run.dir={'x/' * 3000}", "File name too long"),
    ("-m seed=0,1 hydra.sweep.dir=/etc/passwd", "/etc/passwd is no folder"),
    ("-m seed=0,1 hydra.sweep.dir=/proc/x", "cannot be written"),
    ("-m seed=0,1 hydra.sweep.dir=''", "hydra.sweep.dir must name a folder"),
    ("-m seed=0,1 name=..", "stands for another folder"),
]


@pytest.fixture(scope="module", autouse=True)
def _imported():
    """What every run imports is no part of the time that a case takes."""
    assert main(["plan", "data.size=32", "--json"]) == 0


def said_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What is said about bad input, having made sure of all that every case must keep."""
    before, began = sorted(Path().rglob("*")), time.process_time()
    assert main(words) == 2
    assert time.process_time() - began < 5
    assert sorted(Path().rglob("*")) == before
    shown, said = capsys.readouterr()
    assert shown == ""
    assert "Traceback" not in said
    assert said.count("headstart: ") == 1
    return said


@pytest.mark.parametrize(("line", "expected"), [*SETTINGS, *PLACES])
def test_bad_settings_are_refused(at_home: Path, capsys: pytest.CaptureFixture[str], line: str, expected: str):
    words = line.split(" ") if line.startswith("-m") else [line]
    assert expected in said_of(["train", *words], capsys)


def test_a_finished_run_is_told_of_though_its_place_cannot_be_written(
    at_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "headstart.result.read", lambda directory: {"status": "completed", "metrics": {"test/accuracy": 1.0}}
    )
    assert main(["train", "data.size=32", "hydra.run.dir=/proc/x"]) == 0
    assert "Already completed" in capsys.readouterr().out
