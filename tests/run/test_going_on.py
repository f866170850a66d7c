"""Runs that were stopped and go on: with what they need, to the same end, at the cost of all their epochs."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from headstart.cli.main import main
from headstart.record.directory import RunDirectory
from headstart.run import experiment
from headstart.training.checkpoints import read_checkpoint, write_checkpoint
from pictures import tiny, write_folder, write_weights

PLATEAU = ["strategy=gradual_unfreeze", "unfreeze=on_plateau", "unfreeze.restore_best=true", "unfreeze.num_groups=7"]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("files")
    weights = write_weights(root / "weights.pt")
    words = tiny(write_folder(root / "pictures"), "trainer.max_epochs=3", "strategy.average=ema")
    return [*words, f"backbone.weights={weights}"]


def train(words: list[str], into: str) -> int:
    return main(["train", *words, f"hydra.run.dir={into}"])


def stopped(words: list[str], into: str, epoch: int = 1) -> Path:
    """The directory of a run that was stopped in an epoch."""
    from epoch_callbacks import Cut

    with pytest.MonkeyPatch.context() as patch:
        made, cut = experiment.lightning_trainer, Cut(epoch, by=KeyboardInterrupt)
        patch.setattr(experiment, "lightning_trainer", lambda one, own, *rest: made(one, [*own, cut], *rest))
        assert train(words, into) == 130
    return Path(into)


def stopped_at(owner: Any, name: str, words: list[str], into: str) -> Path:
    """The same where it was about to call something."""

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, stop)
        assert train(words, into) == 130
    return Path(into)


def outcome(run: Path) -> tuple[Any, ...]:
    done = json.loads((run / "result.json").read_text())
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    weights = {name: tensor.numpy().tobytes() for name, tensor in state.items()}
    return done["metrics"], done["average"], done["cost"]["train_flops"], weights


@pytest.mark.parametrize(("own", "lost", "part"), [([], "best.ckpt", 0.0), (PLATEAU, "plateau-0.ckpt", 0.7)])
def test_weights_that_are_gone_or_damaged_are_said_and_training_starts_anew(
    at_home: Path, words: list[str], own: list[str], lost: str, part: float, capsys: pytest.CaptureFixture[str]
):
    train([*words, *own], "whole")
    run = stopped([*words, *own], "cut")
    place = run / "checkpoints" / lost
    os.truncate(place, int(part * place.stat().st_size)) if part else place.unlink()
    capsys.readouterr()
    assert train([*words, *own], "cut") == 0
    said = capsys.readouterr().err
    assert f"{lost} cannot be used: " in said
    assert "last.ckpt is set aside as last.ckpt.unusable, and training starts anew" in said
    assert outcome(run) == outcome(Path("whole"))


def test_a_run_stopped_between_training_and_its_record_tells_the_same(at_home: Path, words: list[str]):
    own = [*words, *PLATEAU, "strategy.frozen_norm=train"]
    train(own, "whole")
    run = stopped_at(experiment, "average_of", own, "cut")
    assert train(own, "cut") == 0
    assert outcome(run) == outcome(Path("whole"))
    assert outcome(run)[1]["norms_measured"] > 0
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["best.ckpt"]


@pytest.mark.parametrize("keeps", [True, False])
def test_a_run_stopped_behind_its_record_is_tidied_by_the_same_command(at_home: Path, words: list[str], keeps: bool):
    own = [*words, "strategy.average=wise_ft", f"trainer.keep_checkpoint={str(keeps).lower()}"]
    run = stopped_at(RunDirectory, "tidy", own, "cut")
    mixed = run / "checkpoints" / "final.ckpt"
    content = mixed.read_bytes()
    assert train(own, "cut") == 0
    left = {path.name: path for path in (run / "checkpoints").glob("*")}
    assert list(left) == (["best.ckpt"] if keeps else [])
    assert not keeps or left["best.ckpt"].read_bytes() == content


def test_what_a_run_cost_is_told_of_all_its_epochs(at_home: Path, words: list[str]):
    last = stopped(words, "run") / "checkpoints" / "last.ckpt"
    kept = read_checkpoint(last)
    for row in kept["callbacks"]["EpochRows"]["rows"]:
        row["seconds"] = 1000.0
    write_checkpoint(last, kept, kept["run_id"])
    train(words, "run")
    cost = json.loads(Path("run/result.json").read_text())["cost"]
    assert 1000 < cost["train_seconds"] < cost["total_seconds"] < 1300
