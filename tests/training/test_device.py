"""What a device cannot do is refused before anything is trained; what a library would do instead ends the run."""

import json
import logging
import warnings
from pathlib import Path

import pytest
import torch

from headstart import notes
from headstart.cli.hydra_app import compose_config
from headstart.cli.main import main
from headstart.errors import InputError
from headstart.record.directory import RunDirectory
from headstart.run import experiment
from headstart.run.experiment import CHANGES, NOISE
from headstart.run.prepare import job_config, prepare
from headstart.training.device import check_precision
from pictures import tiny, write_folder

STRATEGIES = ("feature_extraction", "fine_tune", "lp_ft")


@pytest.fixture
def pictures(at_home: Path) -> Path:
    return write_folder(at_home / "pictures")


@pytest.mark.parametrize(("strategy", "accelerator"), [("fine_tune", "auto"), ("feature_extraction", "cpu")])
@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_float16_on_a_cpu_is_refused_before_anything_is_written(
    at_home: Path, pictures: Path, capsys: pytest.CaptureFixture[str], strategy: str, accelerator: str
):
    words = tiny(pictures, f"strategy={strategy}", f"trainer.accelerator={accelerator}", "trainer.precision=16-mixed")
    for more in ([], ["-m"]):
        assert main(["train", *words, *more]) == 2
        said = capsys.readouterr().err
        assert "a CPU does not train in float16. Use trainer.precision=32-true or bf16-mixed." in said
    assert not Path("outputs").exists()


def test_what_another_machine_has_is_looked_up_there(at_home: Path, pictures: Path):
    """A run that is prepared for a cluster is refused where it turns out to run, and that is its record."""
    check_precision("16-mixed", "gpu", here=False)
    with pytest.raises(InputError, match="has no float64"):
        check_precision("64-true", "mps", here=False)
    with pytest.raises(InputError, match="does not train in float16"):
        check_precision("16-mixed", "cpu", here=False)
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    job = prepare(job_config(compose_config(tiny(pictures, "trainer.precision=16-mixed"))), here=False)
    (done,) = experiment.run([job], [RunDirectory(at_home / "run")])
    assert done.status == "failed"
    assert done.error is not None
    assert "does not train in float16" in done.error.message
    assert not (at_home / "run" / "history.csv").exists()


def test_a_gpu_without_bfloat16_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    for has in (False, True):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has: has)
        check_precision("16-mixed", "gpu")
        if has:
            check_precision("bf16-mixed", "gpu")
        else:
            with pytest.raises(InputError, match=r"this GPU \(Tesla T4\) has no bfloat16. Use .*16-mixed"):
                check_precision("bf16-mixed", "gpu")


def test_what_lightning_and_torch_would_change_on_their_own_is_an_error():
    import pytorch_lightning as pl

    with notes.of_libraries(NOISE, CHANGES):
        with pytest.raises(UserWarning, match="Using `precision='bf16-mixed'` instead"):
            pl.Trainer(accelerator="cpu", precision="16-mixed", logger=False)
        with pytest.raises(UserWarning, match="Disabling autocast"):
            torch.autocast("cpu", torch.float64)


@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.parametrize("strategy", ["feature_extraction", "fine_tune"])
def test_warnings_of_libraries_in_a_run_are_seen_and_recorded(
    at_home: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], strategy: str
):
    real = experiment.build_head

    def warning(*args):
        warnings.warn("the moon is full", stacklevel=1)
        warnings.warn("The 'train' loader does not have many workers", stacklevel=1)
        warnings.warn("old-fashioned", FutureWarning, stacklevel=1)
        logging.getLogger("somelibrary.part").warning("tides are %s", "high")
        return real(*args)

    monkeypatch.setattr(experiment, "build_head", warning)
    notes.show().shown.clear()
    assert main(["train", *tiny(pictures, f"strategy={strategy}"), "hydra.run.dir=run"]) == 0
    found = json.loads((at_home / "run" / "result.json").read_text())["notes"]
    assert [note for note in found if "random" not in note] == ["the moon is full", "somelibrary: tides are high"]
    said, logged = capsys.readouterr().err, (at_home / "run" / "log.txt").read_text()
    for message in ("the moon is full", "tides are high"):
        assert said.count(message) == logged.count(message) == 1
    assert "workers" not in said + logged
    assert "old-fashioned" not in said + logged


@pytest.mark.parametrize("strategy", ["feature_extraction", "fine_tune"])
def test_a_run_in_which_a_library_does_something_else_than_it_was_asked_fails(
    at_home: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
):
    real = experiment.build_head

    def warning(*args):
        warnings.warn("You passed a hat but heads are bare. Using `None` instead.", stacklevel=1)
        return real(*args)

    monkeypatch.setattr(experiment, "build_head", warning)
    assert main(["train", *tiny(pictures, f"strategy={strategy}"), "hydra.run.dir=run"]) == 1
    done = json.loads((at_home / "run" / "result.json").read_text())
    assert done["status"] == "failed"
    assert done["error"]["message"].startswith("You passed a hat")
