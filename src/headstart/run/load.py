"""A finished run as a model: its backbone and head with their weights, how they read, and their classes.

The training data are not needed. Of a run that trained a head on frozen features the checkpoint holds the head alone:
its backbone comes from where its weights came from, and must be the very same.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from headstart.backbones.backbone import Backbone, BackboneFactory, Reading
from headstart.backbones.timm_create import skipped_init
from headstart.config import guard, recorded
from headstart.errors import InputError
from headstart.record import result
from headstart.record.directory import RunDirectory
from headstart.record.result import Result
from headstart.run.chosen import Parts, backbone_of, parts_of
from headstart.run.plain_module import plain_module
from headstart.run.trained import TrainedModel
from headstart.strategies.adapters import is_adapter
from headstart.strategies.strategy import Strategy
from headstart.system.bounded import DamagedError
from headstart.tasks.task import Task
from headstart.training import scoring
from headstart.training.checkpoints import DamagedCheckpointError, read_checkpoint
from headstart.training.heads import built_head
from headstart.training.source_head import NAME as SOURCE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinishedRun:
    """What a completed run left, ready to be used."""

    directory: RunDirectory
    result: Result
    cfg: DictConfig
    parts: Parts
    factory: BackboneFactory
    """The backbone's, at the data's size."""
    model: TrainedModel
    reading: Reading
    """Arguments of a source's `examples`, and what describes them."""
    task: Task
    """With what it took from the training examples: of regression, the mean and spread of each target."""
    classes: tuple[str, ...]
    """Output `i` is for `classes[i]`: a class, or a number that was learned in standard deviations from its mean."""

    @property
    def modality(self) -> str:
        """`vision`, `text` or `audio`."""
        return self.parts.data.modality

    @property
    def backbone(self) -> Backbone:
        return self.model.backbone

    @property
    def head(self) -> nn.Module:
        return self.model.head

    @property
    def preprocessing(self) -> Any:
        """Of a timm model: `size`, `mean`, `std`, `interpolation`, `crop_pct`, `crop_mode`; else `None`."""
        return getattr(self.backbone, "preprocessing", None)

    @property
    def pooling(self) -> str | None:
        """Of a transformers model: how tokens or frames become one vector; `None` for timm's, which pool themselves."""
        return getattr(self.backbone, "pooling", None)

    @property
    def tokenizer(self) -> Any:
        """Of a text model: its `TextTokenizer`; else `None`."""
        return self.reading.arguments.get("tokenizer")

    @property
    def extractor(self) -> Any:
        """Of a transformers model of sound: how it reads waveforms (`huggingface_extractor.Extractor`); else `None`."""
        return getattr(self.factory, "extractor", None)

    @property
    def scales(self) -> dict[str, tuple[float, float]]:
        """Black and white of pictures with more than 8 bits a value, by kind, as the run's own data were read."""
        values = (self.result.data.more if self.result.data else {}).get("values") or {}
        return {kind: tuple(found["read_as"]) for kind, found in values.items()}

    @cached_property
    def module(self) -> nn.Module:
        """An ordinary module, from raw uint8 pictures, token ids or waveforms to logits (see `plain_module`)."""
        return plain_module(self.model, self.modality)

    def predict(self, batches: Iterable[Mapping[str, Any]], device: str = "cpu") -> Tensor:
        """Logits `(N, C)` of batches that have `inputs`, in the precision that the run was scored in."""
        place = torch.device(device)
        if next(self.model.parameters()).device.type != place.type:
            self.model.to(place)
        return scoring.predict(self.model, batches, place, self.cfg.trainer.precision)


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
    parts = parts_of(cfg, try_optimizer=False)
    task = _task(parts, done, directory)
    classes = tuple(map(str, (done.data and (done.data.classes or done.data.targets)) or ()))
    factory = parts.sized_backbone
    if directory.model_files.is_dir():
        factory = factory.with_model_files(directory.model_files)
    with torch.random.fork_rng(devices=[]):  # whoever loads a model goes on with the dice that they had
        model = _model(parts, factory, int(cfg.seed), len(classes), done, directory)
    known = done.reading or {}
    of_data = {"depth": known["depth"]} if "depth" in known else {}  # which the data decided
    reading = factory.reading().over({**parts.data.overrides, **of_data})
    _check_reading(reading, done, directory)
    return FinishedRun(directory, done, cfg, parts, factory, model.eval().requires_grad_(False), reading, task, classes)


def _check_reading(reading: Reading, done: Result, directory: RunDirectory) -> None:
    """Raise `InputError` if examples would be read otherwise than the run's own were: another tokenizer, say."""
    now, known = json.loads(json.dumps(reading.description)), done.reading or {}
    changed = [name for name, value in now.items() if name in known and known[name] != value]
    if changed:
        told = ", ".join(f"{name} was {known[name]} and is {now[name]} now" for name in changed)
        raise InputError(
            f"What {directory.path} was trained with read examples otherwise than it does now: {told}. Put the model's "
            "files (or the library) back as the run used them."
        )


def _task(parts: Parts, done: Result, directory: RunDirectory) -> Task:
    try:
        return parts.task.restored(done.details or {})
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{directory.result} does not say what the task took from the training data (the mean and spread of its "
            f"targets), so that outputs cannot be told in the data's units. Do the run again: headstart rerun "
            f"{directory.path}."
        ) from None


def _model(
    parts: Parts, factory: BackboneFactory, seed: int, num_outputs: int, done: Result, directory: RunDirectory
) -> TrainedModel:
    state = _weights(directory, done)
    of_head = _below(state, "head.")
    num_features = next((tensor.shape[1] for tensor in of_head.values() if tensor.ndim == 2), 0)  # of its first layer
    own = {name: tensor for name, tensor in _below(state, "backbone.").items() if not name.startswith(f"{SOURCE}.")}
    backbone = _backbone(factory, parts.strategy, seed, own, num_features, done, directory)
    head = built_head(parts.head, backbone.num_features, num_outputs, backbone.num_weighed, parts.task.link)
    _fill(head, of_head, directory)
    return TrainedModel(backbone, head, on_features=not own)


def _completed(directory: RunDirectory) -> Result:
    try:
        done = result.checked(directory)
    except DamagedError as error:
        raise InputError(
            f"{directory.result} cannot be used: {error}. Name the directory of a completed run."
        ) from None
    if done is None or not done.is_completed:
        begun = "it is not finished" if directory.is_begun else "there is none"
        state = begun if done is None else f"it is recorded as {done.status}"
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
    num_features: int,
    done: Result,
    directory: RunDirectory,
) -> Backbone:
    if not state:
        return _frozen_backbone(factory, strategy, seed, done)
    with skipped_init():  # every tensor is about to be loaded
        backbone = factory.rebuild(num_features)
    if strategy.adapter is not None and any(map(is_adapter, state)):  # else it was folded in
        strategy.adapter.inject(backbone)
    _fill(backbone, state, directory)
    return backbone


def _frozen_backbone(factory: BackboneFactory, strategy: Strategy, seed: int, done: Result) -> Backbone:
    """The backbone that a head was trained on, from where its weights came from."""
    source, known = (done.weights.source, done.weights.sha256) if done.weights else ("?", None)
    where = f"The run trained a head alone, so that its backbone must come from its weights, {source}"
    try:
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
    if all(tensor.dtype == torch.float64 for tensor in state.values() if tensor.is_floating_point()):
        module.double()  # of trainer.precision=64-true, which would be rounded otherwise
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise InputError(
            f"{directory.weights} does not fit the model that {directory.config} describes: {error}. One of the two, "
            "or the library that the model comes from, has changed since the run."
        ) from error
