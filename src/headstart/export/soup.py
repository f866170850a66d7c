"""One model from several runs of a comparison: the mean of their weights (Wortsman et al. 2022, arXiv:2203.05482).

What is averaged began from the same pretrained weights and was held against the same validation examples; which go in
is decided on these, and the test sets are scored once, at the end.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headstart import metrics, notes
from headstart.config import guard, recorded
from headstart.errors import InputError, unknown
from headstart.names import listed, plural
from headstart.record.result import Result
from headstart.report.reading import Run, read_sweeps
from headstart.report.selected import selected
from headstart.run.averages import on_val, training_batches
from headstart.run.job import Job
from headstart.run.load import FinishedRun, load
from headstart.run.parts import data_module
from headstart.run.prepare import prepare
from headstart.run.scores import score
from headstart.strategies.adapters import is_adapted
from headstart.training.norm_statistics import measure, moved

HOW = ("uniform", "greedy")
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Soup:
    """A run with the weights, and the scores, of the mean of several."""

    run: FinishedRun
    members: tuple[Run, ...]
    words: tuple[str, ...]


def soup(directory: Path, how: str) -> Soup:
    """The mean of the weights of a comparison's runs: of all (`uniform`), or of those that help on val (`greedy`).

    Greedy takes runs in the order of their val, the best first, and keeps each with which the mean is no worse on val.

    Raises:
        InputError: if fewer than two runs can be averaged, or the data that they were trained on are not at hand.
    """
    if how not in HOW:
        raise unknown("soup", how, HOW)
    best = load(selected(directory).runs[0])
    if not any(True for _ in best.head.parameters()):
        raise InputError(f"The heads of the runs in {directory} have no weights that could be averaged (head=knn).")
    runs = _ingredients(directory, best)
    job = job_of(best)
    monitor = best.result.selection.metric if best.result.selection else job.cfg.trainer.monitor
    states = [state_of(load(run.directory)) for run in runs]
    averaging = Averaging(job, best, monitor)
    chosen = list(range(len(runs))) if how == "uniform" else averaging.greedy(states)
    model = averaging.mean([states[place] for place in chosen])
    value = averaging.val(model)
    members = tuple(runs[place] for place in chosen)
    alone = metrics.text(monitor, float(runs[0].metrics[monitor]))
    words = (
        f"A soup ({how}): the mean of the weights of {len(members)} of {plural(len(runs), 'run')} that began from the "
        f"same weights and have the same val ({listed([run.run_id for run in members], 12)}). "
        f"Its {monitor} is {metrics.text(monitor, value)}, that of the best run alone {alone}. Test sets were scored "
        "once, for the soup.",
    )
    done = _scored(job, best, model, {monitor: value}, runs)
    return Soup(replace(best, model=model, result=done), members, words)


def _ingredients(directory: Path, best: FinishedRun) -> list[Run]:
    """Runs that can be averaged with the best one, the best on val first."""
    completed = [run for run in read_sweeps([directory]).runs if run.completed]
    first = next(run for run in completed if run.directory == best.directory.path)
    if first.weights.partition(" ")[0] in ("none", ""):
        raise InputError(
            f"The runs in {directory} began from random weights, each from others: their mean is no model. A soup "
            "needs runs that began from the same pretrained weights."
        )
    monitor, shapes = first.monitor, _shapes(best)
    fitting = []
    for run in completed:
        same = (run.weights_content, run.fingerprint, run.split, run.monitor) == (
            first.weights_content, first.fingerprint, first.split, first.monitor,
        )  # fmt: skip
        if not same or monitor not in run.metrics:
            continue
        other = load(run.directory)
        if _shapes(other) == shapes and (other.result.details or {}).get("standardised") == (
            best.result.details or {}
        ).get("standardised"):
            fitting.append(run)
    if len(fitting) < 2:
        raise InputError(
            f"{directory} has {plural(len(fitting), 'run')} that can be averaged, of {len(completed)} completed: a "
            "soup needs two or more from the same pretrained weights, on the same split (set split.seed where seeds "
            "differ), with the same head."
        )
    return sorted(fitting, key=lambda run: -metrics.sign(monitor) * run.metrics[monitor])


def job_of(best: FinishedRun) -> Job:
    cfg = recorded.load(best.directory.config)
    guard.forget_places(cfg)
    cfg.fused_with = 0
    with notes.quiet():
        job = prepare(cfg)
    if job.run_id != best.result.run_id:
        raise InputError(
            f"The data or weights of {best.directory.path} are not what they were: a soup is chosen on the validation "
            "examples that the runs had."
        )
    return job


def state_of(run: FinishedRun) -> State:
    """All tensors of a run's model, its adapter folded in."""
    model, adapter = deepcopy(run.model), run.parts.strategy.adapter
    if adapter is not None and is_adapted(model.backbone):
        adapter.fold(model.backbone)
    return model.state_dict()


def _shapes(run: FinishedRun) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state_of(run).items()}


class Averaging:
    """Averages weights, and tells how good what comes out is on val."""

    def __init__(self, job: Job, best: FinishedRun, monitor: str) -> None:
        self.job, self.monitor = job, monitor
        self.plain = deepcopy(best.model)
        adapter = best.parts.strategy.adapter
        if adapter is not None and is_adapted(self.plain.backbone):
            adapter.fold(self.plain.backbone)

    def greedy(self, states: Sequence[State]) -> list[int]:
        """Places of the states that are kept; the first always is."""
        kept, reached = [0], self._signed([states[0]])
        for place in range(1, len(states)):
            found = self._signed([states[one] for one in (*kept, place)])
            if found >= reached:
                kept, reached = [*kept, place], found
        return kept

    def _signed(self, states: Sequence[State]) -> float:
        return metrics.sign(self.monitor) * self.val(self.mean(states))

    def mean(self, states: Sequence[State]) -> Any:
        """A model with the mean of all weights; what batch norm follows is measured anew where it differs."""
        model = deepcopy(self.plain)
        mean = {
            name: torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
            if tensor.is_floating_point()
            else tensor
            for name, tensor in states[0].items()
        }
        model.load_state_dict(mean)
        norms = moved(model, states)
        measure(model.eval(), norms, training_batches(self.job), torch.device("cpu"), self.job.cfg.trainer.precision)
        return model

    def val(self, model: Any) -> float:
        """The measure that epochs are selected by, on val."""
        return on_val(self.job)(model)[self.monitor]


def _scored(job: Job, best: FinishedRun, model: Any, val: Mapping[str, float], tried: Sequence[Run]) -> Result:
    """The best run's record with the soup's scores, and what all runs that it was made from cost."""
    found: dict[str, Any] = dict(val)
    trained = job.targets.values[job.split.train]
    for name, part in score(job, data_module(job), model, torch.device("cpu")).items():
        targets = torch.from_numpy(part.targets)
        scores = job.task.scores(part.outputs, targets) | job.task.baseline(trained, targets)
        found |= {f"{name}/{metric}": value for metric, value in scores.items()}
    cost = {
        **best.result.cost,
        **{
            name: sum(run.cost.get(name, 0.0) for run in tried)
            for name in ("total_seconds", "train_seconds", "feature_seconds", "train_flops", "feature_flops")
        },
    }
    return replace(best.result, metrics=found, cost=cost, calibration=None, average=None)
