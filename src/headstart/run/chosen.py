"""The parts of a run that its config chooses, one of each group."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig

from headstart.backbones.backbone import Backbone, BackboneFactory
from headstart.compat import declare_torchvision_operators
from headstart.config import binding
from headstart.config.sides import Sides
from headstart.data.augmentation import Augmentation
from headstart.data.source import Source
from headstart.record.trackers import Tracker
from headstart.run.pools import ask
from headstart.seeding import seed_for
from headstart.splits.splitter import Splitter
from headstart.strategies.schedule import Schedule
from headstart.strategies.strategy import Strategy
from headstart.strategies.unfreeze import Unfreeze
from headstart.tasks.task import Task
from headstart.training.heads import HeadFactory
from headstart.training.stochastic_norm import make_stochastic


@dataclass(frozen=True)
class Parts:
    """What each config group comes to, bound and checked against its constructor; nothing is read or built yet."""

    backbone: BackboneFactory
    strategy: Strategy
    unfreeze: Unfreeze
    augmentation: Augmentation
    optimizer: "partial[torch.optim.Optimizer]"
    """It lacks its parameters."""
    scheduler: Schedule
    head: HeadFactory
    task: Task
    data: Source
    split: Splitter
    logger: Tracker

    @property
    def rate(self) -> float:
        """The base rate."""
        return float(self.optimizer.keywords["lr"])

    @property
    def pictures(self) -> tuple[Sides | None, str | None, int]:
        """Of the pictures that the data gives, where it gives pictures: size, how they are fitted to it, channels."""
        return pictures_of(self.data)

    @property
    def seconds(self) -> float | None:
        """The most that is read of a sound, where the data say it."""
        return self.data.overrides.get("seconds")

    @property
    def sized_backbone(self) -> BackboneFactory:
        """The backbone for examples of the data's size, and for what is trained of it."""
        sized = self.backbone.for_pictures(*self.pictures).for_clips(self.seconds)
        return sized.for_head_alone() if self.strategy.keeps_backbone else sized


def parts_of(cfg: DictConfig | Mapping[str, Any], try_optimizer: bool = True) -> Parts:
    """The parts that a config (or what it comes to) chooses; see `binding.bind`.

    Raises:
        InputError: with every problem of every group.
    """
    declare_torchvision_operators()
    parts = Parts(**binding.bind(cfg, try_optimizer))
    ask(parts.data, parts.split, parts.task)
    return parts


def pictures_of(data: Source) -> tuple[Sides | None, str | None, int]:
    """As `Parts.pictures`."""
    return getattr(data, "size", None), getattr(data, "fit", None), getattr(data, "channels", 3)


def backbone_of(factory: BackboneFactory, strategy: Strategy, seed: int) -> Backbone:
    """The backbone as a run of this seed starts from it."""
    torch.manual_seed(seed_for(seed, "backbone"))
    backbone = factory.build(strategy.pretrained)
    if strategy.adapter is not None:
        torch.manual_seed(seed_for(seed, "adapter"))
        strategy.adapter.inject(backbone)
        strategy.adapter.start(backbone)
    if strategy.stochastic_norm is not None:
        make_stochastic(backbone, strategy.stochastic_norm)
    return backbone
