"""The parts of a run, built from its job."""

from collections.abc import Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstart import result
from headstart.backbones.backbone import Backbone
from headstart.cache import cache_dir
from headstart.config import TrainerConfig
from headstart.data.module import DataModule, ShiftSet
from headstart.data.source import Source
from headstart.features.store import FeatureStore
from headstart.preparation import Job
from headstart.progress import Progress
from headstart.seeding import seed_for
from headstart.training import scoring
from headstart.training.activations import FEATURES, FrozenFeatures, Kept
from headstart.training.probe import train_probes
from headstart.training.probe_spec import EarlyStopping, Probe, ProbeOutcome
from headstart.training.solver import solve
from headstart.training.vector_optim import rule


def data_module(job: Job) -> DataModule:
    source, settings = job.source, job.cfg.trainer
    augmentation = job.parts["augmentation"]
    shifts = {
        name: ShiftSet(shift.examples(**job.reading.arguments), shift.labels, shifted_indices(job, shift))
        for name, shift in source.shifts.items()
    }
    return DataModule(
        job.examples,
        source.labels,
        job.split,
        len(source.classes),
        augmentation,
        settings.batch_size,
        job.seed,
        settings.num_workers,
        shifts,
    )


def shifted_indices(job: Job, shift: Source) -> np.ndarray:
    """Which of a shifted set's examples are scored: all, or the test examples where it shows this source's own."""
    return job.split.test if job.source.paired_shifts else np.arange(len(shift.labels))


def build_backbone(job: Job) -> Backbone:
    torch.manual_seed(seed_for(job.seed, "backbone"))
    backbone = job.factory.build(job.strategy.pretrained)
    if job.strategy.adapter is not None:
        torch.manual_seed(seed_for(job.seed, "adapter"))
        job.strategy.adapter.inject(backbone)
    return backbone


def frozen_features(job: Job, device: torch.device) -> FrozenFeatures:
    """Where features of the job's backbone, as it starts, come from."""
    features, settings = job.cfg.features, job.cfg.trainer
    return FrozenFeatures(
        FeatureStore(Path(features.root or cache_dir("features")), int(features.budget_gb * 1e9)),
        {**job.features_identity, "versions": _versions()},
        partial(build_backbone, job),
        device,
        settings.precision,
        num_workers=settings.num_workers,
    )


def kept_activations(job: Job, backbone: Backbone, frozen: FrozenFeatures, device: torch.device) -> dict[int, Kept]:
    """By phase, what stands in for the lowest groups, which have not changed by then.

    While the head alone trains: features, in views where there is augmentation. Else, where examples are never changed
    and all of one shape, what the highest such group gives that the model can be cut after: if the phase is long enough
    to pay for it, and it fits half the store's budget (on an accelerator, a quarter of its memory).
    """
    augmentation, settings = job.parts["augmentation"], job.cfg.trainer
    if augmentation.mixes or settings.limit_batches is not None:
        return {}
    known = job.examples, job.source.fingerprint, job.reading.description
    kept: dict[int, Kept] = {}
    probing = [phase for phase in range(len(job.plan.phases)) if job.plan.probes(phase)]
    if probing:
        plain = frozen.of(*known)
        views = frozen.views(*known, augmentation, job.augmentation_name) or [plain]
        features = Kept(backbone.groups()[-1].name, [{FEATURES: view} for view in views]).on(device)
        kept |= dict.fromkeys(probing, features)
    if not augmentation.changes_examples and job.examples.lengths is None and settings.precision != "64-true":
        boundaries = _boundaries(job, backbone, device)
        starts = {name: Kept(name, [frozen.after(name, *known)]).on(device) for name in set(boundaries.values())}
        kept |= {phase: starts[name] for phase, name in boundaries.items()}
    return kept


def _boundaries(job: Job, backbone: Backbone, device: torch.device) -> dict[int, str]:
    """Phases that train part of the backbone, with the group whose activations they can start from, if any."""
    plan, num_examples = job.plan, len(job.examples)
    room = job.cfg.features.budget_gb * 1e9 / 2
    if device.type == "cuda":
        room = min(room, torch.cuda.get_device_properties(device).total_memory / 4)
    ends = [*(phase.start for phase in plan.phases[1:]), plan.max_epochs]
    chosen: dict[int, str] = {}
    sizes: dict[str, int] = {}
    for phase, (start, end) in enumerate(zip((p.start for p in plan.phases), ends, strict=True)):
        read = len(job.split.train) + len(job.split.val)
        is_short = start is not None and end is not None and (end - start) * read < 2 * num_examples
        untouched = plan.untouched(phase)
        name = None if plan.probes(phase) or is_short else _highest_cut(job, backbone, untouched)
        if name is not None:
            sizes.setdefault(name, _num_bytes(job, backbone, name) * num_examples)
            if sum(sizes[one] for one in {*chosen.values(), name}) <= room:
                chosen[phase] = name
    return chosen


