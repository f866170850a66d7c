"""Adapters by peft, put into a backbone in place, so that depth groups and plans go on as before."""

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from headstart.config.ranges import Count, ProperFraction
from headstart.errors import InputError
from headstart.names import listed, listed_or
from headstart.strategies.adapter_layers import TAKES, TITLES, WORDS, LayerKind, adaptable, shape

if TYPE_CHECKING:
    from peft import PeftConfig
    from peft.tuners.tuners_utils import BaseTunerLayer
    from torch import nn

ADAPTER_NAME = "default"
ATTENTION_PROJECTIONS = frozenset(
    {"qkv", "q", "k", "v", "query", "key", "value", "q_proj", "k_proj", "v_proj", "q_lin", "k_lin", "v_lin"}
    | {"c_attn", "in_proj", "query_key_value", "query_proj", "key_proj", "value_proj", "kv"}
)
"""Last parts of the names under which timm and transformers keep the projections inside attention."""
OWN = re.compile(r"\.(?:lora_|ia3_|hada_|lokr_|oft_)")
"""Where the name of an adapter's tensor leaves that of its layer."""
FACTORS = re.compile(r"\.(?:lora_A|hada_w1_[ab]|hada_w2_a|lokr_w2(?:_[ab])?)\.")
"""Tensors of adapters that may be anything, as the factor that each is multiplied by began at 0."""
Scale = Annotated[float, Ge(1e-6), Le(1e6)]
"""Of an update, before it is divided by the rank."""


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return OWN.search(name) is not None


def is_adapted(model: "nn.Module") -> bool:
    """Whether there is an adapter in a model."""
    return any(is_adapter(name) for name, _ in model.named_parameters())


class Adapter(ABC):
    """Small trainable modules inside a frozen backbone."""

    @abstractmethod
    def check(self, backbone: "nn.Module") -> None:
        """Raise `InputError` if the adapter does not fit this backbone."""

    @abstractmethod
    def inject(self, backbone: "nn.Module") -> None:
        """Put the adapter into the backbone, in place, with tensors of the right shapes."""

    def start(self, backbone: "nn.Module") -> None:  # noqa: B027  # most have begun with their shapes
        """Set an adapter to where training begins; the pretrained weights are in place."""

    merge: bool
    """Whether the adapter is to be folded into the backbone's weights once training has ended."""
    starts_at_nothing: bool = True
    """Whether its parameters stand for the pretrained weights at 0, so that weight decay pulls towards those."""
    refuses_mixture: str | None = None
    """Why the weights that it adapts cannot be mixed with the pretrained ones by mixing its own; `None` if they can."""

    @abstractmethod
    def save(self, backbone: "nn.Module", folder: Path) -> None:
        """Write the adapter alone to `folder`, in peft's layout, for the pretrained model as its library makes it."""

    @abstractmethod
    def fold(self, backbone: "nn.Module") -> None:
        """Fold the adapter into the weights it adapts and take it out, in place."""


