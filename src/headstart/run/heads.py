"""The heads of probes: trained together, solved exactly, or filled with the training examples."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from headstart.progress import Progress
from headstart.run.job import Job
from headstart.strategies.plan import Plan
from headstart.training.neighbours import NearestNeighbours, remember
from headstart.training.probe import train_probes
from headstart.training.probe_spec import Patience, Probe, ProbeOutcome
from headstart.training.solver import solve
from headstart.training.vector_optim import rule

Curve = tuple[Callable[[int, int], float], Plan]
"""Of learning rates: a schedule, and the plan that it goes with."""


def fitted_heads(
    jobs: Sequence[Job],
    heads: Sequence[nn.Module],
    views: Sequence[Tensor],
    device: torch.device,
    progress: Progress,
) -> list[ProbeOutcome]:
    """Heads trained on `views` of the features, together; those that are not trained by steps, on the first view."""
    features, targets = views[0], torch.from_numpy(jobs[0].targets.values)
    outcomes = {
        place: _without_steps(job, head, features, targets)
        for place, (job, head) in enumerate(zip(jobs, heads, strict=True))
        if job.parts.head.solver != "gradient"
    }
    others = [place for place in range(len(jobs)) if place not in outcomes]
    report = lambda place, row: progress.epoch(row) if place == 0 else None  # noqa: E731
    curves: dict[Any, Curve] = {}
    probes = [_probe(jobs[place], heads[place], curves) for place in others]
    if probes:
        several = views if len(views) > 1 else []
        trained = train_probes(features, targets, probes, jobs[0].num_outputs, device, views=several, report=report)
        outcomes |= dict(zip(others, trained, strict=True))
    return [outcomes[place] for place in range(len(jobs))]


def _without_steps(job: Job, head: nn.Module, features: Tensor, targets: Tensor) -> ProbeOutcome:
    if isinstance(head, NearestNeighbours):
        divided = job.split.train, job.split.val
        return remember(head, features, targets, *divided, job.task, job.cfg.trainer.monitor)
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


def _curve(job: Job, known: dict[Any, Curve]) -> Curve:
    """The job's schedule and plan, or those of another that are the same, so that rates are computed once for both."""
    scheduler = job.parts.scheduler
    key = type(scheduler), *sorted(vars(scheduler).items()), job.plan.digest()
    return known.setdefault(key, (scheduler.factor, job.plan))


def _probe(job: Job, head: nn.Module, curves: dict[Any, Curve]) -> Probe:
    settings, optimizer = job.cfg.trainer, job.parts.optimizer
    lengths, (schedule, plan) = job.examples.lengths, _curve(job, curves)
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
        schedule=schedule,
        plan=plan,
        monitor=settings.monitor,
        early_stopping=stop,
        gradient_clip_val=settings.gradient_clip_val,
        accumulate_grad_batches=settings.accumulate_grad_batches,
        num_processes=settings.devices,
    )
