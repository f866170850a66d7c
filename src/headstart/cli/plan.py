"""What `headstart plan` shows: what would train when, at which rate, and what that takes. It trains nothing."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from textwrap import wrap
from typing import Any

import torch
from torch import nn

from headstart.errors import InputError
from headstart.names import plain_lines, plural
from headstart.run.job import Draft
from headstart.run.job_checks import remarks_on
from headstart.run.pools import check_columns, pool_of, record_of
from headstart.run.sketch import outline
from headstart.splits.splitter import Split
from headstart.strategies import drawing
from headstart.strategies.plan import HEAD
from headstart.tasks.task import Targets
from headstart.training.heads import built_head
from headstart.training.neighbours import NearestNeighbours
from headstart.training.starts import STORED_SHARE, Stored, starts
from headstart.training.work import OnShapes, TooSlowError, expected_work

log = logging.getLogger(__name__)

USUAL_SIZES = (600, 150, 250)
"""Examples for training, validation and test where they are not known before the data is read."""
UNKNOWN_CLASSES = 10
"""Width of the head where the classes are not known before the data is read."""


@dataclass(frozen=True)
class Division:
    """What is known of the examples before they are read."""

    num_outputs: int
    split: Split
    by: str
    """`seed 0`, `fold 2`."""
    groups: Mapping[str, Any] | None
    """The column of groups and how many lie in each part."""
    remarks: Sequence[str]


def show(draft: Draft, as_json: bool) -> None:
    """Print the plan: a picture and a table of its phases, or all of it as JSON."""
    if as_json:
        print(json.dumps(forecast(draft), indent=1))
    else:
        print(plain_lines(page(draft, shutil.get_terminal_size().columns)))


def forecast(draft: Draft) -> dict[str, Any]:
    """Plain JSON: the plan, rates by group and epoch, and by phase what trains and the work it takes.

    `flops_per_example` are of one example forward and backward, from `starts_after` on: the group whose activations are
    stored, where there is one. Both are `None` where the inputs' shape is not known beforehand.
    """
    sketch, plan, parts = draft.sketch, draft.plan, draft.parts
    base_rate = parts.rate
    division = _division(draft)
    num_classes = None if division is None else division.num_outputs
    num_examples = None if division is None or not draft.factory.reads_one_size else len(division.split.train)
    with torch.device("meta"):
        head = built_head(parts.head, sketch.num_features, num_classes or UNKNOWN_CLASSES, sketch.num_weighed)
        if isinstance(head, NearestNeighbours):
            num_keys = USUAL_SIZES[0] if division is None else len(division.split.train)
            head.hold(torch.empty(num_keys, head.keys.shape[1]), torch.empty(num_keys, head.votes.shape[1]))
    head_size = sum(parameter.numel() for parameter in head.parameters())
    begun, work = _work(draft, head, None if division is None else division.split)
    epochs = pairwise([*plan.earliest, plan.max_epochs])
    phases: list[dict[str, Any]] = []
    for index, (phase, (start, end)) in enumerate(zip(plan.phases, epochs, strict=True)):
        trained = sum(count for row, count in sketch.parameters.items() if phase.trains(*row))
        flops = None if work is None else work[index]
        phases.append(
            {
                "name": phase.name,
                "start": start,
                "end": end,
                "waits_for_plateau": phase.until is not None,
                "trainable_parameters": trained + head_size,
                "starts_after": begun.get(index),
                "flops_per_example": flops,
                "flops_per_epoch": None if flops is None or num_examples is None else flops * num_examples,
            }
        )
    epochs_of_work = [p["flops_per_epoch"] and p["flops_per_epoch"] * (p["end"] - p["start"]) for p in phases]
    sizes = {group: sum(n for (name, _), n in sketch.parameters.items() if name == group) for group in sketch.groups}
    return {
        "schema": 1,
        "plan": plan.to_dict(),
        "base_rate": base_rate,
        "rates": {g: [base_rate * r for r in row] for g, row in drawing.rates(plan, parts.scheduler).items()},
        "parameters": {**sizes, HEAD: head_size},
        "total_parameters": sketch.total_parameters + head_size,
        "num_classes": num_classes,
        "num_train_examples": None if division is None else len(division.split.train),
        "sizes": None if division is None else division.split.sizes,
        "divided_by": None if division is None else division.by,
        "groups": None if division is None else division.groups,
        "remarks": [] if division is None else list(division.remarks),
        "average": parts.strategy.averaging,
        "measured_rates": parts.strategy.measured_rates,
        "steps": parts.strategy.steps,
        "phases": phases,
        "flops": None if None in epochs_of_work else sum(epochs_of_work),
    }


def page(draft: Draft, width: int) -> str:
    """The plan for a terminal of `width` columns."""
    plan, parts, found = draft.plan, draft.parts, forecast(draft)
    picture = drawing.text(plan, parts.scheduler, width, found["base_rate"])
    total = found["total_parameters"]
    groups, epochs = plural(len(plan.groups), "depth group"), plural(plan.max_epochs, "epoch")
    title = f"{parts.backbone.name}: {_short(total)} parameters in {groups}, {epochs}"
    classes = found["num_classes"]
    notes = [
        f"Trained: with a head for {plural(classes or UNKNOWN_CLASSES, parts.task.output, parts.task.outputs)}"
        + ("." if classes else "; the data's own are not known before it is read."),
        "Work: floating-point operations, forward and backward.",
    ]
    if found["sizes"]:
        notes[:0] = [f"Examples: {_by_part(found['sizes'])} ({found['divided_by']}).", *found["remarks"]]
    if kept := found["groups"]:
        column, counts = kept["column"], {name: n for name, n in kept.items() if name != "column"}
        notes.insert(1, f"Groups of column {column!r}: {_by_part(counts)}.")
    for index, phase in enumerate(found["phases"]):
        if phase["starts_after"]:
            notes.append(
                f"Phase {index} starts from what {phase['starts_after']} gives, stored once, if the model can be cut "
                "there exactly; that pass comes on top."
            )
    if draft.sketch.num_weighed > 1:
        notes.append(
            f"Layers: weights of {draft.sketch.num_weighed} outputs, the stem's and each layer's, train with the head."
        )
    if remark := parts.unfreeze.remark(plan):
        notes.append(remark)
    if plan.frozen_norm != "eval" or plan.thawed_norm != "train":
        notes.append(f"Norm layers: {plan.frozen_norm} where frozen, {plan.thawed_norm} where they train.")
    penalty = parts.strategy.regularizer
    if penalty is not None and penalty.remark:
        notes.append(f"Penalty: {penalty.remark}.")
    if (chance := parts.strategy.stochastic_norm) is not None:
        notes.append(
            f"Batch norms that train take the batch's statistics with probability {chance:g}, or the moving ones."
        )
    if found["measured_rates"]:
        notes.append(f"Rates: {found['measured_rates']}.")
    if found["steps"]:
        notes.append(f"Steps: {found['steps']}.")
    if found["average"]:
        notes.append(f"Kept: {found['average']}.")
    wrapped = [line for note in notes for line in wrap(note, width)]
    return "\n".join([title, "", picture, "", *_table(found), "", *wrapped])


def _by_part(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {part}" for part, count in counts.items())


def _table(found: Mapping[str, Any]) -> list[str]:
    rows = [("phase", "", "epochs", "trained", "", "work/example", "work/epoch")]
    for index, phase in enumerate(found["phases"]):
        last = phase["end"] - 1
        epochs = f"{phase['start']}" if last == phase["start"] else f"{phase['start']}–{last}"
        rows.append(
            (
                str(index),
                phase["name"],
                f"{epochs}{'+' if phase['waits_for_plateau'] else ''}",
                _short(phase["trainable_parameters"]),
                f"{phase['trainable_parameters'] / found['total_parameters']:.2%}",
                _short(phase["flops_per_example"]),
                _short(phase["flops_per_epoch"]),
            )
        )
    if found["flops"] is not None and len(found["phases"]) > 1:
        rows.append(("", "all", f"{found['plan']['max_epochs']}", "", "", "", _short(found["flops"])))
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    return [
        "  ".join(
            f"{cell:<{w}}" if i == 1 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _work(draft: Draft, head: nn.Module, division: Split | None) -> tuple[dict[int, str], list[float] | None]:
    """By phase, the group whose stored activations it starts from, and operations per example."""
    strategy = draft.parts.strategy
    reading = {**draft.factory.reading().arguments, **draft.parts.data.overrides}
    inputs = draft.factory.shapes(max(2, draft.cfg.trainer.batch_size), **reading)
    if inputs is None:
        return {}, None
    backbone = outline(draft.factory)
    if strategy.adapter is not None:
        with torch.device("meta"):
            strategy.adapter.inject(backbone)
    groups = backbone.groups(strategy.granularity)
    sizes = USUAL_SIZES if division is None else tuple(map(len, (division.train, division.val, division.test)))
    augmentation, reused = draft.parts.augmentation, draft.cfg.trainer.reuse_views
    views = augmentation.views if augmentation.changes_examples else 1
    num_examples = len(draft.parts.data.ids) if division is not None else sum(sizes)
    stored = Stored(inputs, views * num_examples, views * num_examples / sum(sizes[:2]))
    room = STORED_SHARE * draft.cfg.features.budget_gb * 1e9
    try:
        begun: dict[int, str] = {}
        if draft.stores_activations:
            are_fixed = reused or not augmentation.changes_examples
            with OnShapes():
                begun = starts(backbone, draft.plan, stored if are_fixed else None, room)
        has_copy = strategy.regularizer is not None and strategy.regularizer.compares_maps
        work = expected_work(backbone, head, groups, draft.plan, inputs, begun, has_copy)
        return begun, [strategy.num_passes * one for one in work]
    except TooSlowError as error:
        log.warning("What a step takes is not told: %s. Training with it will be slow here.", error)
        return {}, None
    except (RuntimeError, NotImplementedError):  # a model that looks at values cannot run on shapes alone
        return {}, None


def _division(draft: Draft) -> Division | None:
    """How the examples are divided, where a listing or a table tells it; no file of an example is read for it."""
    data, splitter, task = draft.parts.data, draft.parts.split, draft.parts.task
    if not data.is_here:
        return None
    try:
        check_columns(data)
        is_cheap = data.modality == "text"  # else every file would be read to find copies
        split = splitter.split(pool_of(data, splitter, task, is_cheap), int(draft.cfg.seed), data.columns)
        groups = record_of(data, splitter, split).get("groups")
        said = remarks_on(task, Targets(data.labels, data.classes), split.indices, {})
        return Division(len(data.classes), split, splitter.described(int(draft.cfg.seed)), groups, said)
    except (InputError, OSError):
        return None


def _short(number: float | None) -> str:
    """`1.23 M`, three digits; `–` for nothing known."""
    if number is None:
        return "–"
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:#.3g} {unit}".replace(". ", " ")
    return f"{number:.0f}"
