"""A run is checked once, and all that is wrong with it is said at once."""

from pathlib import Path

import pytest

from headstart.cli.main import main
from headstart.run import prepare
from pictures import tiny, write_folder


def test_a_run_is_prepared_once(at_home: Path, monkeypatch: pytest.MonkeyPatch):
    prepared, real = [], prepare._prepared
    monkeypatch.setattr(prepare, "_prepared", lambda *words: prepared.append(1) or real(*words))
    words = tiny(write_folder(at_home / "pictures"), "strategy=feature_extraction", "trainer.max_epochs=1")
    assert main(["train", *words]) == 0
    assert len(prepared) == 1
    (run,) = (at_home / "outputs" / "runs").iterdir()
    assert (run / "result.json").is_file()
    assert main(["train", *words]) == 0
    assert len(prepared) == 2


def test_what_was_said_while_it_was_prepared_is_in_its_record_and_log(at_home: Path):
    words = tiny(write_folder(at_home / "pictures"), "strategy=feature_extraction", "trainer.max_epochs=1")
    assert main(["train", *words, "hydra.run.dir=run"]) == 0
    said = "The backbone's weights are random"
    assert said in (at_home / "run" / "result.json").read_text()
    assert said in (at_home / "run" / "log.txt").read_text()


def test_all_that_is_wrong_is_said_at_once(at_home: Path, capsys: pytest.CaptureFixture[str]):
    words = tiny(
        at_home / "nowhere", "augmentation=token_dropout", "trainer.precision=16-mixed", "trainer.reuse_views=true",
        "trainer.accelerator=cpu", "backbone.weights=gone.pth", "augmentation.views=1",
    )  # fmt: skip
    assert main(["train", *words]) == 2
    said = capsys.readouterr().err
    for problem in (
        "augmentation must be for vision, but the one chosen is for text",
        "does not train in float16",
        "augmentation.views must be at least 2",
        "nowhere",
        "there is no file 'gone.pth'",
    ):
        assert problem in said, problem
    assert not (at_home / "outputs").exists()


def test_what_is_wrong_with_a_plan_is_said_at_once(at_home: Path, capsys: pytest.CaptureFixture[str]):
    words = tiny(write_folder(at_home / "pictures"), "strategy=lp_ft", "unfreeze=at_start", "head.solver=lbfgs")
    assert main(["train", *words]) == 2
    said = capsys.readouterr().err
    assert "strategy=lp_ft must do what its name says" in said
    assert "head.solver=lbfgs solves for a head on frozen features" in said
