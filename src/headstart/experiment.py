"""A run, from data to result: every part of it is built here, top to bottom, in the order that data flows."""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from headstart import config, result
from headstart.backbones.backbone import Backbone, WeightsRecord
from headstart.cache import cache_dir
from headstart.claim import CLAIM, Claim
from headstart.config import TrainerConfig
from headstart.data.module import DataModule, ShiftSet
from headstart.data.source import Source
from headstart.errors import disk_is_full
from headstart.features.store import FeatureStore
from headstart.preparation import Job, job_config, prepare
from headstart.progress import Progress
from headstart.recording import PeakMemory, Recorder
from headstart.seeding import seed_for
from headstart.strategies import drawing
from headstart.training import scoring
from headstart.training.activations import FrozenFeatures
from headstart.training.epochs import EpochRows, FlopMeter, PlateauThaw, keepers, load_weights
from headstart.training.module import DivergedError, TransferModule
from headstart.training.probe import train_probes
from headstart.training.probe_spec import EarlyStopping, Probe, ProbeOutcome
from headstart.training.ranks import other_ranks
from headstart.training.solver import solve
from headstart.training.thaw import Thaw
from headstart.training.trainer import interruptible, lightning_trainer, resumable
from headstart.training.vector_optim import rule

log = logging.getLogger(__name__)

DEFAULT_THREADS = torch.get_num_threads()
"""What the machine, or the launcher of several processes on it, gives this process where a run does not say."""

NUM_HARDEST = 12
"""Test examples that are kept with a run for people to look at."""
NOISE = (".*does not have many workers", ".*Checkpoint directory", ".*lr_scheduler.step", ".*treespec, LeafSpec")
"""Beginnings of warnings that tell a user nothing."""
METRICS = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")


@dataclass(frozen=True)
class Scored:
    """Logits `(N, C)` by the best epoch's weights on one test set, with what they are measured against."""

    logits: Tensor
    labels: np.ndarray
    ids: Sequence[str]
    index: np.ndarray
    """Each example's place in its source."""


@dataclass(frozen=True)
class Fit:
    """A model that has been trained, at its last weights, with a row an epoch and what it took."""

    module: TransferModule
    rows: Sequence[Mapping[str, Any]]
    flops: float
    seconds: float
    feature_flops: float
    feature_seconds: float
    peak_memory: int | None
    device: torch.device


def run(jobs: Sequence[Job], directories: Sequence[Path]) -> list[dict[str, Any]]:
    """Carry out one job, or several probes of the same features together, each into its own directory.

    Returns:
        The results as they were written. A run that fails is recorded as failed; what is raised is an interrupt or a
        full disk, of which no run is the cause: they leave runs to be resumed.
    """
    records = [_open(job, directory) for job, directory in zip(jobs, directories, strict=True)]
    try:
        _settle(jobs[0].cfg.trainer)
        if jobs[0].is_probe:
            return train_heads(jobs, records)
        assert len(jobs) == 1, "only probes are trained together"
        return [train(jobs[0], records[0])]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a run that exits, or runs out of memory, fails alone
        if disk_is_full(error):
            raise
        sys.stderr.write(f"{_title(jobs[0])}  failed: {error}\n")
        return [result.read(record.directory) or record.fail(error) for record in records]


def train(job: Job, record: Recorder) -> dict[str, Any]:
    """Train a model as its plan says, and score it on the test sets by the weights that were best on val."""
    folder, progress = record.directory / "checkpoints", Progress(_title(job), job.cfg.trainer.max_epochs)
    with other_ranks(record.directory, job.cfg.trainer.devices):
        fit = _fit(job, record.directory, record.row, progress)
    load_weights(fit.module, folder / "best.ckpt")
    backbone, head = fit.module.backbone, fit.module.head
    scored = _scored(job, _data(job), fit.module.to(fit.device).eval(), fit.device)
    cost = {
        "train_seconds": fit.seconds,
        "feature_seconds": fit.feature_seconds,
        "train_flops": fit.flops,
        "feature_flops": fit.feature_flops,
        "peak_memory_bytes": fit.peak_memory,
        "trainable_parameters": job.num_trainable + _count(head),
        "total_parameters": _count(backbone) + _count(head),
        "fused_with": 0,
    }
    _keep_adapter(job, fit.module, record.directory)
    done = _conclude(job, record, fit.rows, scored, cost, backbone.weights)
    result.tidy(record.directory, job.cfg.trainer.keep_checkpoint)
    progress.done(_last_line(done))
    return done


