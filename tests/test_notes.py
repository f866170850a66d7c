"""A warning of this program is a note: shown once, kept in the record, repeated by what is remembered."""

import json
import logging
from pathlib import Path

import pytest

from headstart import notes
from headstart.cli.main import main
from headstart.run import prepare
from headstart.run.findings import Findings
from pictures import tiny, write_folder


def test_a_note_is_heard_once_whoever_says_it_and_shown_once(capsys: pytest.CaptureFixture[str]):
    log = logging.getLogger("headstart.data.anything")
    notes.show().shown.clear()
    with notes.listening() as heard:
        log.warning("%d files are not read", 3)
        log.warning("3 files are not read")
        log.info("nothing to say")
    log.warning("too late")
    assert heard.messages == ["3 files are not read"]
    assert capsys.readouterr().err == "note: 3 files are not read\nnote: too late\n"


def test_a_log_holds_nothing_that_a_terminal_would_obey(at_home: Path):
    pictures = write_folder(at_home / "pictures")
    (pictures / "circle" / "\x1b[31mred\x1b]0;title\x07.xyz").write_text("no picture")
    assert main(["train", *tiny(pictures, "strategy=feature_extraction"), "hydra.run.dir=run"]) == 0
    said = (at_home / "run" / "log.txt").read_text()
    assert "red" in said
    assert "\x1b" not in said
    assert "\x07" not in said


def test_what_is_remembered_says_again_what_was_said_when_it_was_made():
    def make() -> int:
        logging.getLogger("headstart.data").warning("half of it is guessed")
        return 7

    findings = Findings()
    for _ in range(2):
        with notes.listening() as heard:
            assert findings.get("a test", "key", make) == 7
        assert heard.messages == ["half of it is guessed"]


@pytest.mark.parametrize("strategy", ["feature_extraction", "fine_tune"])
def test_notes_of_preparing_and_of_running_stand_in_the_record(
    at_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], strategy: str
):
    from headstart.run import experiment

    def said(make, message):
        def call(*args, **kwargs):
            logging.getLogger("headstart.data").warning(message)
            return make(*args, **kwargs)

        return call

    monkeypatch.setattr(prepare, "_checked_source", said(prepare._checked_source, "said while preparing"))
    monkeypatch.setattr(experiment, "build_head", said(experiment.build_head, "said while running"))
    notes.show().shown.clear()
    pictures = write_folder(at_home / "pictures")
    assert main(["train", *tiny(pictures, f"strategy={strategy}"), "hydra.run.dir=run"]) == 0
    err = capsys.readouterr().err
    found = json.loads((at_home / "run" / "result.json").read_text())["notes"]
    assert [note for note in found if note.startswith("said")] == [
        "said while preparing",
        "said while running",
    ]
    for message in ("said while preparing", "said while running"):
        assert err.count(message) == 1
        assert message in (at_home / "run" / "log.txt").read_text()
