"""What is stored of a run's frozen layers, and trained on in place of them."""

import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstart.backbones.backbone import Backbone
from headstart.data.source import Examples
from headstart.errors import InputError
from headstart.features.store import FeatureStore
from headstart.run.job import Job
from headstart.run.parts import build_backbone
from headstart.system.cache import cache_dir, versions
from headstart.training.activations import Activations, FrozenFeatures, Kept
from headstart.training.starts import STORED_SHARE, Stored, starts

log = logging.getLogger(__name__)


def frozen_features(job: Job, device: torch.device) -> FrozenFeatures:
    """Where features of the job's backbone, as it starts, come from."""
    features, settings = job.cfg.features, job.cfg.trainer
    known = {**job.features_identity, "versions": versions("torch", "timm", "transformers")}
    if device.type == "cpu" and settings.threads is not None:  # asked for by who wants the same bits anywhere
        known["threads"] = settings.threads
    return FrozenFeatures(
        FeatureStore(Path(features.root or cache_dir("features")).expanduser(), int(features.budget_gb * 1e9)),
        known,
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
    return frozen.views(job.examples, *known, job.parts.augmentation, _augmented_by(job), group, positions)


def are_kept(job: Job) -> bool:
    """Whether the store has all features that a head of this job takes on a CPU, so that no backbone is run."""
    frozen, reading = frozen_features(job, torch.device("cpu")), job.reading.description
    shifts = {} if job.is_trial else job.source.shifts
    return frozen.has(
        job.examples, job.source.fingerprint, reading, job.parts.augmentation, _augmented_by(job)
    ) and all(
        frozen.has(shift.examples(**job.reading.arguments), shift.fingerprint, reading) for shift in shifts.values()
    )


def _augmented_by(job: Job) -> dict[str, Any]:
    return {**job.augmentation_name, "torchvision": versions("torchvision")}  # which augments pictures


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
