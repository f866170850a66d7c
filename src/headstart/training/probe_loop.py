"""The training loop of one stack of probes."""

import math
import time
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart.data.batches import Batches
from headstart.metrics import Watch
from headstart.strategies.plan import HEAD
from headstart.strategies.plan import Row as PlanRow
from headstart.strategies.rate import foreseen, head_alone
from headstart.training import products
from headstart.training.epoch_graph import EpochGraph
from headstart.training.head_tensors import layers_of
from headstart.training.learners import Batch, Learner, ModuleHead
from headstart.training.probe_spec import Divergence, Probe, ProbeData, ProbeOutcome, Report, Row
from headstart.training.stacked_heads import StackedHeads
from headstart.training.vector_optim import Torch

_EVALUATION_ROWS = 256
_MOST_OUTPUTS = 2**26
"""Numbers that are held at once in an evaluation."""
HEAD_ROW: PlanRow = (HEAD, "weight")
"""All of a head trains at one rate."""


@dataclass(frozen=True)
class Group:
    """Rows of the stack that share their batches."""

    rows: slice
    seed: int
    sampler: Batches
    """The order of examples, the same as every other strategy's at this seed."""
    val: Tensor


@dataclass(frozen=True)
class Epoch:
    """What an epoch reads: for each group its examples in order, and their targets `(G, N)` or `(G, N, O)`."""

    features: Tensor
    orders: list[Tensor]
    targets: Tensor
    ends: list[int]
    """End of each batch, where the next one starts."""
    steps: list[bool]
    """Whether an optimizer step follows the batch."""