def follow(job: Job, directory: Path) -> None:
    """Train along as one rank of the run in `directory`; nothing is recorded here."""
    _settle(job.cfg.trainer)
    _fit(job, directory, lambda row: None, Progress(_title(job), job.cfg.trainer.max_epochs, live=False))


def _fit(job: Job, directory: Path, on_row: Callable[[Mapping[str, Any]], None], progress: Progress) -> Fit:
    """Train a model as its plan says: data → backbone → head → module → trainer → fit."""
    settings, folder = job.cfg.trainer, directory / "checkpoints"
    data = _data(job)
    backbone = _backbone(job)
    head = _head(job, backbone.num_features)
    groups = backbone.groups(job.strategy.granularity)
    module = TransferModule(
        backbone,
        head,
        groups,
        data.num_classes,
        job.parts["optimizer"],
        job.seed,
        _class_weights(job),
        settings.label_smoothing,
        job.parts["augmentation"],
        job.strategy.regularizer,
    )
    thaw = Thaw(job.plan, job.parts["scheduler"], groups)
    rows, flops = EpochRows(thaw, on_row, progress), FlopMeter(thaw)
    callbacks = [thaw, PlateauThaw(thaw, folder), rows, flops, *keepers(folder)]
    trainer = lightning_trainer(settings, callbacks, directory)
    device = trainer.strategy.root_device
    memory, frozen = PeakMemory(device), _frozen_features(job, device)
    module.keep(_views(job, frozen))
    began = time.perf_counter()
    with interruptible():
        trainer.fit(module, data, ckpt_path=resumable(folder / "last.ckpt"), weights_only=True)
    seconds = time.perf_counter() - began
    return Fit(module, rows.rows, flops.total, seconds, frozen.flops, frozen.seconds, memory.read(), device)


def train_heads(jobs: Sequence[Job], records: Sequence[Recorder]) -> list[dict[str, Any]]:
    """Run the frozen backbone once over the data and train every job's head on what it gives."""
    first, settings = jobs[0], jobs[0].cfg.trainer
    device = _device(settings)
    memory = PeakMemory(device)
    frozen = _frozen_features(first, device)
    progress = Progress(_title(first), settings.max_epochs, note=f"{len(jobs)} heads together" if len(jobs) > 1 else "")
    source, reading = first.source, first.reading.description
    features = frozen.of(first.examples, source.fingerprint, reading)
    views = frozen.views(
        first.examples, source.fingerprint, reading, first.parts["augmentation"], first.augmentation_name
    )
    shifted = {
        name: (shift, frozen.of(shift.examples(**first.reading.arguments), shift.fingerprint, reading))
        for name, shift in source.shifts.items()
    }
    heads = [_head(job, features.shape[1]) for job in jobs]
    try:
        outcomes = _fitted(jobs, heads, features, views, device, progress)
    except Exception as error:
        if len(jobs) == 1 or disk_is_full(error):
            raise
        log.warning("Together the heads failed (%r); each is trained alone.", error)
        return [run([job], [record.directory])[0] for job, record in zip(jobs, records, strict=True)]
    results = [
        _conclude_probe(job, record, head, outcome, features, shifted, frozen, memory)
        for job, record, head, outcome in zip(jobs, records, heads, outcomes, strict=True)
    ]
    progress.done(_last_line(results[0]) if len(results) == 1 else f"{len(results)} heads trained")
    return results


