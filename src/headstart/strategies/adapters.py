"""Adapters by peft, put into a backbone in place, so that depth groups and plans go on as before."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le

from headstart.config.ranges import Count, ProperFraction
from headstart.errors import InputError

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import nn

ADAPTER_NAME = "default"
ATTENTION_PROJECTIONS = frozenset(
    {"qkv", "q", "k", "v", "query", "key", "value", "q_proj", "k_proj", "v_proj", "q_lin", "k_lin", "v_lin"}
    | {"c_attn", "in_proj", "query_key_value", "query_proj", "key_proj", "value_proj", "kv"}
)
"""Last parts of the names under which timm and transformers keep the projections inside attention."""

Scale = Annotated[float, Ge(1e-6), Le(1e6)]
"""Of an update, before it is divided by the rank."""


class Adapter(ABC):
    """Small trainable modules inside a frozen backbone."""

    @abstractmethod
    def check(self, backbone: "nn.Module") -> None:
        """Raise `InputError` if the adapter does not fit this backbone."""

    @abstractmethod
    def inject(self, backbone: "nn.Module") -> None:
        """Put the adapter into the backbone, in place."""

    merge: bool
    """Whether the adapter is to be folded into the backbone's weights once training has ended."""

    @abstractmethod
    def save(self, backbone: "nn.Module", folder: Path) -> None:
        """Write the adapter alone to `folder`, in peft's layout, for the pretrained model as its library makes it."""

    @abstractmethod
    def fold(self, backbone: "nn.Module") -> None:
        """Fold the adapter into the weights it adapts and take it out, in place."""


class Lora(Adapter):
    """Low-rank updates `W + (alpha / r) · B A` (Hu et al. 2022) of linear layers or convolutions.

    Without `targets` the projections inside attention are adapted; in a model without them every convolution that is
    not grouped or, if there is but one (it cuts patches), every linear layer. `targets` are shell patterns over module
    names. With `merge` the weights that are kept in the end hold the update; the adapter alone is written in any case.
    """

    def __init__(
        self,
        r: Count = 8,
        alpha: Scale = 16.0,
        dropout: ProperFraction = 0.0,
        targets: list[str] | None = None,
        merge: bool = False,
    ) -> None:
        self.r, self.alpha, self.dropout, self.targets, self.merge = r, alpha, dropout, targets, merge

    def check(self, backbone: "nn.Module") -> None:
        modules = dict(backbone.named_modules())
        small = {name: min(_shape(modules[name])) for name in self.target_names(backbone)}
        too_small = {name: size for name, size in small.items() if size < self.r}
        if too_small:
            narrowest = min(small.values())
            raise InputError(
                f"strategy.adapter.r must not exceed the narrower side of any adapted layer, but r={self.r} and "
                f"{', '.join(f'{n} has {s}' for n, s in list(too_small.items())[:5])}. Set r={narrowest} or less, or "
                "choose wider layers with strategy.adapter.targets."
            )

    def target_names(self, backbone: "nn.Module") -> list[str]:
        """Qualified names of the layers to adapt, in the model's order."""
        fitting = _adaptable(backbone)
        if self.targets == []:
            raise InputError("strategy.adapter.targets must name some layers, but is empty: null chooses them.")
        if self.targets is not None:
            empty = [t for t in self.targets if not any(fnmatchcase(name, t) for name in fitting)]
            if empty:
                raise InputError(
                    "strategy.adapter.targets must name plain linear layers or convolutions without groups, but "
                    f"{empty} match none. The backbone has, for example: {', '.join(list(fitting)[:12])}."
                )
            return [name for name in fitting if any(fnmatchcase(name, target) for target in self.targets)]
        attention = [name for name in fitting if name.rpartition(".")[2] in ATTENTION_PROJECTIONS]
        convolutions = [name for name, module in fitting.items() if hasattr(module, "kernel_size")]
        linear = [name for name, module in fitting.items() if not hasattr(module, "kernel_size")]
        if not fitting:
            raise InputError(
                "LoRA adapts plain linear layers or convolutions without groups, but this backbone has none. Use "
                "another strategy, such as bias_only."
            )
        return attention or (convolutions if len(convolutions) > 1 else []) or linear or convolutions

    def inject(self, backbone: "nn.Module") -> None:
        from peft import inject_adapter_in_model

        inject_adapter_in_model(self._config(self.target_names(backbone)), backbone, ADAPTER_NAME)

    def save(self, backbone: "nn.Module", folder: Path) -> None:
        from peft.tuners.lora import LoraLayer
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        model = _inner(backbone)
        layers = [name for name, module in model.named_modules() if isinstance(module, LoraLayer)]
        # peft's file names adapters without the adapter's own name, "default"
        tensors = {
            f"base_model.model.{name.replace(f'.{ADAPTER_NAME}', '')}": tensor.detach().cpu().contiguous()
            for name, tensor in model.named_parameters()
            if ".lora_" in name
        }
        save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
        self._config(layers).save_pretrained(str(folder))

    def fold(self, backbone: "nn.Module") -> None:
        from peft.tuners.lora import LoraLayer

        adapted = [(name, module) for name, module in backbone.named_modules() if isinstance(module, LoraLayer)]
        for name, module in adapted:
            module.merge()
            backbone.set_submodule(name, module.get_base_layer())

    def _config(self, names: Sequence[str]) -> "LoraConfig":
        from peft import LoraConfig

        return LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # any number works
            lora_dropout=self.dropout,
            target_modules="|".join(map(re.escape, names)),  # whole names: a list of them would match endings too
        )


def _adaptable(backbone: "nn.Module") -> dict[str, "nn.Module"]:
    """Layers on which a low-rank update is exact, by name: those that do what their class says and are called."""
    from torch import nn

    hidden: set[int] = set()  # layers whose weights are read by the module around them, which never calls them
    for module in backbone.modules():
        if isinstance(module, nn.MultiheadAttention):
            hidden.update(map(id, module.children()))
        if type(module).__name__ == "WavLMAttention":
            hidden.update(id(getattr(module, name, None)) for name in ("q_proj", "k_proj", "v_proj", "out_proj"))
        if getattr(module, "q_bias", None) is not None and not getattr(module, "qkv_bias_separate", False):
            hidden.add(id(getattr(module, "qkv", None)))
    return {name: module for name, module in backbone.named_modules() if id(module) not in hidden and _is_plain(module)}


def _is_plain(module: "nn.Module") -> bool:
    from torch import nn

    forward = type(module).forward
    if isinstance(module, nn.Conv2d):  # timm's "same" padding and standardised weights are other forwards
        return forward is nn.Conv2d.forward and module.groups == 1
    return forward is nn.Linear.forward or type(module).__name__ == "Conv1D"


def _inner(backbone: "nn.Module") -> "nn.Module":
    """The library's own model inside a backbone."""
    from torch import nn

    model = getattr(backbone, "model", backbone)
    assert isinstance(model, nn.Module)
    return model


def _shape(module: "nn.Module") -> tuple[int, int]:
    """Of the weight as a matrix; its rank is at most the smaller of the two."""
    from torch import Tensor

    weight = module.weight
    assert isinstance(weight, Tensor)
    return int(weight.shape[0]), weight[0].numel()
