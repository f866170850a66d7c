"""The parts of a run, built from its job."""

import logging
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from headstart.backbones.backbone import Backbone, BackboneFactory
from headstart.data.module import DataModule, ShiftSet
from headstart.data.source import Examples, Source
from headstart.errors import InputError
from headstart.features.store import FeatureStore
from headstart.progress import Progress
from headstart.run.job import Job
from headstart.run.unchanged import check_weights
from headstart.seeding import seed_for
from headstart.strategies.strategy import Strategy
from headstart.system.cache import cache_dir, versions
from headstart.training.activations import Activations, FrozenFeatures, Kept
from headstart.training.device import device_of
from headstart.training.probe import train_probes
from headstart.training.probe_spec import Patience, Probe, ProbeOutcome
from headstart.training.solver import solve
from headstart.training.starts import STORED_SHARE, Stored, starts
from headstart.training.vector_optim import rule

log = logging.getLogger(__name__)

UPDATES = frozenset({"fused", "foreach", "capturable", "differentiable"})
"""Options of torch's optimizers that choose how an update is computed."""


def data_module(job: Job) -> DataModule:
    source, settings = job.source, job.cfg.trainer
    augmentation = job.parts.augmentation
    shifts = {
        name: ShiftSet(shift.examples(**job.reading.arguments), job.shift_targets[name], shifted_indices(job, shift))
        for name, shift in source.shifts.items()
    }
    return DataModule(
        job.examples,
        job.targets.values,
        job.split,
        augmentation,
        settings.batch_size,
        job.seed,
        settings.num_workers,
        shifts,
        settings.reuse_views,
    )


def shifted_indices(job: Job, shift: Source) -> np.ndarray:
    """Which of a shifted set's examples are scored: all, or the test examples where it shows this source's own."""
    return job.split.test if job.source.paired_shifts else np.arange(len(shift.ids))


def backbone_of(factory: BackboneFactory, strategy: Strategy, seed: int) -> Backbone:
    """The backbone as a run of this seed starts from it."""
    torch.manual_seed(seed_for(seed, "backbone"))
    backbone = factory.build(strategy.pretrained)
    if strategy.adapter is not None:
        torch.manual_seed(seed_for(seed, "adapter"))
        strategy.adapter.inject(backbone)
    return backbone


def build_backbone(job: Job) -> Backbone:
    backbone = backbone_of(job.factory, job.strategy, job.seed)
    check_weights(job)  # now that they are read: what they were until then says nothing of what was read
    return backbone


def frozen_features(job: Job, device: torch.device) -> FrozenFeatures:
    """Where features of the job's backbone, as it starts, come from."""
    features, settings = job.cfg.features, job.cfg.trainer
    return FrozenFeatures(
        FeatureStore(Path(features.root or cache_dir("features")).expanduser(), int(features.budget_gb * 1e9)),
        {**job.features_identity, "versions": versions("torch", "timm", "transformers")},
        partial(build_backbone, job),
        device,
        settings.precision,
        num_workers=settings.num_workers,
    )


def kept_activations(job: Job, backbone: Backbone, frozen: FrozenFeatures, device: torch.device) -> dict[int, Kept]:
    """By phase, what stands in for the lowest groups, which have not changed by then (see `starts`).

    Features come in views where there is augmentation. Other activations are stored where examples are not augmented
    (or in the same views again and again), within half of the store's budget and of the disk's free space (on a GPU,
    also a quarter of its memory). Where they cannot be stored, the groups are run in every step.
    """
    if not job.stores_activations:
        return {}
    room, on_device = _room(job, frozen.store.root, device)
    groups = starts(backbone, job.plan, _stored(job, backbone), room)
    kept: dict[str, Kept] = {}
    for name in dict.fromkeys(groups.values()):
        try:
            found = _kept_after(name, job, backbone, frozen)
        except (InputError, OSError, RuntimeError, IndexError) as error:
            if name == backbone.groups()[-1].name:
                raise
            log.warning("What %s gives is not stored, and computed in every step: %s", name, error)
            continue
        on_device -= found.num_bytes
        kept[name] = found.on(device) if on_device >= 0 else found
    return {phase: kept[name] for phase, name in groups.items() if name in kept}


def _kept_after(group: str, job: Job, backbone: Backbone, frozen: FrozenFeatures) -> Kept:
    """What `group` gives of all examples, from the store."""
    if group == backbone.groups()[-1].name:
        return Kept(group, stored_views(job, frozen))
    positions = _positions(job.examples, backbone)
    views = stored_views(job, frozen, group, positions)
    return Kept(group, views, None if positions is None else torch.from_numpy(positions))


def stored_views(
    job: Job, frozen: FrozenFeatures, group: str | None = None, positions: np.ndarray | None = None
) -> list[Activations]:
    """The features of all examples of the job's data, or what `group` gives, from the store; in views if augmented."""
    known = job.source.fingerprint, job.reading.description
    name = {**job.augmentation_name, "torchvision": versions("torchvision")}  # which augments pictures
    return frozen.views(job.examples, *known, job.parts.augmentation, name, group, positions)


