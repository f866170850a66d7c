"""What a plan needs to know of a backbone, found without its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from headstart.backbones.backbone import Backbone, BackboneFactory
from headstart.run.findings import Findings, key_of
from headstart.strategies.plan import Kind, Row
from headstart.strategies.strategy import Strategy
from headstart.training.norm_statistics import batch_norms
from headstart.training.rows import rows


@dataclass(frozen=True)
class Sketch:
    """A backbone without its weights: what a plan needs to know of it."""

    groups: tuple[str, ...]
    num_features: int
    parameters: Mapping[Row, int]
    """Numbers of parameters by row, adapters among them."""
    batch_norms: frozenset[str]
    """The depth groups with batch norms that keep moving statistics."""
    unset: Mapping[Row, str]
    """Rows with parameters that no weights set, and the setting that brings them."""
    num_weighed: int = 1
    """Of how many vectors side by side the features are, which the head is to weigh."""

    @property
    def total_parameters(self) -> int:
        return sum(self.parameters.values())

    @property
    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """The kinds of parameters in each depth group."""
        return {group: tuple(kind for name, kind in self.parameters if name == group) for group in self.groups}


def outline(factory: BackboneFactory) -> Backbone:
    """The backbone on the meta device: shapes without numbers."""
    with torch.device("meta"):
        return factory.build(False)


def sketch_of(factory: BackboneFactory, node: Any, strategy: Strategy, findings: Findings) -> Sketch:
    """The sketch of a backbone as a strategy groups and adapts it; `node` is what the factory was made from."""
    adapter = vars(strategy.adapter) if strategy.adapter else None

    def draw() -> Sketch:
        factory.check(False)
        backbone = outline(factory)
        if strategy.adapter is not None:
            strategy.adapter.check(backbone)
            with torch.device("meta"):
                strategy.adapter.inject(backbone)
        groups = backbone.groups(strategy.granularity)
        table = rows(groups, backbone)
        counts = {row: sum(parameter.numel() for parameter in named.values()) for row, named in table.items()}
        unset = {row: backbone.unset[name] for row, named in table.items() for name in named if name in backbone.unset}
        names = tuple(group.name for group in groups)
        normed = frozenset(g.name for g in groups if any(any(batch_norms(module)) for module in g.modules))
        return Sketch(names, backbone.num_features, counts, normed, unset, backbone.num_weighed)

    return findings.get("sketch", key_of(node, strategy.granularity, adapter), draw)
