"""Adapters by peft, put into a backbone in place, so that depth groups and plans go on as before."""

import json
from abc import ABC, abstractmethod
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import InputError
from headstart.ranges import Count, Positive, ProperFraction

if TYPE_CHECKING:
    from torch import nn

ATTENTION_PROJECTIONS = frozenset(
    {"qkv", "q", "k", "v", "query", "key", "value", "q_proj", "k_proj", "v_proj", "q_lin", "k_lin", "v_lin"}
    | {"c_attn", "in_proj", "query_key_value", "query_proj", "key_proj", "value_proj", "kv"}
)
"""Last parts of the names under which timm and transformers keep the projections inside attention."""


class Adapter(ABC):
    """Small trainable modules inside a frozen backbone."""

    @abstractmethod
    def check(self, backbone: "nn.Module") -> None:
        """Raise `InputError` if the adapter does not fit this backbone."""

    @abstractmethod
    def inject(self, backbone: "nn.Module") -> None:
        """Put the adapter into the backbone, in place."""

    @abstractmethod
    def save(self, backbone: "nn.Module", folder: Path) -> None:
        """Write the adapter alone to `folder`, in peft's layout."""

    @abstractmethod
    def merge(self, backbone: "nn.Module") -> None:
        """Fold the adapter into the weights it adapts and take it out, in place."""


class Lora(Adapter):
    """Low-rank updates `W + (alpha / r) · B A` (Hu et al. 2022) of attention projections or dense convolutions.

    Without `targets` the projections inside attention are adapted; where a model has none, every convolution that is
    not depthwise. `targets` are shell patterns over module names.
    """

    def __init__(
        self,
        r: Count = 8,
        alpha: Positive = 16.0,
        dropout: ProperFraction = 0.0,
        targets: list[str] | None = None,
    ) -> None:
        self.r, self.alpha, self.dropout, self.targets = r, alpha, dropout, targets

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
        fitting = {name: module for name, module in backbone.named_modules() if _can_adapt(module)}
        if self.targets is not None:
            empty = [t for t in self.targets if not any(fnmatchcase(name, t) for name in fitting)]
            if empty:
                raise InputError(
                    f"strategy.adapter.targets must name linear layers or dense convolutions, but {empty} match none. "
                    f"The backbone has, for example: {', '.join(list(fitting)[:12])}."
                )
            return [name for name in fitting if any(fnmatchcase(name, target) for target in self.targets)]
        attention = [name for name in fitting if name.rpartition(".")[2] in ATTENTION_PROJECTIONS]
        convolutions = [name for name, module in fitting.items() if hasattr(module, "kernel_size")]
        if not attention and not convolutions:
            raise InputError(
                "This backbone has neither attention projections nor dense convolutions that LoRA knows by name; name "
                f"layers in strategy.adapter.targets. It has: {', '.join(list(fitting)[:12])}."
            )
        return attention or convolutions

    def inject(self, backbone: "nn.Module") -> None:
        from peft import inject_adapter_in_model

        inject_adapter_in_model(self._config(backbone), backbone)

    def save(self, backbone: "nn.Module", folder: Path) -> None:
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        # peft's file names adapters without the adapter's own name, "default"
        tensors = {
            f"base_model.model.{name.replace('.default', '')}": tensor.detach().cpu().contiguous()
            for name, tensor in backbone.named_parameters()
            if ".lora_" in name
        }
        save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
        targets = sorted({name.partition(".lora_")[0].removeprefix("base_model.model.") for name in tensors})
        config = {"peft_type": "LORA", "r": self.r, "lora_alpha": self.alpha, "lora_dropout": self.dropout}
        text = json.dumps({**config, "target_modules": targets, "bias": "none"}, indent=1)
        (folder / "adapter_config.json").write_text(text, encoding="utf8")

    def merge(self, backbone: "nn.Module") -> None:
        from peft.tuners.lora import LoraLayer

        adapted = [(name, module) for name, module in backbone.named_modules() if isinstance(module, LoraLayer)]
        for name, module in adapted:
            module.merge()
            backbone.set_submodule(name, module.get_base_layer())

    def _config(self, backbone: "nn.Module"):
        from peft import LoraConfig

        return LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # any number works
            lora_dropout=self.dropout,
            target_modules=self.target_names(backbone),
        )


def _can_adapt(module: "nn.Module") -> bool:
    from torch import nn

    if isinstance(module, nn.Conv2d):
        return module.groups == 1
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _shape(module: "nn.Module") -> tuple[int, int]:
    rows, columns = module.weight.shape[:2]  # type: ignore[index, union-attr]
    return int(rows), int(columns)
