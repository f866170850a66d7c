"""Adapters beside LoRA, by peft: what each is in peft's words, what it needs, and what it leaves out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le

from headstart.config.ranges import Count, ProperFraction
from headstart.errors import InputError
from headstart.names import listed, plural
from headstart.strategies.adapter_layers import shape
from headstart.strategies.adapters import ADAPTER_NAME, PeftAdapter, Scale, layers_of

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn

Name = Literal["dora", "rslora", "pissa", "ia3", "loha", "lokr", "oft"]
Block = Annotated[int, Ge(2), Le(1024)]
"""Side of a rotation."""


@dataclass(frozen=True)
class Method:
    """One of peft's methods.

    Attributes:
        config: Its configuration's class in peft.
        fixed: Fields of it that make it this method.
        fields: By setting of ours, the field of it; what is not here, the method does not have.
        starts_at_nothing, refuses_mixture: See `Adapter`.
    """

    config: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    starts_at_nothing: bool = True
    refuses_mixture: str | None = None


_LORA = {"r": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
_LYCORIS = {"r": "r", "alpha": "alpha", "dropout": "rank_dropout"}
METHODS: Mapping[Name, Method] = {
    "dora": Method("LoraConfig", {"use_dora": True}, _LORA, False, "lengths and directions are tuned apart"),
    "rslora": Method("LoraConfig", {"use_rslora": True}, _LORA),
    "pissa": Method("LoraConfig", {"init_lora_weights": "pissa"}, _LORA, False, "it begins with factors of their own"),
    "ia3": Method("IA3Config", {"feedforward_modules": []}, starts_at_nothing=False),
    "loha": Method("LoHaConfig", {}, _LYCORIS),
    "lokr": Method("LoKrConfig", {}, {**_LYCORIS, "factor": "decompose_factor"}),
    "oft": Method(
        "OFTConfig",
        {"r": 0, "use_cayley_neumann": False},
        {"block_size": "oft_block_size", "dropout": "module_dropout"},
        refuses_mixture="it rotates them, and no mixture of rotations is one",
    ),
}
USUAL: Mapping[str, Any] = {"r": 8, "alpha": 16.0, "dropout": 0.0, "block_size": 8, "factor": None}
"""What settings are where nobody says; so they may stay beside a method that does not have them."""


class Peft(PeftAdapter):
    """Adapters by peft that are not LoRA itself; a setting that the method does not have must be left as it is.

    - `dora`: `m (W + s B A) / ‖W + s B A‖`, lengths `m` and directions apart (Liu et al. 2024)
    - `rslora`: LoRA with `s = alpha / √r` (Kalajdzievski 2023)
    - `pissa`: LoRA that begins at the weights' largest singular values, the rest frozen (Meng et al. 2024)
    - `ia3`: the outputs of the layers, each times a number (Liu et al. 2022)
    - `loha`, `lokr`: updates that are Hadamard, or Kronecker, products (Hyeon-Woo et al. 2022; Yeh et al. 2024)
    - `oft`: inputs rotated in blocks, by exact rotations (Qiu et al. 2023)

    Args:
        r: rank.
        alpha: of the scale `s = alpha / r`.
        dropout: LoRA's own; of loha and lokr that of ranks, of oft that of blocks.
        block_size: of oft, side of its rotations.
        factor: of lokr, the smaller factor's side at most; `None`: as near to the other's as can be.
    """

    def __init__(
        self,
        method: Name = "dora",
        r: Count = 8,
        alpha: Scale = 16.0,
        dropout: ProperFraction = 0.0,
        block_size: Block = 8,
        factor: Block | None = None,
        targets: list[str] | None = None,
        merge: bool = False,
    ) -> None:
        super().__init__(targets, merge)
        self.method: Name = method
        self.settings: dict[str, Any] = dict(zip(USUAL, (r, alpha, dropout, block_size, factor), strict=True))
        known = METHODS[method].fields
        foreign = [name for name, value in self.settings.items() if value != USUAL[name] and name not in known]
        if foreign:
            own = listed([f"strategy.adapter.{name}" for name in known])
            raise InputError(
                f"strategy.adapter.method={method} has no {listed(foreign)}: leave "
                f"{listed([f'strategy.adapter.{name}={self.settings[name]}' for name in foreign])} out. It has "
                f"{own or 'no settings of its own'}."
            )

    @property
    def starts_at_nothing(self) -> bool:  # type: ignore[override]
        return METHODS[self.method].starts_at_nothing

    @property
    def refuses_mixture(self) -> str | None:  # type: ignore[override]
        return METHODS[self.method].refuses_mixture

    @property
    def blank(self) -> dict[str, Any]:
        return {"init_lora_weights": True} if self.method == "pissa" else {}

    def check(self, backbone: "nn.Module") -> None:
        if self.method in ("dora", "rslora", "pissa", "loha"):  # lokr's factors are small by themselves
            self.check_rank(self.settings["r"], backbone)
        elif self.method == "oft":
            self._check_blocks(backbone)
        else:
            self.target_names(backbone)

    def _check_blocks(self, backbone: "nn.Module") -> None:
        modules, size = dict(backbone.named_modules()), self.settings["block_size"]
        inputs = {name: shape(modules[name])[1] for name in self.target_names(backbone)}
        unlike = {name: count for name, count in inputs.items() if count % size}
        if unlike:
            able = [n for n in range(2, 65) if not any(count % n for count in inputs.values())]
            remedy = f"Set it to {listed(list(map(str, able)))}, or choose" if able else "No size does: choose"
            some = [f"{name} has {plural(count, 'input')}" for name, count in list(unlike.items())[:5]]
            raise InputError(
                f"strategy.adapter.block_size must divide the inputs of every adapted layer, but is {size} and "
                f"{', '.join(some)}. {remedy} other layers with strategy.adapter.targets."
            )

    def config(self, targets: str, **more: Any) -> "PeftConfig":
        import peft

        method = METHODS[self.method]
        own = {theirs: self.settings[ours] for ours, theirs in method.fields.items()}
        own |= {theirs: -1 for theirs, value in own.items() if value is None}  # so peft writes what is left to it
        found: PeftConfig = getattr(peft, method.config)(target_modules=targets, **{**method.fixed, **own, **more})
        return found

    def start(self, backbone: "nn.Module") -> None:
        if self.method == "pissa":
            for module in layers_of(backbone).values():
                module.pissa_init(ADAPTER_NAME, "pissa")  # type: ignore[attr-defined]
