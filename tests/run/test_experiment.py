"""Whole runs on tiny pictures: settings do what they say, in both ways of training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, log_loss
from torch.optim.optimizer import register_optimizer_step_pre_hook

from headstart.cli.hydra_app import compose_config
from headstart.cli.main import main
from headstart.run.prepare import job_config, prepare
from pictures import CLASSES, tiny, write_folder

STRATEGIES = ("feature_extraction", "fine_tune")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"))


def run(home: Path, *words: str, into: str = "run") -> dict[str, Any]:
    assert main(["train", *words, f"hydra.run.dir={into}"]) == 0
    return json.loads((home / into / "result.json").read_text())


def history(home: Path, into: str = "run") -> np.ndarray:
    return np.genfromtxt(home / into / "history.csv", delimiter=",", names=True)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_metrics_follow_from_the_predictions_that_are_kept(at_home: Path, pictures: Path, strategy: str):
    done = run(at_home, *tiny(pictures, f"strategy={strategy}"))
    with np.load(at_home / "run" / "predictions.npz") as kept:
        label, probability = kept["test/label"], kept["test/probability"].astype(float)
        assert len(set(kept["test/id"])) == len(label) == done["data"]["sizes"]["test"]
    predicted = probability.argmax(1)
    assert done["metrics"]["test/accuracy"] == pytest.approx(accuracy_score(label, predicted), abs=1e-6)
    assert done["metrics"]["test/macro_f1"] == pytest.approx(f1_score(label, predicted, average="macro"), abs=1e-6)
    assert done["metrics"]["test/balanced_accuracy"] == pytest.approx(balanced_accuracy_score(label, predicted))
    assert done["metrics"]["test/loss"] == pytest.approx(
        log_loss(label, probability / probability.sum(1, keepdims=True), labels=range(len(CLASSES))), abs=5e-3
    )
    assert done["details"]["confusion"] == confusion_matrix(label, predicted, labels=range(len(CLASSES))).tolist()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("monitor", ["accuracy", "loss", "balanced_accuracy", "macro_f1"])
def test_the_epoch_reported_is_the_earliest_best_by_the_monitor(
    at_home: Path, pictures: Path, strategy: str, monitor: str
):
    words = [f"strategy={strategy}", f"trainer.monitor=val/{monitor}", "trainer.max_epochs=6", "optimizer.lr=0.01"]
    done = run(at_home, *tiny(pictures, *words))
    column = history(at_home)[f"val{monitor}"]
    best = int(np.argmin(column) if monitor == "loss" else np.argmax(column))
    assert done["metrics"]["best_epoch"] == best
    mode = "min" if monitor == "loss" else "max"
    assert done["selection"] == {"metric": f"val/{monitor}", "mode": mode, "value": pytest.approx(column[best])}
    assert done["metrics"][f"val/{monitor}"] == done["selection"]["value"]
    assert torch.load(at_home / "run" / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == best


def write_parts(root: Path) -> Path:
    """190 good parts, and 14 bad ones, most of them a little brighter in the middle."""
    rng = np.random.default_rng(0)
    for name, count, light in (("bad", 14, 45), ("good", 190, 0)):
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture = rng.integers(60, 120, (24, 24, 3))
            picture[8:16, 8:16] += light + int(rng.integers(-30, 31))
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(root / name / f"{number}.png")
    return root


def test_of_few_bad_parts_among_many_good_ones_always_good_is_not_selected_by_balanced_accuracy(at_home: Path):
    parts = write_parts(at_home / "parts")
    words = tiny(parts, "strategy=feature_extraction", "trainer.max_epochs=8", "trainer.batch_size=16")
    words += ["split.val_fraction=0.3", "split.test_fraction=0.3", "task.class_weights=balanced", "optimizer.lr=0.3"]
    by = {name: run(at_home, *words, f"trainer.monitor=val/{name}", into=name) for name in ("accuracy", "macro_f1")}
    by["balanced_accuracy"] = run(at_home, *words, "trainer.monitor=val/balanced_accuracy", into="balanced_accuracy")
    majority = 57 / 61  # of 61 test parts 4 are bad
    plain = by.pop("accuracy")["metrics"]
    assert plain["test/accuracy"] == plain["test/majority_accuracy"]
    assert plain["test/accuracy"] == pytest.approx(majority)
    assert plain["val/balanced_accuracy"] == plain["test/balanced_accuracy"] == 0.5
    for done in by.values():
        assert done["metrics"]["val/balanced_accuracy"] > 0.8
        assert done["metrics"]["test/balanced_accuracy"] > 0.7
        assert done["metrics"]["val/accuracy"] < plain["val/accuracy"]
    assert len({done["run_id"] for done in by.values()}) == 2


def test_what_changes_how_an_epoch_is_selected_changes_the_run_id_and_nothing_else_does(at_home: Path, pictures: Path):
    def rules(*words: str) -> list[str] | None:
        return prepare(job_config(compose_config(tiny(pictures, *words)))).identity.get("rules")

    assert rules() is None
    assert rules("trainer.patience=2") is None
    assert rules("strategy=lp_ft", "unfreeze.epochs=1") is None
    assert rules("strategy=feature_extraction", "trainer.patience=2", "trainer.min_delta=0.1") is None
    assert rules("strategy=feature_extraction", "head.solver=lbfgs", "trainer.monitor=val/loss") is None
    assert rules("trainer.monitor=val/loss") == ["the epoch is selected by the monitor"]
    lp_ft = rules("strategy=lp_ft", "unfreeze.epochs=1", "trainer.patience=1")
    assert lp_ft == ["patience counts in the last phase"]


def test_strategies_share_their_data_at_a_seed_and_differ_across_seeds(at_home: Path, pictures: Path):
    first = {s: run(at_home, *tiny(pictures, f"strategy={s}"), into=s) for s in STRATEGIES}
    other = run(at_home, *tiny(pictures, "seed=1"), into="other")
    splits = {done["data"]["split_sha256"] for done in first.values()}
    assert len(splits) == 1
    assert other["data"]["split_sha256"] not in splits


def test_the_run_id_follows_contents_and_not_places(at_home: Path, pictures: Path):
    copy = write_folder(at_home / "copy")
    other = write_folder(at_home / "other", seed=1)
    base = tiny(pictures, "strategy=feature_extraction")
    ids = [
        run(at_home, *base, f"data.root={root}", into=f"run{i}")["run_id"]
        for i, root in enumerate((pictures, copy, other))
    ]
    assert ids[0] == ids[1] != ids[2]
    assert run(at_home, *base, "name=elsewhere", into="run3")["run_id"] == ids[0]
    assert run(at_home, *base, "optimizer.weight_decay=0.5", into="run4")["run_id"] != ids[0]


SETTINGS = [
    "task.label_smoothing=0.2",
    "task.class_weights=balanced",
    "trainer.gradient_clip_val=0.01",
    "trainer.accumulate_grad_batches=2",
    "augmentation=light",
    "head=mlp",
    "optimizer=sgd",
    "scheduler=one_cycle",
    "scheduler=slanted_triangular",
    "optimizer._target_=torch.optim.RMSprop",
]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_setting_changes_the_numbers(at_home: Path, strategy: str):
    uneven = write_folder(at_home / "uneven")
    for path in sorted((uneven / "square").iterdir())[6:]:
        path.unlink()
    losses = {}
    for number, setting in enumerate(("seed=0", *SETTINGS)):
        run(at_home, *tiny(uneven, f"strategy={strategy}", setting), into=f"run{number}")
        losses[setting] = history(at_home, f"run{number}")["trainloss"][-1]
    assert [one for one in SETTINGS if losses[one] == losses["seed=0"]] == []


@pytest.mark.parametrize("max_steps", [1, 5])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_training_ends_at_max_steps(at_home: Path, pictures: Path, strategy: str, max_steps: int):
    """Within an epoch too, which is scored as the others are."""
    words = tiny(pictures, f"strategy={strategy}", "trainer.max_epochs=9", f"trainer.max_steps={max_steps}")
    done = run(at_home, *words, "optimizer.lr=0.05")
    rows = np.atleast_1d(history(at_home))
    assert rows["step"][-1] == max_steps
    assert np.isfinite(rows["trainloss"]).all()
    assert len(set(rows["valloss"])) == len(rows)
    assert done["metrics"]["val/loss"] in rows["valloss"]


@pytest.mark.parametrize("clip", ["null", pytest.param("1", marks=pytest.mark.slow)])
def test_an_update_is_in_one_pass_where_it_can_be(at_home: Path, pictures: Path, clip: str):
    """To the same numbers as torch's loop; mixed precision goes with clipping, and SGD with everything."""
    ways: list[Any] = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: ways.append(optimizer.defaults["fused"]))
    words = tiny(pictures, "strategy=fine_tune", "optimizer.lr=1e-3", f"trainer.gradient_clip_val={clip}")
    used = {}
    others = {"loop": "+optimizer.foreach=false", "mixed": "trainer.precision=bf16-mixed", "sgd": "optimizer=sgd"}
    try:
        for into, word in {"run": "seed=0", **others}.items():
            run(at_home, *words, word, into=into)
            (used[into],) = {*ways}
            ways.clear()
    finally:
        hook.remove()
    assert used == {"run": True, "loop": None, "mixed": True if clip == "null" else None, "sgd": None}
    for name in ("trainloss", "valloss"):
        assert history(at_home)[name] == pytest.approx(history(at_home, "loop")[name], rel=1e-4)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_early_stopping_ends_training(at_home: Path, pictures: Path, strategy: str):
    words = ["trainer.max_epochs=30", "trainer.patience=2", "optimizer.lr=1e-9"]
    run(at_home, *tiny(pictures, f"strategy={strategy}", *words))
    assert len(history(at_home)) == 3


