"""A model is found in what other programs save, in the layouts that they save it in; loading is strict."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from headstart.backbones.checkpoint import by_order, check_finite, compare, load_strictly
from headstart.backbones.huggingface import HuggingFaceText
from headstart.backbones.huggingface_audio import HuggingFaceAudio
from headstart.backbones.spectrogram import Spectrogram
from headstart.backbones.timm import Timm
from headstart.cli.main import main
from headstart.compat import declare_torchvision_operators
from headstart.errors import InputError

MODEL = "test_resnet"


@pytest.fixture(scope="module")
def models() -> tuple[nn.Module, nn.Module]:
    """Two networks of different weights, with their classifiers."""
    declare_torchvision_operators()
    import timm

    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        made.append(timm.create_model(MODEL, num_classes=5))
    return made[0], made[1]


def put(prefix: str, model: nn.Module) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in model.state_dict().items()}


def without_classifier(prefix: str, model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in put(prefix, model).items() if not name.startswith(f"{prefix}fc.")}


def optimizer(model: nn.Module) -> dict:
    trained = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    trained.step()
    return trained.state_dict()


ARGS = argparse.Namespace(model=MODEL, lr=0.1)
LAYOUTS = {
    "its state dict": (lambda a, b: put("", a), ""),
    "timm's train.py": (
        lambda a, b: {
            "epoch": 3,
            "arch": MODEL,
            "state_dict": put("", a),
            "optimizer": {},
            "args": ARGS,
            "version": 2,
            "metric": 7.5,
        },
        "state_dict",
    ),
    "timm's train.py with an average": (
        lambda a, b: {"state_dict": put("", b), "state_dict_ema": put("", a), "args": ARGS},
        "state_dict_ema",
    ),
    "torchvision's train.py": (
        lambda a, b: {
            "model": put("", b),
            "model_ema": {"n_averaged": torch.tensor(3), **put("module.", a)},
            "args": ARGS,
        },
        "model_ema.module",
    ),
    "torch.compile": (lambda a, b: put("_orig_mod.", a), "_orig_mod"),
    "DDP around torch.compile": (
        lambda a, b: {"model_state_dict": put("module._orig_mod.", a)},
        "model_state_dict.module._orig_mod",
    ),
    "Lightning with a metric and a criterion": (
        lambda a, b: {
            "pytorch-lightning_version": "2.5",
            "state_dict": {**put("net.", a), "criterion.weight": torch.ones(5), "acc.tp": torch.zeros(5)},
            "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
            "hyper_parameters": {"net": "x"},
        },
        "state_dict.net",
    ),
    "Lightning's average of weights": (
        lambda a, b: {"state_dict": put("model.", a), "current_model_state": put("model.", b)},
        "state_dict.model",
    ),
    "ours": (
        lambda a, b: {
            "state_dict": {**without_classifier("backbone.model.", a), "head.linear.weight": torch.ones(5, 4)},
            "epoch": 2,
        },
        "state_dict.backbone.model",
    ),
    "solo-learn": (
        lambda a, b: {
            "state_dict": {
                **without_classifier("backbone.", a),
                **without_classifier("momentum_backbone.", b),
                "classifier.weight": torch.ones(5, 4),
                "projector.0.weight": torch.ones(4, 4),
            }
        },
        "state_dict.backbone",
    ),
    "MoCo": (
        lambda a, b: {
            "arch": MODEL,
            "state_dict": {
                **put("module.encoder_q.", a),
                **put("module.encoder_k.", b),
                "module.queue": torch.ones(4, 8),
                "module.queue_ptr": torch.zeros(1),
            },
        },
        "state_dict.module.encoder_q",
    ),
    "MoCo v3": (
        lambda a, b: {
            "state_dict": {
                **put("module.base_encoder.", a),
                **put("module.momentum_encoder.", b),
                "module.predictor.0.weight": torch.ones(2, 2),
            }
        },
        "state_dict.module.base_encoder",
    ),
    "SwAV": (
        lambda a, b: {
            **put("module.", a),
            "module.projection_head.0.weight": torch.ones(2, 2),
            "module.prototypes.weight": torch.ones(2, 2),
        },
        "module",
    ),
    "DINO's teacher alone": (
        lambda a, b: {
            "teacher": {**without_classifier("backbone.", a), "head.mlp.0.weight": torch.ones(2, 2)},
            "args": ARGS,
        },
        "teacher.backbone",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_the_model_is_found_in_what_others_save(tmp_path, models, layout, kind, caplog):
    make, place = LAYOUTS[layout]
    content = make(*models)
    if kind == "safetensors":
        content = {name: tensor.clone() for name, tensor in _flat(content, "")}
        save_file(content, tmp_path / "w.safetensors")
    else:
        torch.save(content, tmp_path / "w.pth")
    factory = Timm(MODEL, weights=str(tmp_path / f"w.{kind}"), size=32)
    factory.check(True)
    said = [record.getMessage() for record in caplog.records]
    backbone = factory.build(True)
    expected = without_classifier("", models[0])
    assert all(torch.equal(tensor, expected[name]) for name, tensor in backbone.model.state_dict().items())
    assert backbone.weights.place == place
    if layout == "its state dict":
        assert not said
    else:
        (note,) = said
        assert f"the {len(expected)} of {place} are the model's" in note


def _flat(node, name):
    for key, child in node.items():
        if isinstance(child, dict):
            yield from _flat(child, f"{name}{key}.")
        elif isinstance(child, torch.Tensor):
            yield f"{name}{key}", child


def test_what_is_taken_and_what_is_left_out_is_said_by_name_and_number(tmp_path, models, caplog):
    content = {"state_dict": put("module.", models[0]), "state_dict_ema": put("module.", models[1]), "args": ARGS}
    torch.save({**content, "optimizer": optimizer(models[0])}, tmp_path / "w.pth.tar")
    factory = Timm(MODEL, weights=str(tmp_path / "w.pth.tar"), size=32)
    factory.check(True)
    num, states = len(models[0].state_dict()), len(list(_flat(optimizer(models[0]), "")))
    (note,) = [record.getMessage() for record in caplog.records]
    assert note == (
        f"backbone.weights={tmp_path}/w.pth.tar: of its {2 * num + states} tensors, the {num - 2} of "
        "state_dict_ema.module are the model's; left out: state_dict_ema.module.fc (2), "
        f"state_dict ({num}), optimizer ({states}); objects that are no tensors: "
        "argparse.Namespace. The model is also at state_dict.module, with other values: "
        "backbone.weights_key=state_dict takes that."
    )
    ignored = factory.build(True).weights.ignored
    assert ignored == ("fc.weight", "fc.bias", "state_dict.*", "optimizer.*")


def test_a_key_chooses_among_several_models_and_so_does_the_identity(tmp_path, models):
    torch.save({"state_dict": put("", models[0]), "state_dict_ema": put("", models[1])}, tmp_path / "w.pth")
    by_key = {
        key: Timm(MODEL, str(tmp_path / "w.pth"), size=32, weights_key=key)
        for key in (None, "state_dict", "state_dict_ema")
    }
    first = {key: factory.build(True).model.conv1[0].weight for key, factory in by_key.items()}
    assert torch.equal(first["state_dict"], models[0].conv1[0].weight)
    assert torch.equal(first[None], models[1].conv1[0].weight)
    names = {key: factory.identity(True)["weights"] for key, factory in by_key.items()}
    assert names[None] == names["state_dict_ema"] != names["state_dict"]
    torch.save({"state_dict": put("", models[0])}, tmp_path / "w.pth")
    for key in (None, "state_dict"):  # where there is nothing to choose, it is the file alone, as it always was
        name = Timm(MODEL, str(tmp_path / "w.pth"), size=32, weights_key=key).identity(True)["weights"]
        assert len(name) == len("sha256:") + 64


@pytest.mark.parametrize(
    "layout",
    [
        lambda a, b: {"student": put("module.backbone.", a), "teacher": put("backbone.", b), "args": ARGS},
        lambda a, b: {"state_dict": {**put("student.", a), **put("teacher.", b)}},
    ],
)
def test_student_and_teacher_are_for_the_user_to_choose_from(tmp_path, models, layout):
    torch.save(layout(*models), tmp_path / "w.pth")
    with pytest.raises(InputError, match="hold the model 2 times, with different values") as caught:
        Timm(MODEL, str(tmp_path / "w.pth"), size=32).check(True)
    keys = [word.partition("=")[2].rstrip(".") for word in str(caught.value).split() if "weights_key=" in word]
    for key, model in zip(keys, models, strict=True):
        backbone = Timm(MODEL, str(tmp_path / "w.pth"), size=32, weights_key=key).build(True)
        assert torch.equal(backbone.model.conv1[0].weight, model.conv1[0].weight)
    with pytest.raises(InputError, match=r"weights_key=nowhere must name a place .* At its top are st"):
        Timm(MODEL, str(tmp_path / "w.pth"), size=32, weights_key="nowhere").check(True)


def test_two_copies_of_the_same_values_are_no_choice(tmp_path, models):
    torch.save({"student": put("", models[0]), "teacher": put("", models[0])}, tmp_path / "w.pth")
    factory = Timm(MODEL, str(tmp_path / "w.pth"), size=32)
    factory.check(True)
    assert len(factory.identity(True)["weights"]) == len("sha256:") + 64


def _without(state, name):
    return {key: tensor for key, tensor in state.items() if not key.endswith(name)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda s: _without(s, "conv1.0.weight"),
            r"at state_dict\.net do not fit .*missing keys \(1\): conv1\.0\.weight\.",
        ),
        (
            lambda s: {**s, "net.conv1.0.weight": torch.zeros(2, 3, 3, 3)},
            r"of another shape \(1\): conv1\.0\.weight \(2, 3",
        ),
        (lambda s: {**s, "net.norm_pre.weight": torch.zeros(2)}, r"unexpected keys \(1\): norm_pre\.weight"),
        (lambda s: {**s, "net.layer1.7.conv1.weight": torch.zeros(2)}, r"unexpected keys \(1\): layer1\.7\.conv1"),
        (lambda s: {"net.head.weight": torch.zeros(2)}, "missing keys"),
    ],
)
def test_what_is_found_is_still_held_to_every_tensor(tmp_path, models, change, words):
    torch.save({"state_dict": change(put("net.", models[0]))}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=words):
        Timm(MODEL, str(tmp_path / "w.pth"), size=32).check(True)


def test_a_head_alone_and_adapters_are_told(tmp_path, models):
    torch.save({"state_dict": {"head.weight": torch.zeros(2, 2), "head.bias": torch.zeros(2)}}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="it holds a head alone, as of a run whose backbone was frozen"):
        Timm(MODEL, str(tmp_path / "w.pth"), size=32).check(True)
    state = {name.replace("conv2.", "conv2.base_layer."): tensor for name, tensor in put("", models[0]).items()}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError, match="holds adapters beside the weights: merge them first"):
        Timm(MODEL, str(tmp_path / "w.pth"), size=32).check(True)


def test_files_from_before_torch_counted_batches_are_read(tmp_path, models):
    torch.save(_without(put("", models[0]), "num_batches_tracked"), tmp_path / "w.pth")
    state = Timm(MODEL, str(tmp_path / "w.pth"), size=32).build(True).model.state_dict()
    assert all(tensor == 0 for name, tensor in state.items() if name.endswith("num_batches_tracked"))


def test_prefixes_and_an_architectures_own_conversion_go_together(tmp_path):
    """timm's conversion resizes position embeddings; here below a prefix."""
    import timm

    big = timm.create_model("test_vit", num_classes=3)
    torch.save({"teacher": put("backbone.", big)}, tmp_path / "w.pth")
    backbone = Timm("test_vit", str(tmp_path / "w.pth"), size=64).build(True)
    plain = tmp_path / "plain.pth"
    torch.save(big.state_dict(), plain)
    expected = Timm("test_vit", str(plain), size=64).build(True).model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in backbone.model.state_dict().items())
    assert backbone.model.pos_embed.shape != big.pos_embed.shape


