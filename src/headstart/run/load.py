"""A finished run as a model: its backbone and head with their weights, how they read, and their classes.

The training data are not needed. Of a run that trained a head on frozen features the checkpoint holds the head alone:
its backbone comes from where its weights came from, and must be the very same.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from headstart.backbones.backbone import Backbone, BackboneFactory, Inputs, Reading
from headstart.config import guard, recorded
from headstart.errors import InputError
from headstart.record import result
from headstart.record.directory import RunDirectory
from headstart.record.result import Result
from headstart.run.chosen import parts_of
from headstart.run.parts import backbone_of
from headstart.strategies.strategy import Strategy
from headstart.system.bounded import DamagedError
from headstart.training import scoring
from headstart.training.checkpoints import DamagedCheckpointError, read_checkpoint

log = logging.getLogger(__name__)


class TrainedModel(nn.Module):
    """Inputs → logits `(B, C)`, by the weights of a run's selected epoch, in eval mode on the CPU."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits `(B, C)`; `inputs` are a batch of examples read as the run's `reading` says."""
        return self.head(self.backbone(inputs))


@dataclass(frozen=True)
class FinishedRun:
    """What a completed run left, ready to be used."""

    directory: RunDirectory
    result: Result
    cfg: DictConfig
    model: TrainedModel
    reading: Reading
    """Arguments of a source's `examples`, and what describes them."""
    classes: tuple[str, ...]
    """Output `i` is for `classes[i]`: a class, or a number that was learned in standard deviations from its mean."""

    def predict(self, batches: Iterable[Mapping[str, Any]], device: str = "cpu") -> Tensor:
        """Logits `(N, C)` of batches that have `inputs`, in the precision that the run was scored in."""
        place = torch.device(device)
        return scoring.predict(self.model.to(place), batches, place, self.cfg.trainer.precision)


def load(path: Path) -> FinishedRun:
    """The run in a directory, without its training data.

    Raises:
        InputError: if no completed run is there, it kept no weights, they are damaged, or the backbone that its head
            was trained on cannot be had or has other weights now.
    """
    directory = RunDirectory(path)
    done = _completed(directory)
    cfg = recorded.load(directory.config)
    guard.forget_places(cfg)
    parts = parts_of(cfg)
    state = _weights(directory, done)
    factory = parts.sized_backbone
    backbone = _backbone(factory, parts.strategy, int(cfg.seed), _below(state, "backbone."), done, directory)
    classes = tuple(map(str, (done.data and (done.data.classes or done.data.targets)) or ()))
    head = parts.head.build(backbone.num_features, len(classes))
    _fill(head, _below(state, "head."), directory)
    reading, own = factory.reading(), parts.data.overrides
    reading = Reading({**reading.arguments, **own}, {**reading.description, **own}, reading.limits)
    return FinishedRun(
        directory, done, cfg, TrainedModel(backbone, head).eval().requires_grad_(False), reading, classes
    )


def _completed(directory: RunDirectory) -> Result:
    try:
        done = result.checked(directory)
    except DamagedError as error:
        raise InputError(
            f"{directory.result} cannot be used: {error}. Name the directory of a completed run."
        ) from None
    if done is None or not done.is_completed:
        state = "there is none" if done is None else "it failed"
        raise InputError(f"{directory.path} must hold a run that is completed, but {state}. Name another directory.")
    return done


def _weights(directory: RunDirectory, done: Result) -> Mapping[str, Tensor]:
    if directory.weights is None:
        raise InputError(
            f"{directory.path} keeps no weights: the run was done with trainer.keep_checkpoint=false, or they were "
            "removed. Do it again where they are kept."
        )
    try:
        state: Mapping[str, Tensor] = read_checkpoint(directory.weights, done.run_id)["state_dict"]
    except DamagedCheckpointError as error:
        raise InputError(f"{error}. Do the run again: headstart rerun {directory.path}.") from error
    return state


def _backbone(
    factory: BackboneFactory,
    strategy: Strategy,
    seed: int,
    state: Mapping[str, Tensor],
    done: Result,
    directory: RunDirectory,
) -> Backbone:
    if not state:
        return _frozen_backbone(factory, strategy, seed, done)
    factory.check(False)
    backbone = factory.build(False)
    if strategy.adapter is not None and any(".lora_" in name for name in state):  # else it was folded in
        strategy.adapter.inject(backbone)
    _fill(backbone, state, directory)
    return backbone


def _frozen_backbone(factory: BackboneFactory, strategy: Strategy, seed: int, done: Result) -> Backbone:
    """The backbone that a head was trained on, from where its weights came from."""
    source, known = (done.weights.source, done.weights.sha256) if done.weights else ("?", None)
    where = f"The run trained a head alone, so that its backbone must come from its weights, {source}"
    try:
        factory.check(strategy.pretrained)
        backbone = backbone_of(factory, strategy, seed)
    except InputError as error:
        raise InputError(f"{where}; they cannot be had: {error}") from error
    found = backbone.weights.sha256
    if known is not None and found != known:
        raise InputError(
            f"{where} with the sha256 {known}; what is there now has {found}. Put the file back that the run used."
        )
    if known is None and strategy.pretrained and found is not None:
        log.warning("The run did not note the sha256 of %s: they are taken as they are now (%s).", source, found)
    return backbone


def _below(state: Mapping[str, Tensor], beginning: str) -> dict[str, Tensor]:
    return {name.removeprefix(beginning): tensor for name, tensor in state.items() if name.startswith(beginning)}


def _fill(module: nn.Module, state: Mapping[str, Tensor], directory: RunDirectory) -> None:
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise InputError(
            f"{directory.weights} does not fit the model that {directory.config} describes: {error}. One of the two, "
            "or the library that the model comes from, has changed since the run."
        ) from error