def execute(cfg: DictConfig) -> bool:
    """What a launcher calls for one composed config and its companions; true if all their runs are completed.

    Each run is worked on by one process at a time; those that are done, or that another is at, are left alone.
    """
    hydra = HydraConfig.get()
    first = Path(hydra.runtime.output_dir)
    configs = {first: cfg} | {first.parent / name: config.load(first.parent / name) for name in cfg.companions}
    with ExitStack() as claims:
        free = [path for path in configs if claims.enter_context(Claim(path / CLAIM, wait=False)).held]
        mine = [path for path in free if result.read(path) is None]
        for path in mine:
            result.remove_drafts(path)
        if mine:
            run([prepare(job_config(configs[path], hydra)) for path in mine], mine)
    return all(result.completed(path) for path in configs)


def _open(job: Job, directory: Path) -> Recorder:
    """Begin a run's record: its config and plan are on the disk before anything is trained."""
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "log.txt").exists():
        note = "Trained together with other runs; the log is in the first one's directory.\n"
        result.write_bytes(directory / "log.txt", note.encode())
    result.write_bytes(directory / "config.yaml", OmegaConf.to_yaml(job.cfg, resolve=True).encode())
    result.write_json(directory / "plan.json", job.plan.to_dict())
    result.write_bytes(
        directory / "plan.svg",
        drawing.svg(job.plan, job.parts["scheduler"], job.parts["optimizer"].keywords["lr"]).encode(),
    )
    source = job.source
    base = {
        "run_id": job.run_id,
        "choices": dict(job.cfg.choices),
        "settings": dict(job.identity["settings"]),
        "overrides": list(job.cfg.overrides),
        "seed": job.seed,
        "data": {
            "name": source.name,
            "fingerprint": source.fingerprint,
            "split_sha256": job.split.sha256,
            "sizes": job.split.sizes,
            "classes": list(source.classes),
        },
        "environment": {**result.environment(), "threads": torch.get_num_threads()},
        "git": result.git(str(Path.cwd())),
        "rerun": f"headstart rerun {directory}",
    }
    return Recorder(directory, base, job.cfg.name, job.parts["logger"])


def _settle(settings: TrainerConfig) -> None:
    """Bring process-wide switches in line with the run."""
    torch.set_num_threads(settings.threads or DEFAULT_THREADS)
    torch.use_deterministic_algorithms(settings.deterministic, warn_only=True)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for words in NOISE:
        warnings.filterwarnings("ignore", words)