# --- transformers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "gpt2", "roberta"])
@pytest.mark.parametrize("prefix", ["", "model.", "state_dict.module."])
def test_a_text_models_weights_are_found_in_a_file(tmp_path, tiny_models, family, prefix, caplog):
    """As transformers' task models have them: below the model's own prefix, with a head beside it."""
    import transformers

    folder = tiny_models.save_text(tmp_path / "model", family)
    torch.manual_seed(1)
    kinds = {"gpt2": transformers.GPT2LMHeadModel}
    make = kinds.get(family, transformers.AutoModelForSequenceClassification.from_config)
    task = make(tiny_models.text_configs()[family])
    torch.save({prefix + name: tensor for name, tensor in task.state_dict().items()}, tmp_path / "w.bin")
    factory = HuggingFaceText(str(folder), str(tmp_path / "w.bin"), pooling="last")
    factory.check(True)
    backbone = factory.build(True)
    expected = task.base_model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in backbone.model.state_dict().items())
    assert backbone.weights.place == f"{prefix}{task.base_model_prefix}"
    assert "are the model's; left out: " in caplog.text
    assert factory.identity(True)["weights"] == f"sha256:{backbone.weights.sha256}"
    assert factory.record(True).source == str(tmp_path / "w.bin")


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "ast", "whisper"])
@pytest.mark.parametrize("names", ["in files", "in memory"])
def test_a_sound_models_weights_are_found_in_a_file(tmp_path, tiny_models, family, names):
    """AST's tensors have other names in files than in memory; of Whisper a run of ours has the encoder alone."""
    from safetensors.torch import load_file

    folder = tiny_models.save_audio(tmp_path / "model", family)
    expected = HuggingFaceAudio(str(folder)).build(True).model.state_dict()
    state = load_file(folder / "model.safetensors") if names == "in files" else expected
    torch.save(
        {"state_dict": {f"backbone.model.{name}": tensor for name, tensor in state.items()}}, tmp_path / "w.ckpt"
    )
    factory = HuggingFaceAudio(str(folder), str(tmp_path / "w.ckpt"))
    factory.check(True)
    found = factory.build(True).model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_a_file_of_another_transformer_is_refused_before_anything_is_trained(tmp_path, tiny_models):
    folder = tiny_models.save_text(tmp_path / "model", "bert")
    torch.save({"encoder.layer.0.weight": torch.zeros(3)}, tmp_path / "w.pt")
    with pytest.raises(InputError, match="missing keys"):
        HuggingFaceText(str(folder), str(tmp_path / "w.pt")).check(True)
    with pytest.raises(InputError, match="weights_key=teacher says where in a file the model is"):
        HuggingFaceText(str(folder), weights_key="teacher").check(True)
    with pytest.raises(InputError, match="there is no file"):
        HuggingFaceText(str(folder), str(tmp_path / "nowhere.pt")).check(True)


