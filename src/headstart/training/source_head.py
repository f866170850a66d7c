"""The classifier that a backbone was pretrained with, as it is tuned beside the task's own (Co-Tuning)."""

from dataclasses import replace

from torch import Tensor, nn

from headstart.backbones.backbone import Backbone, DepthGroup

NAME = "source"
"""Of its module in a backbone in training; a finished run's is left without it."""


class SourceHead(nn.Module):
    """Features `(B, D)` → logits of the source classes `(B, S)`.

    `relationship` `(C, S)` says which of them go with each class of the task; it is measured before training begins.
    """

    relationship: Tensor

    def __init__(self, linear: nn.Linear, num_classes: int) -> None:
        super().__init__()
        self.linear = linear
        self.register_buffer("relationship", linear.weight.new_zeros(num_classes, linear.out_features))

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features)

    def wanted(self, shares: Tensor) -> Tensor:
        """Shares of the source classes `(B, S)` for shares of the task's `(B, C)`."""
        return shares.to(self.relationship.dtype) @ self.relationship


def attach(source: SourceHead, backbone: Backbone, groups: list[DepthGroup]) -> list[DepthGroup]:
    """Make it part of the last of the backbone's depth groups, with which it trains."""
    backbone.add_module(NAME, source)
    parameters = {f"{NAME}.{name}": parameter for name, parameter in source.named_parameters()}
    buffers = {f"{NAME}.{name}": buffer for name, buffer in source.named_buffers()}
    *others, last = groups
    own = {**last.parameters, **parameters}, {**last.buffers, **buffers}
    return [*others, replace(last, parameters=own[0], buffers=own[1], modules=(*last.modules, source))]


def source_of(backbone: nn.Module) -> SourceHead | None:
    """What was attached to a backbone."""
    found = getattr(backbone, NAME, None)
    return found if isinstance(found, SourceHead) else None


def count_source(backbone: nn.Module) -> int:
    """Parameters of what was attached to a backbone."""
    return sum(parameter.numel() for parameter in getattr(source_of(backbone), "linear", nn.Identity()).parameters())