class PeftAdapter(Adapter):
    """One method of peft, on the layers that `targets` name or that it chooses.

    Without `targets` the projections inside attention are adapted; in a model without them every convolution that the
    method takes or, if there is but one (it cuts patches), every linear layer. `targets` are shell patterns over module
    names. With `merge` the weights that are kept in the end hold the update; the adapter alone is written in any case.
    """

    method: str
    """One of `TAKES`."""

    def __init__(self, targets: list[str] | None, merge: bool) -> None:
        self.targets, self.merge = targets, merge

    @property
    def title(self) -> str:
        """What its authors call it."""
        return TITLES[self.method]

    @abstractmethod
    def config(self, targets: str, **more: Any) -> "PeftConfig":
        """peft's own configuration; `targets` is an expression for whole names, `more` other fields of it."""

    @property
    def blank(self) -> dict[str, Any]:
        """Fields of the configuration that leave the backbone's weights, which may not be there yet, as they are."""
        return {}

    def target_names(self, backbone: "nn.Module") -> list[str]:
        """Qualified names of the layers to adapt, in the model's order.

        Raises:
            InputError: if there are none, or a pattern names no layer that the method takes.
        """
        kinds = adaptable(backbone)
        fitting = [name for name, kind in kinds.items() if kind in TAKES[self.method]]
        if self.targets == []:
            raise InputError("strategy.adapter.targets must name some layers, but is empty: null chooses them.")
        if self.targets is not None:
            empty = [t for t in self.targets if not any(fnmatchcase(name, t) for name in fitting)]
            if empty:
                raise InputError(self._no_match(empty, kinds, fitting))
            return [name for name in fitting if any(fnmatchcase(name, target) for target in self.targets)]
        attention = [name for name in fitting if name.rpartition(".")[2] in ATTENTION_PROJECTIONS]
        convolutions = [name for name in fitting if kinds[name] not in ("linear", "transposed")]
        linear = [name for name in fitting if kinds[name] in ("linear", "transposed")]
        if not fitting:
            raise InputError(
                f"{self.title} adapts {_named(TAKES[self.method])}, but this backbone has none of them."
                f"{_others(set(kinds.values()), self.method)} Use another strategy, such as bias_only."
            )
        return attention or (convolutions if len(convolutions) > 1 else []) or linear or convolutions

    def _no_match(self, empty: Sequence[str], kinds: dict[str, LayerKind], fitting: Sequence[str]) -> str:
        unfit = {kinds[name] for name in kinds if any(fnmatchcase(name, target) for target in empty)}
        found = f"name others.{_others(unfit, self.method)}" if unfit else "match none."
        return (
            f"strategy.adapter.targets must name {_named(TAKES[self.method])}, which {self.title} adapts, but {empty} "
            f"{found} The backbone has, for example: {', '.join(fitting[:12]) or 'none'}."
        )

    def check_rank(self, rank: int, backbone: "nn.Module") -> None:
        """Raise `InputError` if a rank is more than some adapted layer can have."""
        modules = dict(backbone.named_modules())
        small = {name: min(shape(modules[name])) for name in self.target_names(backbone)}
        too_small = {name: size for name, size in small.items() if size < rank}
        if too_small:
            narrowest = min(small.values())
            raise InputError(
                f"strategy.adapter.r must not exceed the narrower side of any adapted layer, but r={rank} and "
                f"{', '.join(f'{n} has {s}' for n, s in list(too_small.items())[:5])}. Set r={narrowest} or less, or "
                "choose wider layers with strategy.adapter.targets."
            )

    def inject(self, backbone: "nn.Module") -> None:
        from peft import inject_adapter_in_model

        config = self.config(whole(self.target_names(backbone)), **self.blank)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of what it does by itself for layers as GPT-2 writes them
            inject_adapter_in_model(config, backbone, ADAPTER_NAME)

    def save(self, backbone: "nn.Module", folder: Path) -> None:
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        model = _inner(backbone)
        # peft's file names adapters without the adapter's own name, "default", and DoRA's lengths as the tensor that
        # they were once
        tensors = {
            f"base_model.model.{name.replace(f'.{ADAPTER_NAME}', '').replace('_vector.weight', '_vector')}": (
                tensor.detach().cpu().contiguous()
            )
            for name, tensor in model.named_parameters()
            if is_adapter(name)
        }
        save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
        self.config(whole(list(layers_of(model)))).save_pretrained(str(folder))

    def fold(self, backbone: "nn.Module") -> None:
        for name, module in layers_of(backbone).items():
            module.merge()
            backbone.set_submodule(name, module.get_base_layer())


class Lora(PeftAdapter):
    """Low-rank updates `W + (alpha / r) · B A` (Hu et al. 2022) of linear layers or convolutions."""

    method = "lora"

    def __init__(
        self,
        r: Count = 8,
        alpha: Scale = 16.0,
        dropout: ProperFraction = 0.0,
        targets: list[str] | None = None,
        merge: bool = False,
    ) -> None:
        super().__init__(targets, merge)
        self.r, self.alpha, self.dropout = r, alpha, dropout

    def check(self, backbone: "nn.Module") -> None:
        self.check_rank(self.r, backbone)

    def config(self, targets: str, **more: Any) -> "PeftConfig":
        from peft import LoraConfig

        scale: Any = self.alpha  # any number works
        return LoraConfig(r=self.r, lora_alpha=scale, lora_dropout=self.dropout, target_modules=targets, **more)


def whole(names: Sequence[str]) -> str:
    """An expression for these names of modules and no others: a list of them would match endings too."""
    return "|".join(map(re.escape, names))


def layers_of(model: "nn.Module") -> "dict[str, BaseTunerLayer]":
    """The layers of a model that are adapted, by name."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}


def _named(kinds: Collection[LayerKind]) -> str:
    return listed([words for kind, words in WORDS.items() if kind in kinds])


def _others(kinds: set[LayerKind], method: str) -> str:
    """Which methods take some of the layers of these kinds."""
    able = [name for name, takes in TAKES.items() if name not in (method, "lora") and kinds & takes]
    ways = ["strategy=lora"] if method != "lora" and kinds & TAKES["lora"] else []
    ways += [f"strategy=peft with strategy.adapter.method={listed_or(able)}"] if able else []
    return f" What it has ({_named(kinds)}) is taken by {' and '.join(ways)}." if ways else ""


def _inner(backbone: "nn.Module") -> "nn.Module":
    """The library's own model inside a backbone."""
    from torch import nn

    model = getattr(backbone, "model", backbone)
    assert isinstance(model, nn.Module)
    return model
