"""Runs in every precision of a CPU: what they are scored by, what their models answer, and where they diverge."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import headstart
from headstart.cli.main import main
from headstart.run.load import load
from pictures import tiny, write_folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_folder(tmp_path_factory.mktemp("pictures") / "root")
    with (root / "numbers.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "number"])
        rows.writerows([path, 3 * place] for place, path in enumerate(sorted(root.rglob("*.png"))))
    return root


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
@pytest.mark.parametrize("strategy", ["feature_extraction", "fine_tune"])
def test_a_model_answers_what_its_run_was_scored_by(at_home: Path, pictures: Path, precision: str, strategy: str):
    """Heads on features are scored in single precision, whatever the features were computed in."""
    words = ["data=image_csv", f"data.path={pictures / 'numbers.csv'}", "task=regression", "data.label_column=number"]
    words += [f"strategy={strategy}", f"trainer.precision={precision}", "optimizer.lr=0.01", "trainer.max_epochs=1"]
    plain = [word for word in tiny(pictures) if not word.startswith(("data=", "data.root="))]
    assert main(["train", *plain, *words, "hydra.run.dir=run"]) == 0
    with np.load("run/predictions.npz") as kept:
        ids, recorded = kept["test/id"], kept["test/predicted"].reshape(-1)
    answers = headstart.load("run").predict([str(pictures / name) for name in ids])
    np.testing.assert_allclose([answer.score for answer in answers], recorded, rtol=1e-6)


def test_double_precision_is_loaded_with_all_its_digits(at_home: Path, pictures: Path):
    words = tiny(pictures, "strategy=fine_tune", "trainer.precision=64-true", "trainer.max_epochs=1")
    assert main(["train", *words, "hydra.run.dir=run"]) == 0
    kept = torch.load("run/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    loaded = load(Path("run")).model.state_dict()
    assert kept["head.weight"].float().double().ne(kept["head.weight"]).any()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in kept.items())


@pytest.mark.parametrize("strategy", ["feature_extraction", "fine_tune"])
def test_a_last_step_that_leaves_no_finite_numbers_is_a_divergence(at_home: Path, pictures: Path, strategy: str):
    """Its own loss was finite yet; scores of such weights would look like those of a poor model."""
    words = tiny(pictures, f"strategy={strategy}", "head=mlp", "optimizer=sgd", "optimizer.lr=1e30")
    more = ["trainer.max_epochs=1", "trainer.batch_size=64", "hydra.run.dir=run"]
    assert main(["train", *words, *more]) == 1
    error = json.loads(Path("run/result.json").read_text())["error"]
    assert error["type"] == "DivergedError"
    assert error["message"].startswith("The loss on val was not finite after epoch 1, step 1.")


def test_a_batch_of_one_that_batch_norms_cannot_take_is_told_with_its_remedy(at_home: Path, pictures: Path, capsys):
    words = tiny(pictures, "strategy=fine_tune", "trainer.batch_size=1", "trainer.max_epochs=1")
    assert main(["train", *words, "hydra.run.dir=run"]) == 1
    said = capsys.readouterr().err
    assert "one example gives them one value. Raise trainer.batch_size" in said
    assert json.loads(Path("run/result.json").read_text())["error"]["message"] in said.replace("\n", " ")


def test_features_are_handed_on_among_runs_with_the_same_threads_alone(at_home: Path, pictures: Path):
    """Sums that are shared out among threads round otherwise; a run that says how many is to be the same anywhere."""
    words = tiny(pictures, "strategy=feature_extraction", "trainer.max_epochs=1", "features.root=store")
    kept = []
    for threads, rate in ((1, 0.1), (1, 0.2), (2, 0.1), ("null", 0.1)):
        assert main(["train", *words, f"trainer.threads={threads}", f"optimizer.lr={rate}"]) == 0
        kept.append(len(list(Path("store").rglob("meta.json"))))
    assert kept == [1, 1, 2, 3]