def _positions(examples: Examples, backbone: Backbone) -> np.ndarray | None:
    """Positions of each example's activations `(N,)`; None if all have as many."""
    return None if examples.lengths is None else backbone.num_positions(examples.lengths)


def _stored(job: Job, backbone: Backbone) -> Stored | None:
    """What activations can be stored of: examples that stay as they are, or come in the same views again and again."""
    examples, augmentation = job.examples, job.parts.augmentation
    if augmentation.changes_examples and not job.cfg.trainer.reuse_views:
        return None
    views = augmentation.views if augmentation.changes_examples else 1
    positions = _positions(examples, backbone)
    times = len(examples) if positions is None else float(positions.sum() / positions[0])
    passes = len(examples) / (len(job.split.train) + len(job.split.val))
    return Stored(examples.batch([0]), views * times, views * passes)


def _room(job: Job, store: Path, device: torch.device) -> tuple[float, float]:
    """Bytes that a run's activations may take below the head, and on the device."""
    present = next(folder for folder in (store, *store.absolute().parents) if folder.exists())
    room = STORED_SHARE * min(job.cfg.features.budget_gb * 1e9, shutil.disk_usage(present).free)
    if device.type != "cuda":
        return room, room if device.type == "cpu" else 0
    on_device = torch.cuda.get_device_properties(device).total_memory / 4
    return min(room, on_device), on_device


def build_head(job: Job, num_features: int) -> nn.Module:
    torch.manual_seed(seed_for(job.seed, "head"))
    return job.parts.head.build(num_features, job.num_outputs)


def build_optimizer(job: Job) -> Callable[..., torch.optim.Optimizer]:
    """The optimizer, still without parameters; it updates all of them in one pass over memory where it can."""
    chosen, settings = job.parts.optimizer, job.cfg.trainer
    # SGD has it too, but fails where parameters of a group get their first gradients at different steps
    can = chosen.func in (torch.optim.Adam, torch.optim.AdamW) and not chosen.keywords.keys() & UPDATES
    # Lightning refuses to clip before such an update in mixed precision, and float16's scaling is undone within it
    scaled = settings.precision == "16-mixed" or (settings.precision.endswith("mixed") and settings.gradient_clip_val)
    if not can or scaled or device_of(settings.accelerator).type not in ("cpu", "cuda"):
        return chosen
    return partial(chosen, fused=True)


def fitted_heads(
    jobs: Sequence[Job],
    heads: Sequence[nn.Module],
    views: Sequence[Tensor],
    device: torch.device,
    progress: Progress,
) -> list[ProbeOutcome]:
    """Heads trained on `views` of the features, together; where an exact solution was asked for, on the first view."""
    features, targets = views[0], torch.from_numpy(jobs[0].targets.values)
    exact = [place for place, job in enumerate(jobs) if job.parts.head.solver == "lbfgs"]
    others = [place for place in range(len(jobs)) if place not in exact]
    outcomes = {place: _solved(jobs[place], features, targets) for place in exact}
    report = lambda place, row: progress.epoch(row) if place == 0 else None  # noqa: E731
    probes = [_probe(jobs[place], heads[place]) for place in others]
    if probes:
        several = views if len(views) > 1 else []
        trained = train_probes(features, targets, probes, jobs[0].num_outputs, device, views=several, report=report)
        outcomes |= dict(zip(others, trained, strict=True))
    return [outcomes[place] for place in range(len(jobs))]


def _solved(job: Job, features: Tensor, targets: Tensor) -> ProbeOutcome:
    return solve(
        features,
        targets,
        job.split.train,
        job.split.val,
        job.num_outputs,
        job.parts.head.l2,
        job.task,
        monitor=job.cfg.trainer.monitor,
    )


def _probe(job: Job, head: nn.Module) -> Probe:
    settings, optimizer = job.cfg.trainer, job.parts.optimizer
    lengths = job.examples.lengths
    stop = Patience(settings.patience, settings.min_delta) if settings.patience else None
    options = dict(optimizer.keywords)
    return Probe(
        head,
        job.task,
        rule(optimizer.func, options.pop("lr"), options.pop("weight_decay", 0.0), **options),
        train=job.split.train,
        val=job.split.val,
        seed=job.seed,
        batch_size=settings.batch_size,
        max_epochs=settings.max_epochs,
        max_steps=settings.max_steps,
        lengths=None if lengths is None else lengths[job.split.train],
        schedule=job.parts.scheduler.factor,
        plan=job.plan,
        monitor=settings.monitor,
        early_stopping=stop,
        gradient_clip_val=settings.gradient_clip_val,
        accumulate_grad_batches=settings.accumulate_grad_batches,
        num_processes=settings.devices,
    )