class ProbeLoop:
    """Trains probes of one fusion key; those that are done leave the stack at the end of an epoch."""

    def __init__(
        self,
        probes: Sequence[Probe],
        data: ProbeData,
        report: Report,
    ) -> None:
        self.data, self.report = data, report
        self.device = data.features.device
        self.outcomes = [ProbeOutcome() for _ in probes]
        task = probes[0].task
        self.monitors = [probe.monitor or task.monitor for probe in probes]
        self.history = task.history(self.monitors)
        self.selection = [Watch(monitor) for monitor in self.monitors]
        self.patience = [
            Watch(monitor, probe.early_stopping.min_delta) if probe.early_stopping else None
            for monitor, probe in zip(self.monitors, probes, strict=True)
        ]
        self.active = list(enumerate(probes))
        self.learner = _learner(probes, self.device)
        self.tasks = task.stack([probe.task for probe in probes], data.num_outputs, self.device)
        self.num_steps = 0
        self.graph = EpochGraph()
        self._regroup()
        self._say_of_products()

    def run(self) -> list[ProbeOutcome]:
        """Train to the end."""
        epoch = 0
        with torch.no_grad():
            while self.active:
                began = time.perf_counter()
                self.epoch = self._read(epoch)
                losses, values = self._train(epoch, self.epoch)
                rows = self._measure(epoch, losses, values)
                self._conclude(epoch, rows, losses, time.perf_counter() - began)
                epoch += 1
        return self.outcomes

    def _regroup(self) -> None:
        self.graph.forget()
        probes = [probe for _, probe in self.active]
        self.groups, start = [], 0
        for _, members in groupby(probes, key=lambda probe: probe.batches_key):
            same = list(members)
            rows = slice(start, start + len(same))
            self.groups.append(
                Group(rows, same[0].seed, _sampler(same[0]), torch.from_numpy(same[0].val).to(self.device))
            )
            start = rows.stop
        repeats = torch.tensor([group.rows.stop - group.rows.start for group in self.groups], device=self.device)
        self.group_of = torch.arange(len(self.groups), device=self.device).repeat_interleave(repeats)
        width = self.data.features.shape[1]
        self.memory = [self.data.features.new_empty(max(group.sampler.sizes), width) for group in self.groups]

    def _say_of_products(self) -> None:
        if not isinstance(self.learner, StackedHeads) or self.data.features.is_cuda:
            return
        sizes = {size for group in self.groups for size in group.sampler.sizes}
        for group in self.groups:
            sizes |= {min(_EVALUATION_ROWS, len(group.val)), len(group.val) % _EVALUATION_ROWS} - {0}
        products.say_of(sizes, self.data.features.shape[1], self.learner.layers[0].num_outputs)

    def _read(self, epoch: int) -> Epoch:
        probe = self.active[0][1]
        orders = []
        for group in self.groups:
            group.sampler.set_epoch(epoch)
            batches = [draw.indices for draw in group.sampler]
            orders.append(torch.from_numpy(np.concatenate(batches)).to(self.device))
        ends = np.cumsum([len(batch) for batch in batches]).tolist()
        num_accumulated = probe.accumulate_grad_batches
        steps = [(number + 1) % num_accumulated == 0 for number in range(len(ends) - 1)] + [True]
        targets = torch.stack([self.data.targets[order] for order in orders])
        views = self.data.views or [self.data.features]
        self.learner.start_epoch(epoch, [(group.rows, group.seed) for group in self.groups])
        return Epoch(views[epoch % len(views)], orders, targets, ends, steps)

    def _train(self, number: int, epoch: Epoch) -> tuple[Tensor, Tensor]:
        """Loss of each example `(K, N)`, and what the running metric is the mean of, as the batches went by."""
        rates = self._rates(number, sum(epoch.steps))
        coefficients = self.learner.coefficients(rates, self.num_steps)
        num_batches = self._num_batches(epoch)
        work = partial(self._go_through, epoch, num_batches)
        given = epoch.orders, epoch.targets, coefficients
        if number and self.data.features.is_cuda and num_batches == len(epoch.ends) and self.learner.is_static:
            losses, values = self.graph.run(id(epoch.features), work, given)
        else:
            losses, values = work(given)
        num_steps = sum(epoch.steps[:num_batches])
        self.num_steps += num_steps
        self.last_rates = rates[num_steps - 1]
        end = epoch.ends[num_batches - 1]
        return losses[:, :end], values[:, :end]

    def _num_batches(self, epoch: Epoch) -> int:
        """Batches of the epoch until `max_steps` are done."""
        done = self.num_steps + np.cumsum(epoch.steps)
        most = self.active[0][1].max_steps
        return len(done) if most is None else min(int((done < most).sum()) + 1, len(done))

    def _go_through(
        self, epoch: Epoch, num_batches: int, given: tuple[Sequence[Tensor], Tensor, Sequence[Any]]
    ) -> tuple[Tensor, Tensor]:
        """Train on an epoch's batches in the orders `given`, with their targets and each step's coefficients."""
        orders, all_targets, coefficients = given
        num_accumulated = self.active[0][1].accumulate_grad_batches
        losses = torch.zeros(len(self.active), all_targets.shape[1], device=self.device)
        values = torch.zeros_like(losses)
        start = step = added = 0
        for end, steps in zip(epoch.ends[:num_batches], epoch.steps, strict=False):
            scores = self.learner.forward(self._gather(epoch.features, [order[start:end] for order in orders]))
            targets = all_targets[:, start:end].index_select(0, self.group_of)
            losses[:, start:end], gradient = self.tasks.loss(scores, targets)
            values[:, start:end] = self.tasks.values(scores, targets)
            if num_accumulated > 1:
                gradient.div_(num_accumulated)
            self.learner.backward(gradient, add=added > 0)
            start, added = end, added + 1
            if steps:
                self.learner.step(coefficients[step])
                step, added = step + 1, 0
        return losses, values

    def _gather(self, everything: Tensor, orders: Sequence[Tensor]) -> Batch:
        """The batch's features, in memory that is used again: fresh pages cost more than the copying."""
        batch = []
        for group, order, memory in zip(self.groups, orders, self.memory, strict=True):
            features = memory[: len(order)]
            torch.index_select(everything, 0, order, out=features)
            batch.append((group.rows, features))
        return batch

    def _rates(self, epoch: int, num_steps: int) -> np.ndarray:
        """Learning rates `(S, K)` of the epoch's steps."""
        steps = range(self.num_steps, self.num_steps + num_steps)
        rates = np.empty((len(steps), len(self.active)))
        alike: dict[Hashable, list[int]] = {}
        for member, (_, probe) in enumerate(self.active):
            alike.setdefault((probe.schedule, id(probe.plan), probe.max_epochs), []).append(member)
        for members in alike.values():
            probe = self.active[members[0]][1]
            plan = probe.plan or head_alone(probe.max_epochs)
            curve = foreseen(plan, probe.schedule, epoch, steps_per_epoch(probe), total_steps(probe))
            bases = [self.active[member][1].rule.lr for member in members]
            rates[:, members] = curve.across(steps, HEAD_ROW, bases)
        return rates

    def _measure(self, epoch: int, losses: Tensor, values: Tensor) -> list[Row]:
        """Each probe's row of history; the one place where an epoch waits for the device."""
        val_losses, val_values, measured = self._evaluate()
        means = torch.stack([_means(losses), _means(values), val_losses, val_values], dim=1).tolist()
        names, begin = ("epoch", "step", *self.history), (epoch, self.num_steps)
        return [
            dict(zip(names, (*begin, *row, *more.values()), strict=True))
            for row, more in zip(means, measured, strict=True)
        ]

    def _evaluate(self) -> tuple[Tensor, Tensor, list[dict[str, float]]]:
        """Plain loss (neither smoothed nor weighted) and running metric on val, `(K,)` each, and the other metrics."""
        losses, values, measured = [], [], []
        names = [name.removeprefix("val/") for name in self.history[4:]]
        for group, rows in chain.from_iterable(map(self._portions, self.groups)):
            outputs = self._outputs(group, rows)
            found = self.tasks.evaluate(rows, outputs, self.data.targets[group.val], names)
            losses.append(_means(found[0]))
            values.append(_means(found[1]))
            measured += found[2]
        return torch.cat(losses), torch.cat(values), measured

    def _outputs(self, group: Group, rows: slice) -> Tensor:
        """What some of a group's heads give for its val examples, `(k, O, N)`."""
        num = rows.stop - rows.start
        outputs = self.data.features.new_empty(num, self.data.num_outputs, len(group.val))
        for start in range(0, len(group.val), _EVALUATION_ROWS):
            places = group.val[start : start + _EVALUATION_ROWS]
            # a learner's memory is used again by its next call
            outputs[:, :, start : start + len(places)] = self.learner.predict(
                rows, self.data.features.index_select(0, places)
            )
        return outputs

    def _portions(self, group: Group) -> list[tuple[Group, slice]]:
        """A group's rows, so many at a time that their outputs fit into memory."""
        size = max(1, _MOST_OUTPUTS // (len(group.val) * self.data.num_outputs))
        starts = range(group.rows.start, group.rows.stop, size)
        return [(group, slice(start, min(start + size, group.rows.stop))) for start in starts]

    def _conclude(self, epoch: int, rows: list[Row], losses: Tensor, elapsed: float) -> None:
        """Record the epoch, keep the best heads, and let those that are done leave."""
        staying: list[int] = []
        better: list[int] = []
        for member, ((position, probe), row) in enumerate(zip(self.active, rows, strict=True)):
            outcome = self.outcomes[position]
            row["seconds"] = elapsed / len(rows)
            row["lr/head"] = float(self.last_rates[member])
            outcome.history.append(row)
            outcome.seconds += row["seconds"]
            outcome.num_steps = self.num_steps
            if not (math.isfinite(row["train/loss"]) and math.isfinite(row["val/loss"])):
                outcome.divergence = self._divergence(epoch, losses[member])
            elif self.selection[position].see(row[self.monitors[position]]):
                outcome.best_epoch = epoch
                better.append(member)
            if not self._is_done(position, probe):
                staying.append(member)
            self.report(position, row)
        if better:
            self.learner.remember(better)
        if len(staying) < len(rows):
            self._take_leave(set(range(len(rows))) - set(staying))
            self.active = [self.active[member] for member in staying]
            if staying:
                self.learner.keep(staying)
                self.tasks.keep(staying)
                self._regroup()

    def _take_leave(self, members: Iterable[int]) -> None:
        """Write down the best state of heads that are done."""
        for member in members:
            outcome = self.outcomes[self.active[member][0]]
            if outcome.best_epoch is not None:
                outcome.best_state = self.learner.remembered(member)

    def _is_done(self, position: int, probe: Probe) -> bool:
        """Whether the epoch just recorded was the probe's last."""
        outcome, watch, rule = self.outcomes[position], self.patience[position], probe.early_stopping
        if outcome.divergence or len(outcome.history) == probe.max_epochs or outcome.num_steps == probe.max_steps:
            return True
        if watch is None or rule is None:
            return False
        watch.see(outcome.history[-1][watch.metric])
        return watch.waited >= rule.patience

    def _divergence(self, epoch: int, losses: Tensor) -> Divergence:
        """The step at whose batch the loss was not finite; the last one if only val's was."""
        bad = (~losses.isfinite()).nonzero()
        example = int(bad[0]) if len(bad) else len(losses) - 1
        batch, last = (bisect_right(self.epoch.ends, place) for place in (example, len(losses) - 1))
        return Divergence(epoch, self.num_steps - sum(self.epoch.steps[batch : last + 1]), on_val=not len(bad))


def steps_per_epoch(probe: Probe) -> int:
    """Optimizer steps of an epoch."""
    return math.ceil(len(_sampler(probe)) / probe.accumulate_grad_batches)


def total_steps(probe: Probe) -> int:
    """Optimizer steps that a probe takes if nothing ends it early."""
    steps = probe.max_epochs * steps_per_epoch(probe)
    return steps if probe.max_steps is None else min(steps, probe.max_steps)


def _sampler(probe: Probe) -> Batches:
    return Batches(probe.train, probe.batch_size, probe.seed, probe.lengths, rank=None, world=probe.num_processes)


def _learner(probes: Sequence[Probe], device: torch.device) -> Learner:
    if isinstance(probes[0].rule, Torch) or layers_of(probes[0].head) is None:
        (probe,) = probes
        return ModuleHead(probe.head, probe.rule, probe.gradient_clip_val, device)
    heads, rules = [probe.head for probe in probes], [probe.rule for probe in probes]
    return StackedHeads(heads, rules, [probe.gradient_clip_val for probe in probes], device)


def _means(values: Tensor) -> Tensor:
    """The mean of each row; on a CPU one by one: how many rows there are must not change the order of a sum."""
    if values.is_cuda:
        return values.to(torch.float64).mean(1)
    wide = torch.float32 if values.device.type == "mps" else torch.float64  # MPS has no float64
    return torch.stack([row.to(wide).mean() for row in values])
