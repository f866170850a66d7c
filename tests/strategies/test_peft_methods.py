"""Adapters beside LoRA: each against its formula, on the layers that it takes, refused on others, saved, folded."""

import json
from math import sqrt

import numpy as np
import pytest
import torch
from torch import nn

import tiny_models
from headstart.compat import declare_torchvision_operators
from headstart.config.composer import conf_dir
from headstart.errors import InputError
from headstart.strategies.adapter_layers import TAKES, WORDS, adaptable
from headstart.strategies.adapters import FACTORS, Lora, is_adapter, layers_of
from headstart.strategies.peft_methods import METHODS, USUAL, Peft
from headstart.strategies.strategy import Strategy
from headstart.strategies.unfreeze import AtStart

declare_torchvision_operators()
VIT = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 32}
RESNET = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}


def of(method, **settings):
    small = {name: 4 for name in ("r", "block_size") if name in getattr(METHODS.get(method), "fields", {"r": 4})}
    return Lora(r=4, **settings) if method == "lora" else Peft(method, **{**small, **settings})


def layer(kind):
    """A layer of this kind, and inputs for it."""
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    made = {
        "linear": lambda: nn.Linear(16, 24),
        "transposed": lambda: Conv1D(24, 16),
        "pointwise": lambda: nn.Conv2d(16, 24, 1, stride=2),
        "convolution": lambda: nn.Conv2d(16, 24, 3, padding=1, bias=False),
        "dilated": lambda: nn.Conv2d(16, 24, 3, padding=2, dilation=2),
        "grouped": lambda: nn.Conv2d(16, 16, 3, padding=1, groups=16),
    }[kind]()
    return made, torch.randn((3, 16) if kind in ("linear", "transposed") else (2, 16, 6, 6))


class Holder(nn.Module):
    """As a backbone holds its library's model."""

    def __init__(self, model):
        super().__init__()
        self.model = model