# --- runs of our own ------------------------------------------------------------------------------------------------

TIMM = ["backbone=timm", f"backbone.model={MODEL}", "data.size=32"]
SOUND = ["backbone=spectrogram", f"backbone.model={MODEL}", "backbone.num_mels=32", "data.clips_per_class=3"]
SHORT = ["trainer.max_epochs=1", "trainer.limit_batches=1", "trainer.threads=1", "logger=none"]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["data=openmoji", *TIMM, "strategy=fine_tune"], marks=pytest.mark.slow),
        ["data=openmoji", *TIMM, "strategy=lora", "strategy.adapter.r=2", "strategy.adapter.merge=true"],
        pytest.param(["data=openmoji", *TIMM, "strategy=l2_sp"], marks=pytest.mark.slow),
        ["data=synthetic_audio", *SOUND, "strategy=fine_tune"],
    ],
    ids=["fine_tune", "lora, merged", "l2_sp", "spectrogram"],
)
def test_a_run_starts_from_the_best_weights_of_another(at_home, words):
    weights = "backbone.weights=none" if "strategy=l2_sp" not in words else _random_file(at_home)
    assert main(["train", *words, *SHORT, weights, "hydra.run.dir=first"]) == 0
    second = [word for word in words if not word.startswith("strategy")]
    again = ["strategy=fine_tune", "backbone.weights=first/checkpoints/best.ckpt", "hydra.run.dir=second"]
    assert main(["train", *second, *SHORT, *again]) == 0
    done = json.loads(Path("second/result.json").read_text())
    assert done["weights"]["place"] == "state_dict.backbone.model"
    assert "state_dict.head.*" in done["weights"]["ignored"]
    assert any(
        "of state_dict.backbone.model are the model's; left out: state_dict.head (2)" in note for note in done["notes"]
    )
    kind = (
        Spectrogram(MODEL, "first/checkpoints/best.ckpt", num_mels=32)
        if "data=synthetic_audio" in words
        else Timm(MODEL, "first/checkpoints/best.ckpt", size=32)
    )
    kept = torch.load("first/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    for name, tensor in kind.build(True).model.state_dict().items():
        assert torch.equal(tensor, kept[f"backbone.model.{name}"])


def _random_file(folder: Path) -> str:
    torch.save(Timm(MODEL, "none", size=32).build(False).model.state_dict(), folder / "random.pth")
    return "backbone.weights=random.pth"


# --- comparing ------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_listed_in_full_measure():
    module = nn.Linear(3, 2)
    state = {"weight": torch.zeros(3, 3)} | {f"extra{i}": torch.zeros(1) for i in range(12)}
    with pytest.raises(InputError) as caught:
        load_strictly(module, state, "w.pth")
    message = str(caught.value)
    assert "missing keys (1): bias" in message
    assert "weight (3, 3) instead of (2, 3)" in message
    assert "unexpected keys (12): extra0, " in message
    assert "extra9 and 2 more" in message


def test_loading_copies_every_tensor():
    module, other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    other.running_mean.fill_(2)
    load_strictly(module, {n: t.to(torch.float64) for n, t in other.state_dict().items()}, "w")
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in module.state_dict().items())
    assert module.weight.dtype == torch.float32


