"""Co-Tuning, whole runs: the classifier of the pretraining is timm's own, trains, and is left out of what is kept."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import headstart
from headstart.backbones.timm import Timm
from headstart.cli.main import main
from headstart.compat import declare_torchvision_operators
from headstart.errors import InputError
from headstart.export import export as room
from headstart.run import cotuning
from headstart.training.source_head import SourceHead
from pictures import tiny, write_folder, write_weights

declare_torchvision_operators()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "w.pth")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"))


def run(home: Path, *words: str, into: str = "run") -> dict:
    assert main(["train", *words, f"hydra.run.dir={into}"]) == 0
    return json.loads((home / into / "result.json").read_text())


@pytest.mark.parametrize("model", ["test_efficientnet", "test_vit", "test_convnext", "test_resnet"])
def test_the_source_classifier_on_our_features_gives_timms_own_logits(tmp_path: Path, model: str):
    import timm

    torch.manual_seed(0)
    whole = timm.create_model(model, num_classes=7).eval()
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    factory = Timm(model, weights=str(tmp_path / "w.pth"), size=160)
    backbone, classifier = factory.build(True).eval(), factory.source_classifier()
    pixels = torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        found = classifier(backbone({"pixels": pixels}))
        torch.testing.assert_close(found, whole(backbone.normalised(pixels)), rtol=1e-4, atol=1e-5)


def test_a_run_trains_both_classifiers_and_leaves_one(at_home: Path, pictures: Path, weights: Path, monkeypatch):
    made: list[SourceHead] = []
    attach = cotuning.attach

    def attaching(source, *rest):
        made.append(source)
        return attach(source, *rest)

    monkeypatch.setattr(cotuning, "attach", attaching)
    words = tiny(pictures, "strategy=cotuning", f"backbone.weights={weights}", "optimizer.lr=0.01")
    done = run(at_home, *words)
    started = Timm("test_efficientnet", weights=str(weights)).source_classifier()
    assert not torch.equal(made[0].linear.weight, started.weight)
    torch.testing.assert_close(made[0].relationship.sum(1), torch.ones(3))
    plain = run(at_home, *words[:-1], "strategy=fine_tune", "optimizer.lr=0.01", into="plain")
    source_size = started.weight.numel() + started.bias.numel()
    assert done["cost"]["trainable_parameters"] == plain["cost"]["trainable_parameters"] + source_size
    with np.load("run/predictions.npz") as kept:
        ids, wanted = kept["test/id"].tolist(), kept["test/probability"].astype(np.float32)
    model = headstart.load("run")
    assert not any("source" in name for name in model.module.state_dict())
    found = [[one.all[name] for name in model.classes] for one in model.predict([pictures / name for name in ids])]
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    assert room.export(Path("run"), "timm", at_home / "out").difference < 1e-5
    assert main(["rerun", "run", "--check"]) == 0


@pytest.mark.parametrize(
    "words",
    [
        ("strategy.average=ema",),
        ("strategy.average=wise_ft",),
        ("unfreeze=head_first", "unfreeze.epochs=1"),
        ("augmentation=mixup_cutmix",),
        ("strategy.sam=0.05",),
        ("+strategy.layer_rates=auto_rgn",),
        ("trainer.precision=64-true",),
    ],
)
def test_it_goes_with_what_other_strategies_go_with(at_home: Path, pictures: Path, weights: Path, words):
    done = run(at_home, *tiny(pictures, "strategy=cotuning", f"backbone.weights={weights}", *words))
    assert done["status"] == "completed"


def test_what_brings_no_classifier_or_has_no_classes_is_refused(at_home: Path, pictures: Path, tmp_path: Path, capsys):
    import timm

    without = tmp_path / "without.pth"
    torch.save(timm.create_model("test_efficientnet", num_classes=0).state_dict(), without)
    for words, said in (
        ([f"backbone.weights={without}"], "there is none that is one linear layer on the"),
        (["backbone.weights=none"], "its weights are random"),
    ):
        assert main(["train", *tiny(pictures, "strategy=cotuning", *words)]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    assert not Path("outputs").exists()
    with pytest.raises(InputError, match="comes without one"):
        Timm("test_efficientnet", weights="none").source_classifier()