def _highest_cut(job: Job, backbone: Backbone, untouched: Sequence[str]) -> str | None:
    """The last group within the `untouched` ones, however coarse these are, after which the model can be cut."""
    if not untouched:
        return None
    coarse = [group for group in backbone.groups(job.strategy.granularity) if group.name in untouched]
    frozen = {id(parameter) for group in coarse for parameter in group.parameters.values()}
    below = takewhile(lambda group: all(id(p) in frozen for p in group.parameters.values()), backbone.groups())
    exact = set(backbone.boundaries)
    return next((group.name for group in reversed(list(below)) if group.name in exact), None)


def _num_bytes(job: Job, backbone: Backbone, boundary: str) -> int:
    """Bytes of one example's activations."""
    was_training = backbone.training
    with torch.no_grad():
        activations = backbone.eval().prefix(job.examples.batch([0]), boundary)
    backbone.train(was_training)
    return sum(tensor.nbytes for tensor in activations.values())


def build_head(job: Job, num_features: int) -> nn.Module:
    torch.manual_seed(seed_for(job.seed, "head"))
    return job.parts["head"].build(num_features, len(job.source.classes))


def class_weights(job: Job) -> Tensor | None:
    if job.cfg.trainer.class_weights == "none":
        return None
    return scoring.class_weights(job.source.labels[job.split.train], len(job.source.classes))


def device_of(settings: TrainerConfig) -> torch.device:
    if settings.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    if settings.accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def fitted_heads(
    jobs: Sequence[Job],
    heads: Sequence[nn.Module],
    features: Tensor,
    views: Sequence[Tensor],
    device: torch.device,
    progress: Progress,
) -> list[ProbeOutcome]:
    """Heads trained on features: exactly where that was asked for, the others together."""
    labels, num_classes = torch.from_numpy(jobs[0].source.labels), len(jobs[0].source.classes)
    exact = [place for place, job in enumerate(jobs) if job.parts["head"].solver == "lbfgs"]
    others = [place for place in range(len(jobs)) if place not in exact]
    outcomes = {place: _solved(jobs[place], features, labels) for place in exact}
    report = lambda place, row: progress.epoch(row) if place == 0 else None  # noqa: E731
    probes = [_probe(jobs[place], heads[place]) for place in others]
    trained = train_probes(features, labels, probes, num_classes, device, views=views, report=report) if probes else []
    outcomes |= dict(zip(others, trained, strict=True))
    return [outcomes[place] for place in range(len(jobs))]


def _solved(job: Job, features: Tensor, labels: Tensor) -> ProbeOutcome:
    weights = class_weights(job)
    return solve(
        features,
        labels,
        job.split.train,
        job.split.val,
        len(job.source.classes),
        job.parts["head"].l2,
        label_smoothing=job.cfg.trainer.label_smoothing,
        class_weights=None if weights is None else weights.tolist(),
    )


def _probe(job: Job, head: nn.Module) -> Probe:
    settings, optimizer = job.cfg.trainer, job.parts["optimizer"]
    weights = class_weights(job)
    stop = EarlyStopping(settings.patience, settings.min_delta, settings.monitor) if settings.patience else None
    options = dict(optimizer.keywords)
    return Probe(
        head,
        rule(optimizer.func, options.pop("lr"), options.pop("weight_decay", 0.0), **options),
        train=job.split.train,
        val=job.split.val,
        seed=job.seed,
        batch_size=settings.batch_size,
        max_epochs=settings.max_epochs,
        max_steps=settings.max_steps,
        schedule=job.parts["scheduler"].factor,
        label_smoothing=settings.label_smoothing,
        class_weights=None if weights is None else weights.tolist(),
        early_stopping=stop,
        gradient_clip_val=settings.gradient_clip_val,
        accumulate_grad_batches=settings.accumulate_grad_batches,
    )


def _versions() -> dict[str, Any]:
    packages = result.environment()["packages"]
    return {name: packages[name] for name in ("torch", "timm", "transformers", "pillow")}
