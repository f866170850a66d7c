"""Which row of a plan, (depth group, kind), each parameter of a live model belongs to."""

from collections.abc import Sequence

from torch import nn

from headstart.backbones.backbone import DepthGroup
from headstart.strategies.adapters import is_adapter
from headstart.strategies.plan import Kind, Row


def rows(groups: Sequence[DepthGroup], model: nn.Module) -> dict[Row, dict[str, nn.Parameter]]:
    """Every parameter of the depth groups by its row, (group, kind); rows without parameters are left out."""
    kinds = _kinds(model)
    table: dict[Row, dict[str, nn.Parameter]] = {}
    for group in groups:
        for name, parameter in group.parameters.items():
            table.setdefault((group.name, kinds[id(parameter)]), {})[name] = parameter
    return table


def _kinds(model: nn.Module) -> dict[int, Kind]:
    kinds: dict[int, Kind] = {}
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            kinds[id(parameter)] = _kind(module, f"{module_name}.{name}", name)
    return kinds


def _kind(module: nn.Module, qualified: str, name: str) -> Kind:
    if is_adapter(qualified):
        return "adapter"
    if is_norm(module):
        return "norm_bias" if name.endswith("bias") else "norm"
    return "bias" if name.endswith("bias") else "weight"


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises: by class name, as timm, torch and transformers each bring their own."""
    name = type(module).__name__.lower()
    return "norm" in name and "normfree" not in name
