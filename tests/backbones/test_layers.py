"""Heads on the outputs of all layers: side by side, or weighed as SUPERB does, against transformers' hidden states."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import headstart
from headstart.backbones.huggingface import HuggingFaceText
from headstart.backbones.huggingface_audio import HuggingFaceAudio
from headstart.cli.main import main
from headstart.compat import declare_torchvision_operators
from headstart.errors import InputError
from headstart.export import export as room
from headstart.training.heads import Linear, WeighedStates, built_head
from tiny_runs import words_for

declare_torchvision_operators()
PROBE = ("strategy=feature_extraction", "optimizer.lr=0.05", "trainer.max_epochs=5", "trainer.monitor=val/loss")


def run(home: Path, *words: str, into: str = "run") -> dict:
    assert main(["train", *words, f"hydra.run.dir={into}"]) == 0
    return json.loads((home / into / "result.json").read_text())


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_features_side_by_side_are_the_pooled_hidden_states_of_transformers(places, pooling):
    import transformers

    backbone = HuggingFaceText(str(places["bert"]), pooling=pooling, layers="concat").build(True).eval()
    inputs = backbone.example()
    theirs = transformers.AutoModel.from_pretrained(places["bert"]).eval()
    with torch.no_grad():
        states = theirs(**inputs, output_hidden_states=True).hidden_states
        mask = inputs["attention_mask"][..., None]
        wanted = [state[:, 0] if pooling == "cls" else (state * mask).sum(1) / mask.sum(1) for state in states]
        assert (len(states), backbone.num_features) == (5, 5 * 32)
        torch.testing.assert_close(backbone(inputs), torch.cat(wanted, 1), rtol=1e-6, atol=1e-6)
    assert backbone.boundaries == [backbone.groups()[-1].name]


@pytest.mark.parametrize("family", ["bert", "gpt2", "wav2vec2", "whisper", "ast"])
def test_weighing_pooled_outputs_is_pooling_weighed_outputs(places, family):
    """A head that weighs gives what the model with these weights in it gives: so it leaves the house as that."""
    kind = HuggingFaceText if family in ("bert", "gpt2") else HuggingFaceAudio
    factory = kind(str(places[family]), pooling="mean", layers="weighted")
    apart = factory.for_head_alone().build(True).eval()
    torch.manual_seed(0)
    head = built_head(Linear(), apart.num_features, 3, apart.num_weighed)
    assert isinstance(head, WeighedStates)
    torch.nn.init.normal_(head.weights)
    inputs = apart.example()
    with torch.no_grad():
        wanted = head(apart(inputs))
        within = factory.build(True).eval()
        within.mix.weights.copy_(head.weights)
        torch.testing.assert_close(head.head(within(inputs)), wanted, rtol=1e-5, atol=1e-5)
        apart.weigh(head.weights)
        assert torch.equal(apart(inputs), within(inputs))


@pytest.mark.parametrize("family", ["bert", "wav2vec2"])
def test_a_probe_on_weighed_layers_trains_its_weights_and_is_loaded_again(at_home, places, family):
    words = [*words_for(family, places), *PROBE]
    done = run(at_home, *words, "backbone.layers=weighted")
    shares = done["details"]["layer_weights"]
    assert len(shares) == 5
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert np.ptp(shares) > 0.01
    assert done["cost"]["trainable_parameters"] == 5 + 2 * 32 + 2
    state = torch.load(at_home / "run/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    assert sorted(state) == ["head.head.bias", "head.head.weight", "head.weights"]
    assert state["head.weights"].softmax(0).tolist() == pytest.approx(shares, abs=1e-5)
    with np.load("run/predictions.npz") as kept:
        ids, probability = kept["test/id"].tolist(), kept["test/probability"].astype(np.float32)
    if family == "wav2vec2":
        found = headstart.load("run").predict([places["sounds"] / name for name in ids])
        said = [[one.all[name] for name in ("class0", "class1")] for one in found]
        np.testing.assert_allclose(said, probability, atol=1e-3)
    assert main(["rerun", "run", "--check"]) == 0


def test_probes_on_layers_in_one_comparison_are_as_each_alone(at_home, places):
    words = [*words_for("bert", places), *PROBE]
    grid = ["backbone.layers=last,concat,weighted", "optimizer.lr=0.01,0.05", "seed=0,1"]
    assert main(["train", "-m", *words, *grid, "name=grid"]) == 0
    states = {}
    for path in Path("outputs/grid").glob("*/result.json"):
        done = json.loads(path.read_text())
        key = (done["settings"].get("backbone.layers", "last"), done["settings"]["optimizer.lr"], done["seed"])
        states[key] = torch.load(path.parent / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    assert len(states) == 12
    for layers, width in (("weighted", 32), ("concat", 160)):
        alone = ["seed=1", "optimizer.lr=0.05", f"backbone.layers={layers}", f"hydra.run.dir={layers}"]
        assert main(["train", *words, *alone]) == 0
        state = torch.load(at_home / layers / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
        assert next(t for t in state.values() if t.ndim == 2).shape[1] == width
        found = states[layers, 0.05, 1]
        assert all(torch.equal(state[name], found[name]) for name in state)


@pytest.mark.parametrize("layers", ["weighted", "concat"])
def test_which_formats_a_head_on_layers_goes_to(at_home, places, tmp_path, layers, capsys):
    run(at_home, *words_for("wav2vec2", places), *PROBE, f"backbone.layers={layers}")
    if layers == "weighted":
        assert room.export(Path("run"), "transformers", tmp_path / "out").difference < 1e-5
        assert (tmp_path / "out" / "config.json").read_text().count('"use_weighted_layer_sum": true') == 1
    else:
        assert main(["export", "run", "--to", "transformers"]) == 2
        assert "its head reads the outputs of all layers" in capsys.readouterr().err
    assert main(["export", "run", "--to", "safetensors"]) == 2
    said = capsys.readouterr().err
    assert f"It can go to {'transformers' if layers == 'weighted' else 'none'}" in said


def test_concatenated_layers_go_with_an_exact_head_and_with_tuning(at_home, places):
    words = [*words_for("bert", places), "backbone.layers=concat"]
    assert run(at_home, *words, "strategy=feature_extraction", "head.solver=lbfgs", into="exact")["details"]["l2"] > 0
    for strategy in ("fine_tune", "lp_ft"):
        assert run(at_home, *words, f"strategy={strategy}", into=strategy)["status"] == "completed"


def test_what_cannot_weigh_layers_is_refused(at_home, places, capsys):
    words = [*words_for("bert", places), "backbone.layers=weighted"]
    assert main(["train", *words, "strategy=feature_extraction", "head.solver=lbfgs"]) == 2
    assert "backbone.layers=weighted has weights of layers that train" in capsys.readouterr().err
    with pytest.raises(InputError, match="concat goes with"):
        HuggingFaceAudio(str(places["ast"]), pooling="pooler", layers="concat").check(True)
    assert not Path("outputs").exists()


def test_the_plan_says_that_weights_of_layers_train(at_home, places, capsys):
    assert main(["plan", *words_for("bert", places), *PROBE, "backbone.layers=weighted"]) == 0
    assert "Layers: weights of 5 outputs, the stem's and each layer's, train with the head." in " ".join(
        capsys.readouterr().out.split()
    )