@pytest.mark.parametrize(
    "augmentation", ["trivial_augment", "rand_augment", "mixup_cutmix", "standard", "random_erasing"]
)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_augmentation_runs(at_home: Path, pictures: Path, strategy: str, augmentation: str):
    run(at_home, *tiny(pictures, f"strategy={strategy}", f"augmentation={augmentation}"))


def test_frozen_backbones_leave_their_file_as_it_was_loaded(at_home: Path, pictures: Path):
    import timm

    model = timm.create_model("test_efficientnet")
    torch.save(model.state_dict(), at_home / "weights.pt")
    words = tiny(pictures, f"backbone.weights={at_home / 'weights.pt'}", "augmentation=mixup_cutmix")
    run(at_home, *words, "strategy=feature_extraction")
    state = torch.load(at_home / "run" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    for name, tensor in model.state_dict().items():
        if not name.startswith("classifier"):
            assert torch.equal(state[f"backbone.model.{name}"], tensor), name


def test_the_hash_of_the_weights_is_in_the_result(at_home: Path, pictures: Path):
    import hashlib

    import timm

    path = at_home / "weights.pt"
    torch.save(timm.create_model("test_efficientnet").state_dict(), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    for strategy in STRATEGIES:
        words = tiny(pictures, f"backbone.weights={path}", f"strategy={strategy}")
        assert run(at_home, *words, into=strategy)["weights"]["sha256"] == sha256


def test_features_are_computed_once(at_home: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch):
    from headstart.backbones.timm_model import TimmBackbone

    monkeypatch.setenv("HEADSTART_CACHE", str(at_home / "cache"))
    calls: list[int] = []
    forward = TimmBackbone.forward
    monkeypatch.setattr(TimmBackbone, "forward", lambda self, inputs: calls.append(1) or forward(self, inputs))
    first = run(at_home, *tiny(pictures, "strategy=feature_extraction", "seed=3"), into="first")
    assert len(calls) == 1  # 36 pictures in one batch
    second = run(at_home, *tiny(pictures, "strategy=feature_extraction", "seed=3", "optimizer.lr=0.5"), into="second")
    assert len(calls) == 1
    assert first["cost"]["feature_seconds"] == second["cost"]["feature_seconds"] > 0


def test_a_report_does_with_the_largest_probabilities(at_home: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch):
    import shutil

    monkeypatch.setattr("headstart.tasks.task.MOST_KEPT", 10)
    words = tiny(pictures, "strategy=feature_extraction", "name=many", "optimizer.lr=1e-9")
    assert main(["train", "-m", *words]) == 0
    (path,) = (at_home / "outputs" / "many").glob("*/predictions.npz")
    with np.load(path) as kept:
        assert "test/probability" not in kept
        wrong = kept["test/id"][kept["test/predicted"] != kept["test/label"]]
    shutil.rmtree(path.parent / "hardest")
    assert main(["report", "outputs/many", "--out", "page"]) == 0
    page = (at_home / "page" / "report.html").read_text(encoding="utf8")
    assert len(wrong)
    assert any(str(name) in page for name in wrong)