def _data(job: Job) -> DataModule:
    source, settings = job.source, job.cfg.trainer
    augmentation = job.parts["augmentation"]
    shifts = {
        name: ShiftSet(shift.examples(**job.reading.arguments), shift.labels, _shifted_indices(job, shift))
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


def _shifted_indices(job: Job, shift: Source) -> np.ndarray:
    """Which of a shifted set's examples are scored: all, or the test examples where it shows this source's own."""
    return job.split.test if job.source.paired_shifts else np.arange(len(shift.labels))


def _backbone(job: Job) -> Backbone:
    torch.manual_seed(seed_for(job.seed, "backbone"))
    backbone = job.factory.build(job.strategy.pretrained)
    if job.strategy.adapter is not None:
        torch.manual_seed(seed_for(job.seed, "adapter"))
        job.strategy.adapter.inject(backbone)
    return backbone


def _frozen_features(job: Job, device: torch.device) -> FrozenFeatures:
    """Where features of the job's backbone, as it starts, come from."""
    features, settings = job.cfg.features, job.cfg.trainer
    return FrozenFeatures(
        FeatureStore(Path(features.root or cache_dir("features")), int(features.budget_gb * 1e9)),
        {**job.features_identity, "versions": _versions()},
        partial(_backbone, job),
        device,
        settings.precision,
        num_workers=settings.num_workers,
    )


def _views(job: Job, frozen: FrozenFeatures) -> list[Tensor]:
    """Features of all examples for the phases in which the head alone trains; none where there are no such phases."""
    augmentation, settings = job.parts["augmentation"], job.cfg.trainer
    if not job.plan.probes(0) or augmentation.mixes or settings.limit_batches is not None:
        return []
    known = job.examples, job.source.fingerprint, job.reading.description
    plain = frozen.of(*known)
    return frozen.views(*known, augmentation, job.augmentation_name) or [plain]


def _head(job: Job, num_features: int) -> nn.Module:
    torch.manual_seed(seed_for(job.seed, "head"))
    return job.parts["head"].build(num_features, len(job.source.classes))


def _class_weights(job: Job) -> Tensor | None:
    if job.cfg.trainer.class_weights == "none":
        return None
    return scoring.class_weights(job.source.labels[job.split.train], len(job.source.classes))


def _device(settings: TrainerConfig) -> torch.device:
    if settings.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    if settings.accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def _fitted(
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
    weights = _class_weights(job)
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
    weights = _class_weights(job)
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


def _conclude_probe(
    job: Job,
    record: Recorder,
    head: nn.Module,
    outcome: ProbeOutcome,
    features: Tensor,
    shifted: Mapping[str, tuple[Source, Tensor]],
    frozen: FrozenFeatures,
    memory: PeakMemory,
) -> dict[str, Any]:
    """Score a trained head and write its record; one that diverged is recorded as failed."""
    source, test = job.source, job.split.test
    frozen_rates = {f"lr/{group}": 0.0 for group in job.plan.groups[:-1]}
    order = ("epoch", "step", "phase", *METRICS, "seconds")
    rows = [
        {**{name: {"phase": 0, **row}[name] for name in order}, **frozen_rates, "lr/head": row["lr/head"]}
        for row in outcome.history
    ]
    record.rows(rows)
    cost = {
        "train_seconds": outcome.seconds,
        "feature_seconds": frozen.seconds,
        "train_flops": _head_flops(head, features.shape[1]) * len(job.split.train) * len(rows),
        "feature_flops": frozen.flops,
        "peak_memory_bytes": memory.read(),
        "trainable_parameters": _count(head),
        "total_parameters": job.sketch.total_parameters + _count(head),
        "fused_with": outcome.num_together - 1,
    }
    if outcome.divergence is not None or outcome.best_state is None:
        where = outcome.divergence
        return record.fail(DivergedError(where.epoch, where.step) if where else RuntimeError("no epoch ended"), cost)
    head.load_state_dict(outcome.best_state)
    head.eval()
    with torch.inference_mode():
        scored = {"test": Scored(head(features[test]), source.labels[test], [source.ids[i] for i in test], test)}
        for name, (shift, shift_features) in shifted.items():
            chosen = _shifted_indices(job, shift)
            logits = head(shift_features[chosen])
            scored[f"shift/{name}"] = Scored(logits, shift.labels[chosen], [shift.ids[i] for i in chosen], chosen)
    if job.cfg.trainer.keep_checkpoint:
        state = {f"head.{name}": tensor for name, tensor in outcome.best_state.items()}
        (record.directory / "checkpoints").mkdir(exist_ok=True)
        torch.save({"state_dict": state, "epoch": outcome.best_epoch}, record.directory / "checkpoints" / "best.ckpt")
    kind = job.identity["weights"]["weights"]
    sha256 = kind.removeprefix("sha256:") if kind and kind.startswith("sha256:") else None
    return _conclude(job, record, rows, scored, cost, WeightsRecord(job.cfg.backbone.weights, sha256))


def _scored(job: Job, data: DataModule, module: TransferModule, device: torch.device) -> dict[str, Scored]:
    """Logits on the test set and on every shifted one."""
    settings = job.cfg.trainer
    loaders = {"test": (job.source, data.test_dataloader())}
    shifts = data.shift_dataloaders()
    loaders |= {f"shift/{name}": (shift, shifts[name]) for name, shift in job.source.shifts.items()}
    scored = {}
    for name, (source, loader) in loaders.items():
        seen: list[np.ndarray] = []
        batches = islice(loader, settings.limit_batches)
        logits = scoring.predict(module, _noting(batches, seen), device, settings.precision)
        order = np.argsort(np.concatenate(seen), kind="stable")
        chosen = np.concatenate(seen)[order]
        scored[name] = Scored(
            logits[torch.from_numpy(order)], source.labels[chosen], [source.ids[i] for i in chosen], chosen
        )
    return scored


def _noting(batches: Iterable[Mapping[str, Any]], seen: list[np.ndarray]) -> Iterator[Mapping[str, Any]]:
    for batch in batches:
        seen.append(batch["index"].numpy())
        yield batch


def _conclude(
    job: Job,
    record: Recorder,
    rows: Sequence[Mapping[str, Any]],
    scored: Mapping[str, Scored],
    cost: Mapping[str, Any],
    weights: WeightsRecord,
) -> dict[str, Any]:
    """Turn what was scored into metrics, predictions and the result; the epoch is the one that was best on val."""
    best = max(rows, key=lambda row: (row["val/accuracy"], -row["epoch"]))
    metrics: dict[str, Any] = {name: best[name] for name in METRICS}
    for name, part in scored.items():
        metrics |= scoring.metrics(part.logits, torch.from_numpy(part.labels), name)
    metrics["best_epoch"] = best["epoch"]
    test = scored["test"]
    record.hardest(_hardest(job, test))
    return record.complete(
        metrics,
        cost,
        {name: scoring.predictions(part.logits, part.labels, part.ids) for name, part in scored.items()},
        weights={"source": weights.source, "sha256": weights.sha256, "ignored": list(weights.ignored)},
        details=scoring.details(test.logits, torch.from_numpy(test.labels), job.source.classes),
        reading={**job.reading.description, **job.examples.statistics(), "views": job.parts["augmentation"].views},
    )


def _keep_adapter(job: Job, module: TransferModule, directory: Path) -> None:
    """Write a run's adapter to `adapter/`, and the weights with it folded in, if asked, to `best.ckpt`."""
    adapter, best = job.strategy.adapter, directory / "checkpoints" / "best.ckpt"
    if adapter is None:
        return
    adapter.save(module.backbone, directory / "adapter")
    if adapter.merge:
        adapter.fold(module.backbone)
        checkpoint = torch.load(best, map_location="cpu", weights_only=True)
        torch.save({**checkpoint, "state_dict": module.state_dict()}, best.with_name("folded.ckpt"))


def _hardest(job: Job, test: Scored) -> list[tuple[dict[str, Any], bytes | str | None]]:
    """The test examples whose own class got the least probability, each with what a person can look at."""
    probability = torch.softmax(test.logits.double(), dim=1).numpy()
    own = probability[np.arange(len(test.labels)), test.labels]
    classes = job.source.classes
    found = []
    for place in np.argsort(own, kind="stable")[:NUM_HARDEST]:
        facts = {
            "id": test.ids[place],
            "label": classes[test.labels[place]],
            "predicted": classes[int(probability[place].argmax())],
            "probability": float(own[place]),
        }
        found.append((facts, job.examples.portrait(int(test.index[place]))))
    return found


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _head_flops(head: nn.Module, num_features: int) -> float:
    """Floating-point operations of one example forward and backward through a head on fixed features."""
    with FlopCounterMode(display=False) as counter, torch.enable_grad():
        head(torch.zeros(2, num_features, device=next(head.parameters()).device)).sum().backward()
    head.zero_grad(set_to_none=True)
    return counter.get_total_flops() / 2


def _versions() -> dict[str, Any]:
    packages = result.environment()["packages"]
    return {name: packages[name] for name in ("torch", "timm", "transformers", "pillow")}


def _title(job: Job) -> str:
    return f"{job.cfg.choices.get('strategy', 'run')} seed={job.seed} [{job.run_id}]"


def _last_line(done: Mapping[str, Any]) -> str:
    if done["status"] != "completed":
        return f"failed: {done['error']['message']}"
    metrics = done["metrics"]
    return (
        f"test {metrics['test/accuracy']:.1%} (best val {metrics['val/accuracy']:.1%} at epoch {metrics['best_epoch']})"
    )
