"""Probes: heads trained on the features of a frozen backbone, many of them together as one batched computation.

Each has its own rate, weight decay, schedule, seed, data order and subset; on a CPU each comes out bit-equal to being
trained alone, which is the same code with one probe. Probes that share seed and subsets share their batches.
"""

import time
from collections.abc import Hashable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from headstart.training.head_tensors import layers_of, num_columns
from headstart.training.probe_loop import ProbeLoop
from headstart.training.probe_spec import Probe, ProbeData, ProbeOutcome, Report
from headstart.training.side_by_side import side_by_side
from headstart.training.threads import SMALL, threads_for
from headstart.training.vector_optim import Torch

FEWEST = 16
"""Heads that are worth a thread of their own."""


def fusion_key(probe: Probe) -> Hashable | None:
    """Probes of equal key can be one stack; `None`: this one trains by itself.

    Free to differ: learning rate, weight decay, betas, eps, momentum, dampening, schedule, seed, which examples (but
    not how many to train on, nor which where batches are made of like lengths), number of epochs, the task's settings,
    dropout rate, clipping norm, monitor, early stopping.
    """
    layers = layers_of(probe.head)
    if layers is None or isinstance(probe.rule, Torch):
        return None
    return (
        tuple((layer.prefix, layer.num_inputs, layer.num_outputs, bool(layer.dropout)) for layer in layers),
        probe.rule.fusion_key,
        len(probe.train),
        probe.batch_size,
        probe.num_processes,
        probe.accumulate_grad_batches,
        probe.max_steps,
        probe.gradient_clip_val is not None,
        probe.task.kind,
        None if probe.lengths is None else probe.batches_key,
    )


def train_probes(
    features: Tensor,
    targets: Tensor,
    probes: Sequence[Probe],
    num_outputs: int,
    device: torch.device | str = "cpu",
    *,
    views: Sequence[Tensor] = (),
    report: Report = lambda position, row: None,
) -> list[ProbeOutcome]:
    """Train every probe on `features` `(N, D)` (or on `views` of them, evaluating on `features`).

    Small heads are computed by one thread, which is faster than sharing such small products out, and makes their
    numbers the same for any number of threads; a head with large products has all threads, alone or not.
    """
    device = torch.device(device)
    placed = {id(tensor): tensor.to(device, torch.float32).contiguous() for tensor in (features, *views)}  # each once
    data = ProbeData(
        placed[id(features)],
        [placed[id(view)] for view in views],
        targets.to(device),
        num_outputs,
    )
    began = time.perf_counter()
    outcomes: dict[int, ProbeOutcome] = {}
    for found in _trained(probes, _stacks(probes, device), data, report):
        outcomes.update(found)
    _share_time(outcomes, time.perf_counter() - began)
    return [outcomes[position] for position in range(len(probes))]


def _trained(
    probes: Sequence[Probe], stacks: Sequence[Sequence[int]], data: ProbeData, report: Report
) -> Iterator[dict[int, ProbeOutcome]]:
    """Each stack's outcomes: one stack after another or, of small heads on a CPU, side by side."""
    alone = [stack for stack in stacks if not _fits_thread(probes[stack[0]], data)]
    others = [stack for stack in stacks if _fits_thread(probes[stack[0]], data)]
    for stack in alone:
        yield _train_stack(probes, stack, data, report)
    yield from side_by_side([partial(_train_stack, probes, stack, data) for stack in others], report)


def _fits_thread(probe: Probe, data: ProbeData) -> bool:
    """Whether a head has small products; one that trains by itself, by torch's own rng, counts as large."""
    return data.features.device.type == "cpu" and _num_operations(probe) < SMALL


def _stacks(probes: Sequence[Probe], device: torch.device) -> list[list[int]]:
    """Positions of probes that train as one; those that share batches lie side by side."""
    by_key: dict[Hashable, dict[Hashable, list[int]]] = {}
    for position, probe in enumerate(probes):
        key = fusion_key(probe)
        by_batches = by_key.setdefault(("alone", position) if key is None else key, {})
        by_batches.setdefault(probe.batches_key, []).append(position)
    stacks = []
    for by_batches in by_key.values():
        ordered = [position for positions in by_batches.values() for position in positions]
        size = _stack_size(probes[ordered[0]], len(ordered), device)
        stacks += [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return stacks


def _stack_size(probe: Probe, number: int, device: torch.device) -> int:
    """Probes whose parameters, gradients and moments are a share of a CPU's cache or a GPU's memory; of `number`, as
    many to each of a CPU's threads."""
    layers = layers_of(probe.head)
    if layers is None:
        return 1
    if device.type != "cpu":
        return max(1, 2**31 // (5 * 4 * num_columns(layers)))
    most = max(1, 2**25 // (5 * 4 * num_columns(layers)))
    each = max(FEWEST, -(-number // torch.get_num_threads()))
    return min(most, -(-number // -(-number // each)))


def _num_operations(probe: Probe) -> int:
    """Of a batch's largest product; unlimited for a head that trains by itself."""
    layers = layers_of(probe.head)
    if layers is None or isinstance(probe.rule, Torch):
        return SMALL
    return 2 * probe.batch_size * max(layer.num_inputs * layer.num_outputs for layer in layers)


def _train_stack(
    probes: Sequence[Probe], stack: Sequence[int], data: ProbeData, report: Report
) -> dict[int, ProbeOutcome]:
    members = [probes[position] for position in stack]
    devices = [data.features.device] if data.features.is_cuda else []
    with threads_for(_num_operations(members[0])), torch.random.fork_rng(devices=devices):
        loop = ProbeLoop(members, data, lambda member, row: report(stack[member], row))
        return dict(zip(stack, loop.run(), strict=True))


def _share_time(outcomes: dict[int, ProbeOutcome], elapsed: float) -> None:
    busy = sum(outcome.seconds for outcome in outcomes.values())
    for outcome in outcomes.values():
        outcome.seconds *= elapsed / busy
        outcome.num_together = len(outcomes)
