"""Whether this machine can carry a run out: places, devices and memory."""

import logging
from collections.abc import Callable
from functools import partial
from math import prod
from pathlib import Path

import torch
from omegaconf import DictConfig

from headstart.backbones.backbone import Inputs
from headstart.config.sides import height_width, told
from headstart.errors import InputError, collect
from headstart.names import plural
from headstart.run.findings import key_of
from headstart.run.job import Job
from headstart.run.sketch import outline
from headstart.system.cache import cache_dir
from headstart.system.places import check_folder, closed
from headstart.training.activations import FrozenFeatures
from headstart.training.heads import built_head
from headstart.training.memory import least_bytes, may_be_too_much, memory_here
from headstart.training.ranks import check_devices
from headstart.training.rows import rows

log = logging.getLogger(__name__)


def check_machine(cfg: DictConfig) -> None:
    """Raise `InputError` for devices that are not here, and for a feature store that is no folder."""
    checks: list[Callable[[], object]] = [partial(check_devices, cfg.trainer.devices, cfg.trainer.accelerator)]
    if cfg.features.root is not None:
        checks.append(partial(check_folder, str(cfg.features.root), "features.root"))
    collect(checks)


def note_closed(cfg: DictConfig) -> None:
    """Say it where what is kept from run to run cannot be written."""
    kept = {"HEADSTART_CACHE": cache_dir()}
    if cfg.features.root is not None:
        kept["features.root"] = Path(str(cfg.features.root))
    for setting, folder in kept.items():
        if reason := closed(folder):
            log.warning(
                "Nothing can be written to %s (%s): what would be kept there from run to run is kept in memory, and "
                "made anew by the next command. Set %s to a folder that can be written.",
                *(folder, reason, setting),
            )


def check_memory(job: Job) -> None:
    """Raise `InputError` for a run that this machine cannot hold: by what it takes at the very least."""
    settings = job.cfg.trainer
    device = str(settings.accelerator)
    available = job.findings.get("memory", device, partial(memory_here, device))
    if available is None:
        return
    rates = [phase.rates for phase in job.plan.phases]
    model = [job.identity["weights"], job.sketch.total_parameters, job.plan.granularity, rates]
    head = {name: value for name, value in job.identity["settings"].items() if name.startswith("head.")}
    key = key_of(model, head, job.num_outputs, settings.precision)
    needed = job.findings.get("model bytes", key, lambda: _model_bytes(job))
    if settings.strategy == "fsdp2" and settings.accelerator != "cpu":  # scores take the whole model, on one device
        needed = max(needed // settings.devices, 4 * job.sketch.total_parameters)
    num = min(settings.batch_size, len(job.split.train))
    if job.is_probe:  # then the backbone reads all examples once, in batches of its own
        num = min(FrozenFeatures.batch_size, len(job.source.labels))
    each = -(-num // settings.devices) if settings.accelerator != "cpu" else num
    differ = job.source.modality != "vision" and job.reading.arguments.get("padding") != "fixed"
    inputs = None if differ else job.factory.shapes(each, **job.reading.arguments)
    side = getattr(job.factory, "size", None) or 0  # of spectrograms, which are no inputs yet
    if inputs is not None and may_be_too_much(inputs, each * prod(height_width(side)), available):
        key = key_of(model, each, job.reading.description, settings.precision)
        needed += job.findings.get("step bytes", key, lambda: _step_bytes(job, inputs))
    if needed > available:
        size = "" if "size" not in job.reading.arguments else f" of {told(job.reading.arguments['size'])} px"
        less = "" if job.is_probe else ", or a smaller trainer.batch_size (accumulate_grad_batches makes up for it)"
        raise InputError(
            f"A step must fit into memory, but on a batch of {plural(each, 'example')}{size} it takes at least "
            f"{needed / 1e9:,.1f} GB, and this machine has {available / 1e9:,.1f}. Choose a smaller data.size or model"
            f"{less}."
        )


def note_few_steps(job: Job) -> None:
    """Say it where a batch is far more than there is, or a step is more than an epoch has."""
    settings, num = job.cfg.trainer, len(job.split.train)
    if settings.batch_size > 10 * num:
        log.warning(
            "trainer.batch_size=%s is far more than the %s training examples: every epoch is one step on all of them.",
            *(f"{settings.batch_size:,}", f"{num:,}"),
        )
    num_batches = min(-(-num // settings.batch_size), settings.limit_batches or num)
    if settings.accumulate_grad_batches > num_batches:
        log.warning(
            "trainer.accumulate_grad_batches=%s is more than the %s batches of an epoch: every epoch is one step.",
            *(f"{settings.accumulate_grad_batches:,}", f"{num_batches:,}"),
        )


def _model_bytes(job: Job) -> int:
    """Of all parameters, and of the gradients of those that train."""
    with torch.device("meta"):
        head = built_head(job.parts.head, job.sketch.num_features, job.num_outputs, job.sketch.num_weighed)
    own = sum(parameter.numel() for parameter in head.parameters())
    width = 8 if job.cfg.trainer.precision == "64-true" else 4  # mixed precision keeps weights in single
    return width * (job.sketch.total_parameters + job.num_trainable(len(job.plan.phases)) + 2 * own)


def _step_bytes(job: Job, inputs: Inputs) -> int:
    """Of what a step holds in the phase that trains most."""
    backbone, strategy = outline(job.factory), job.strategy
    if strategy.adapter is not None:
        with torch.device("meta"):
            strategy.adapter.inject(backbone)
    table = rows(backbone.groups(strategy.granularity), backbone)
    phases = [{name for row in table if phase.trains(*row) for name in table[row]} for phase in job.plan.phases]
    try:
        return least_bytes(backbone, inputs, max(phases, key=len), job.cfg.trainer.precision)
    except (RuntimeError, NotImplementedError):  # a model that looks at values cannot run on shapes alone
        return 0