def test_only_the_classifier_and_heads_beside_the_models_own_modules_are_left_out():
    one = torch.zeros(1)
    state = dict.fromkeys(
        ("head.weight", "head_dist.bias", "header", "a.weight", "a.head.weight", "projector.0.weight"), one
    )
    found = compare({"a.weight": one}, state, ["head", "head_dist"])
    assert found.ignored == ("head.weight", "head_dist.bias")
    assert found.heads == ("projector.0.weight",)
    assert found.unexpected == ("header", "a.head.weight")


def test_tensors_in_order_take_the_models_names():
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}
    reference = {"x": torch.zeros(2, 3), "y": torch.zeros(2)}
    assert list(by_order(state, reference).state) == ["x", "y"]
    assert by_order(dict(reversed(state.items())), state).is_exact
    swapped = by_order(state, {"x": torch.zeros(3, 2), "y": torch.zeros(2)})
    assert "a.weight (2, 3) against x (3, 2)" in swapped.problems
    assert "2 tensors against the model's 1" in by_order(state, {"x": torch.zeros(2, 3)}).problems


def test_numbers_that_are_none_are_refused():
    with pytest.raises(InputError, match="must be finite numbers, but some are not; in"):
        check_finite({"a": torch.tensor([1.0, float("nan")]), "b": torch.ones(2)}, "w.pth")