def stirred(model):
    """The model with adapters that have been trained a little."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_adapter(name):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def put(adapter, backbone):
    adapter.check(backbone)
    adapter.inject(backbone)
    adapter.start(backbone)
    return backbone


def works(method, kind):
    """Whether peft's adapter begins as nothing on such a layer, all of it gets a gradient, and it merges."""
    from peft import inject_adapter_in_model

    made, inputs = layer(kind)
    model = nn.ModuleDict({"one": made})
    try:
        before = made(inputs)
        inject_adapter_in_model(of(method).config("one"), model)
        adapted = model["one"]
        begins = torch.allclose(adapted(inputs), before, atol=1e-5)
        adapted(inputs).square().sum().backward()
        trained = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
        stirred(model)
        tuned = adapted(inputs)
        adapted.merge()
        merges = torch.allclose(adapted.get_base_layer()(inputs), tuned, atol=1e-5)
    except (RuntimeError, ValueError, TypeError, NotImplementedError):
        return False
    assert set(trained) == set(filter(is_adapter, dict(model.named_parameters())))
    return begins and merges and not torch.allclose(tuned, before, atol=1e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", TAKES)
def test_a_method_takes_the_layers_on_which_it_works_and_no_others(method):
    assert {kind for kind in WORDS if works(method, kind)} == TAKES[method]


def test_layers_are_of_the_kind_that_they_are():
    for kind in WORDS:
        assert adaptable(nn.ModuleDict({"one": layer(kind)[0]})) == {"one": kind}
    mirrored = nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect")
    assert adaptable(nn.ModuleDict({"one": mirrored})) == {}


def test_the_table_in_the_docs_is_the_one_that_is_tested():
    text = (conf_dir().parent / "docs" / "strategies.md").read_text(encoding="utf8")
    for method, takes in TAKES.items():
        cells = " | ".join("✓" if kind in takes else "–" for kind in WORDS)
        assert f"| `{method}` | {cells} |" in text


# --- formulas --------------------------------------------------------------------------------------------------------


def tuned_linear(method, **settings):
    """A linear layer, its adapted version after some training, and the adapter's tensors by their last names."""
    made, _ = layer("linear")
    plain = made.weight.detach().clone()
    model = stirred(put(of(method, **settings), nn.ModuleDict({"one": made})))
    named = {name.removeprefix("one."): value.detach() for name, value in model.named_parameters() if is_adapter(name)}
    own = {name.replace(".default", "").replace(".weight", ""): value for name, value in named.items()}
    return plain, made.bias, model["one"], own


def check_weights(adapted, bias, weights):
    inputs = torch.randn(5, 16)
    torch.testing.assert_close(adapted(inputs), inputs @ weights.T + bias, atol=1e-5, rtol=1e-4)


def test_dora_tunes_lengths_and_directions_apart():
    """Liu et al. 2024, equation 5: each output's weights have the length m."""
    plain, bias, adapted, own = tuned_linear("dora", alpha=8.0)
    moved = plain + 2 * own["lora_B"] @ own["lora_A"]
    check_weights(adapted, bias, own["lora_magnitude_vector"][:, None] * moved / moved.norm(dim=1, keepdim=True))


def test_rslora_divides_by_the_root_of_the_rank():
    plain, bias, adapted, own = tuned_linear("rslora", alpha=8.0)
    check_weights(adapted, bias, plain + 8 / sqrt(4) * own["lora_B"] @ own["lora_A"])


def test_pissa_begins_with_the_largest_singular_values():
    """Meng et al. 2024, equations 2 to 4."""
    made, _ = layer("linear")
    plain = made.weight.detach().numpy().copy()
    model = put(of("pissa"), nn.ModuleDict({"one": made}))
    own = {name: value.detach().numpy() for name, value in model.named_parameters()}
    left, values, right = np.linalg.svd(plain, full_matrices=False)
    principal = (left[:, :4] * values[:4]) @ right[:4]
    update = 16 / 4 * own["one.lora_B.default.weight"] @ own["one.lora_A.default.weight"]
    np.testing.assert_allclose(update, principal, atol=1e-5)
    np.testing.assert_allclose(own["one.base_layer.weight"], plain - principal, atol=1e-5)


def test_ia3_multiplies_outputs():
    plain, bias, adapted, own = tuned_linear("ia3")
    check_weights(adapted, bias * own["ia3_l"][:, 0], plain * own["ia3_l"])


def test_loha_adds_a_product_of_two_low_ranks_and_lokr_a_kronecker_product():
    plain, bias, adapted, own = tuned_linear("loha", alpha=8.0)
    both = [own[f"hada_w{n}_a"] @ own[f"hada_w{n}_b"] for n in (1, 2)]
    check_weights(adapted, bias, plain + 2 * both[0] * both[1])
    plain, bias, adapted, own = tuned_linear("lokr", alpha=8.0)
    check_weights(adapted, bias, plain + 2 * torch.kron(own["lokr_w1"], own["lokr_w2"]))


def test_oft_turns_inputs_and_changes_no_angle_or_length():
    plain, bias, adapted, own = tuned_linear("oft")
    turned = torch.eye(16)
    for block, upper in enumerate(own["oft_R"]):
        skew = torch.zeros(4, 4)
        skew[torch.triu(torch.ones(4, 4), 1) > 0] = upper
        skew = skew - skew.T
        here = slice(4 * block, 4 * block + 4)
        turned[here, here] = (torch.eye(4) + skew) @ torch.linalg.inv(torch.eye(4) - skew)  # Cayley's
    torch.testing.assert_close(turned @ turned.T, torch.eye(16), atol=1e-5, rtol=0)
    inputs = torch.randn(5, 16)
    wanted = {f"{word}": inputs @ one @ plain.T + bias for word, one in (("R", turned), ("Rt", turned.T))}
    assert any(torch.allclose(adapted(inputs), one, atol=1e-5) for one in wanted.values())


# --- models ----------------------------------------------------------------------------------------------------------


def timm_model(name, **arguments):
    import timm

    torch.manual_seed(0)
    return timm.create_model(name, num_classes=0, **arguments).eval()


def transformers_model(family):
    from transformers import AutoModel

    torch.manual_seed(0)
    return AutoModel.from_config({**tiny_models.text_configs(), **tiny_models.audio_configs()}[family]).eval()


MODELS = {
    "vit": (lambda: timm_model("vit_tiny_patch16_224", **VIT), lambda: torch.randn(2, 3, 32, 32)),
    "resnet": (lambda: timm_model("resnet18", **RESNET), lambda: torch.randn(2, 3, 32, 32)),
    "efficientnet": (lambda: timm_model("test_efficientnet"), lambda: torch.randn(2, 3, 32, 32)),
    "bert": (lambda: transformers_model("bert"), lambda: torch.randint(0, 40, (2, 7))),
    "gpt2": (lambda: transformers_model("gpt2"), lambda: torch.randint(0, 40, (2, 7))),
    "wav2vec2": (lambda: transformers_model("wav2vec2"), lambda: torch.randn(2, 2000)),
}
UNFIT = {("resnet", "pissa"), ("efficientnet", "pissa"), *(("gpt2", method) for method in ("loha", "lokr", "oft"))}


def outputs(model, inputs):
    found = model(inputs)
    return found if isinstance(found, torch.Tensor) else found.last_hidden_state


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("family", "method"), [(f, m) for f in MODELS for m in METHODS if (f, m) not in UNFIT])
def test_an_adapter_begins_as_nothing_trains_alone_is_saved_for_peft_and_folds_away(tmp_path, family, method):
    from peft import PeftModel

    make, draw = MODELS[family]
    inputs, adapter, backbone = draw(), of(method), Holder(make())
    before = outputs(backbone.model, inputs).detach()
    put(adapter, backbone)
    after = outputs(backbone.model, inputs)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    after.square().sum().backward()
    reached = {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    assert reached == set(filter(is_adapter, dict(backbone.named_parameters())))
    with torch.no_grad():
        tuned = outputs(stirred(backbone).model, inputs)
        assert not torch.allclose(tuned, before, atol=1e-3)
        adapter.save(backbone, tmp_path)
        loaded = PeftModel.from_pretrained(make(), str(tmp_path)).eval()
        torch.testing.assert_close(outputs(loaded, inputs), tuned, atol=1e-5, rtol=1e-5)
        adapter.fold(backbone)
        torch.testing.assert_close(outputs(backbone.model, inputs), tuned, atol=1e-4, rtol=1e-4)
    assert set(backbone.model.state_dict()) == set(make().state_dict())


def test_depthwise_convolutions_are_taken_by_default_where_a_method_takes_them():
    model = timm_model("test_efficientnet")
    depthwise = {name for name, kind in adaptable(model).items() if kind == "grouped"}
    assert depthwise
    for method in TAKES:
        if method != "pissa":
            assert bool(depthwise & set(of(method).target_names(model))) == ("grouped" in TAKES[method])


def test_only_what_began_at_nothing_is_scaled_in_a_mixture_with_the_pretrained_weights():
    mixed = [method for method, known in METHODS.items() if known.refuses_mixture is None and known.starts_at_nothing]
    for method in mixed:
        for rank in (1, 4):
            model = put(of(method, r=rank), nn.ModuleDict({"one": layer("linear")[0]}))
            own = {name: value for name, value in model.named_parameters() if is_adapter(name)}
            zero = {name for name, value in own.items() if not value.any()}
            assert zero == {name for name in own if FACTORS.search(name) is None}, method


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_settings_come_to_fields_of_pefts_own_configuration(method):
    values = {"r": 3, "alpha": 5.0, "dropout": 0.25, "block_size": 6, "factor": 7}
    given = {name: values[name] for name in METHODS[method].fields}
    config = Peft(method, **given).config("one")
    for name, theirs in METHODS[method].fields.items():
        assert getattr(config, theirs) == values[name]
        assert getattr(Peft(method).config("one"), theirs) == (-1 if name == "factor" else USUAL[name])
    for name, value in METHODS[method].fixed.items():
        assert json.loads(json.dumps(getattr(config, name), default=list)) == value


@pytest.mark.parametrize(("settings", "message"), [
    ({"method": "ia3", "r": 4}, r"method=ia3 has no r: leave strategy.adapter.r=4 out. It has no settings of its own."),
    ({"method": "oft", "alpha": 1.0}, "It has strategy.adapter.block_size, strategy.adapter.dropout."),
    ({"method": "dora", "factor": 4}, "method=dora has no factor"),
])  # fmt: skip
def test_a_setting_that_a_method_does_not_have_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Peft(**settings)


@pytest.mark.parametrize(("family", "adapter", "message"), [
    ("resnet", Peft("pissa"), r"PiSSA adapts linear layers, .* has none of them. What it has .* is taken by strategy"),
    ("efficientnet", Lora(targets=["*.conv_dw"]), r"method=ia3, loha or lokr"),
    ("efficientnet", Peft("oft", targets=["blocks.0.0.conv"]), r"OFT adapts, but \['blocks.0.0.conv'\]"),
    ("vit", Peft("loha", r=17), r"r=17 and blocks.0.attn.qkv has 16.*Set r=16 or less"),
    ("vit", Peft("oft", block_size=6), r"is 6 and blocks.0.attn.qkv has 16 inputs.*Set it to 2, 4, 8, 16, or choose"),
])  # fmt: skip
def test_what_a_layer_cannot_take_is_refused_with_what_can(family, adapter, message):
    with pytest.raises(InputError, match=message):
        adapter.check(MODELS[family][0]())


def test_a_mixture_with_the_pretrained_weights_is_refused_where_it_would_be_another_thing():
    kinds = {"stem": ("weight", "adapter")}
    for method, known in METHODS.items():
        strategy = Strategy(lr=0.1, adapter=Peft(method), average="wise_ft")
        if known.refuses_mixture is None:
            strategy.plan(kinds, AtStart(), 3)
        else:
            with pytest.raises(InputError, match=r"wise_ft mixes tuned weights .* Use strategy.average=ema"):
                strategy.plan(kinds, AtStart(), 3)


def test_adapted_layers_are_found_by_their_names():
    model = put(of("lokr"), timm_model("vit_tiny_patch16_224", **VIT))
    assert list(layers_of(model)) == ["blocks.0.attn.qkv", "blocks.1.attn.qkv"]
