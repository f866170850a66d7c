"""Whole runs with nearest neighbours for a head: predict, rerun, export, and what they do not go with."""

import json
from pathlib import Path

import numpy as np
import pytest

import headstart
from headstart.cli.main import main
from pictures import tiny, write_folder

KNN = ("strategy=feature_extraction", "head=knn", "head.k=5")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"), per_class=30)


def run(*words: str, into: str = "run") -> dict:
    assert main(["train", *words, f"hydra.run.dir={into}"]) == 0
    return json.loads(Path(into, "result.json").read_text())


def test_a_run_is_predicted_and_done_again_from_its_directory(at_home: Path, pictures: Path):
    done = run(*tiny(pictures, *KNN))
    assert (done["cost"]["trainable_parameters"], done["metrics"]["best_epoch"]) == (0, 0)
    assert done["cost"]["train_flops"] > 0
    assert done["calibration"]["num_val"] == done["data"]["sizes"]["val"]
    with np.load("run/predictions.npz") as kept:
        ids, wanted = kept["test/id"].tolist(), kept["test/probability"].astype(np.float32)
    model = headstart.load("run")
    found = [[one.all[name] for name in model.classes] for one in model.predict([pictures / name for name in ids])]
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    assert main(["rerun", "run", "--check"]) == 0


def test_heads_of_all_kinds_stand_side_by_side_in_a_comparison(at_home: Path, pictures: Path):
    heads = ["head=linear,knn", "seed=0,1", "name=grid"]
    assert main(["train", "-m", *tiny(pictures, "strategy=feature_extraction"), *heads]) == 0
    found = [json.loads(path.read_text()) for path in Path("outputs/grid").glob("*/result.json")]
    assert [one["status"] for one in found] == ["completed"] * 4
    alone = run(*tiny(pictures, *KNN[:2], "seed=1"))
    same = next(one for one in found if one["run_id"] == alone["run_id"])
    assert same["metrics"] == alone["metrics"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("strategy=fine_tune",),
            "head=knn looks up the training examples on frozen features, but the strategy trains",
        ),
        (("trainer.limit_batches=2",), "trainer.limit_batches=2 leaves some out"),
        (("augmentation=mixup_cutmix",), "the augmentation mixes examples"),
        (("trainer.precision=64-true",), "trainer.precision=64-true trains step by step"),
        (("+strategy.frozen_norm=train",), "strategy.frozen_norm=train changes features"),
        (("head=linear", "head.solver=lbfgs", "trainer.limit_batches=2"), "head.solver=lbfgs solves for a head on"),
    ],
)
def test_what_a_head_without_steps_does_not_go_with_is_refused(at_home: Path, pictures: Path, capsys, words, said):
    own = [word for word in KNN if word.partition("=")[0] not in {one.partition("=")[0] for one in words}]
    own = [word for word in own if "head=linear" not in words or word != "head.k=5"]
    assert main(["train", *tiny(pictures, *own, *words)]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not Path("outputs").exists()


def test_it_goes_to_no_format_and_asks_no_more_neighbours_than_there_are(at_home: Path, pictures: Path, capsys):
    done = run(*tiny(pictures, *KNN[:2], "head.k=500"))
    assert any("head.k=500 is more than the" in note for note in done["notes"])
    assert main(["export", "run", "--to", "safetensors"]) == 2
    assert "Only head=linear and head=mlp can be exported" in " ".join(capsys.readouterr().err.split())
    assert main(["plan", *tiny(pictures, *KNN)]) == 0
