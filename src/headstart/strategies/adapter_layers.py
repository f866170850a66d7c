"""Layers of a backbone by what an adapter can do to them: which it takes, and which it must leave alone."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

LayerKind = Literal["linear", "transposed", "pointwise", "convolution", "dilated", "grouped"]
"""Of a layer that an update can be added to: `transposed` is GPT-2's linear layer, `pointwise` a 1×1 convolution."""
WORDS: Mapping[LayerKind, str] = {
    "linear": "linear layers",
    "transposed": "those of GPT-2",
    "pointwise": "1×1 convolutions",
    "convolution": "larger convolutions",
    "dilated": "dilated convolutions",
    "grouped": "convolutions in groups",
}
LINEAR, DENSE = frozenset[LayerKind]({"linear", "transposed"}), frozenset[LayerKind]({"pointwise", "convolution"})
CONVOLUTIONS = DENSE | frozenset[LayerKind]({"dilated", "grouped"})
TAKES: Mapping[str, frozenset[LayerKind]] = {
    "lora": LINEAR | DENSE,
    "dora": LINEAR | DENSE,
    "rslora": LINEAR | DENSE,
    "pissa": LINEAR,
    "ia3": LINEAR | CONVOLUTIONS,
    "loha": CONVOLUTIONS | {"linear"},
    "lokr": CONVOLUTIONS | {"linear"},
    "oft": frozenset[LayerKind]({"linear", "pointwise"}),
}
"""By method, the layers on which peft's adapter begins as nothing, trains, and merges to the same outputs."""

TITLES: Mapping[str, str] = {
    "lora": "LoRA", "dora": "DoRA", "rslora": "rsLoRA", "pissa": "PiSSA", "ia3": "(IA)³", "loha": "LoHa",
    "lokr": "LoKr", "oft": "OFT",
}  # fmt: skip
"""By method, what its authors call it."""


def adaptable(backbone: "nn.Module") -> dict[str, LayerKind]:
    """Layers whose outputs an update of the weights decides, by name: they do what their class says and are called."""
    from torch import nn

    hidden: set[int] = set()  # layers whose weights are read by the module around them, which never calls them
    for module in backbone.modules():
        if isinstance(module, nn.MultiheadAttention):
            hidden.update(map(id, module.children()))
        if type(module).__name__ == "WavLMAttention":
            hidden.update(id(getattr(module, name, None)) for name in ("q_proj", "k_proj", "v_proj", "out_proj"))
        if getattr(module, "q_bias", None) is not None and not getattr(module, "qkv_bias_separate", False):
            hidden.add(id(getattr(module, "qkv", None)))
    found = {name: _kind(module) for name, module in backbone.named_modules() if id(module) not in hidden}
    return {name: kind for name, kind in found.items() if kind is not None}


def _kind(module: "nn.Module") -> LayerKind | None:
    from torch import nn

    forward = type(module).forward
    if isinstance(module, nn.Conv2d):  # timm's "same" padding and standardised weights are other forwards
        return _kind_of_convolution(module) if forward is nn.Conv2d.forward and module.padding_mode == "zeros" else None
    if forward is nn.Linear.forward:
        return "linear"
    return "transposed" if type(module).__name__ == "Conv1D" else None


def _kind_of_convolution(module: "nn.Conv2d") -> LayerKind:
    if module.groups > 1:
        return "grouped"
    if set(module.dilation) != {1}:
        return "dilated"
    is_point = set(module.kernel_size) == {1} and module.padding in (0, (0, 0), "valid", "same")
    return "pointwise" if is_point else "convolution"


def shape(module: "nn.Module") -> tuple[int, int]:
    """Outputs and inputs of the weight as a matrix; its rank is at most the smaller of the two."""
    from torch import Tensor

    weight = module.weight
    assert isinstance(weight, Tensor)
    return int(weight.shape[0]), weight[0].numel()
