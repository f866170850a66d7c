"""Numbers: trained on standardised targets, said in the units of the data."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F

from headstart.config.ranges import Positive
from headstart.errors import InputError
from headstart.names import plural
from headstart.tasks.task import Cell, Objective, Stack, Targets, Task, on

Bins = Annotated[int, Ge(2)]
FAR = 4.0
"""Standard deviations, as the median distance tells them, from which a number is doubted."""
FEWEST = 7
"""Examples of a quantile, of which val and test get one each at the usual shares."""


class Regression(Task):
    """One or several real numbers to an example.

    Targets are standardised by the mean and spread of the training part; the head learns those, and every number that a
    person sees is in the units of the data.

    Args:
        objective: `mse`, `huber` or `l1`.
        delta: Where Huber's loss turns from squares to lines, in standard deviations.
        bins: Quantiles that splits are stratified by.
        monitor: As for `Task`.
    """

    name, output, outputs = "regression", "target", "targets"
    strata_are = "ranges of the first target"
    without_stratum = "Scores there say nothing of numbers in these ranges."
    score, rated, running = "rmse", "r2", "mae"
    of_epoch = ("rmse", "r2")
    metrics = ("rmse", "loss", "mae", "r2", "pearson", "spearman")
    mean: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    """Of the training part, `(T,)` each."""

    def __init__(
        self,
        objective: Literal["mse", "huber", "l1"] = "mse",
        delta: Positive = 1.0,
        bins: Bins = 5,
        monitor: str = "val/rmse",
    ) -> None:
        super().__init__(monitor)
        self.objective_name, self.delta, self.bins = objective, delta, bins

    def encode(self, cells: Sequence[Cell], where: str, known: tuple[str, ...] | None = None) -> Targets:
        rows = [dict(cell) if isinstance(cell, tuple) and _is_pairs(cell) else {"value": cell} for cell in cells]
        names = tuple(str(name) for name in (rows[0] if rows else {"value": None}))
        if known is not None and known != names:
            raise InputError(f"{where} has the targets {', '.join(names)}, but the training data {', '.join(known)}.")
        values = np.full((len(rows), len(names)), np.nan, dtype=np.float32)
        bad: list[str] = []
        for place, row in enumerate(rows):
            for column, name in enumerate(names):
                number = _number(row[name])
                values[place, column] = np.nan if number is None else number
                if not np.isfinite(values[place, column]):
                    bad.append(f"{place + 1}: {row[name]!r}")
        if bad:
            raise InputError(
                f"Under task=regression labels must be finite numbers, but {where} has {plural(len(bad), 'other')} "
                f"({', '.join(bad[:5])}, by the number of the example). For names of classes use task=multiclass, for "
                "several labels task=multilabel."
            )
        flat = [name for column, name in enumerate(names) if len(rows) and np.ptp(values[:, column]) == 0]
        if flat and known is None:
            within = f" in {', '.join(flat)}" if len(names) > 1 else f" ({values[0, 0]:g})"
            raise InputError(
                f"{where} has one and the same number for all examples{within}: nothing can be learned of it. Name "
                "other labels, or leave it out."
            )
        return Targets(values, names)

    def strata(self, targets: Targets) -> tuple[np.ndarray, tuple[str, ...]]:
        """Quantile of each example, by the first target; fewer quantiles where values are few."""
        edges = self._edges(targets)
        found = np.searchsorted(edges, targets.values[:, 0], side="right")
        kept, strata = np.unique(found, return_inverse=True)
        bounds = [float(targets.values[:, 0].min()), *edges.tolist(), float(targets.values[:, 0].max())]
        return strata.astype(np.int64), tuple(f"{bounds[place]:.4g} to {bounds[place + 1]:.4g}" for place in kept)

    def strata_in(self, values: np.ndarray, everything: Targets) -> np.ndarray:
        kept = np.unique(np.searchsorted(self._edges(everything), everything.values[:, 0], side="right"))
        return np.searchsorted(kept, np.searchsorted(self._edges(everything), values[:, 0], side="right"))

    def _edges(self, targets: Targets) -> np.ndarray:
        """Between the quantiles, so few of them that each can be in every part."""
        bins = max(1, min(self.bins, len(targets.values) // FEWEST))
        return np.unique(np.quantile(targets.values[:, 0], np.linspace(0, 1, bins + 1)[1:-1]))

    def fitted(self, train: np.ndarray, num_outputs: int) -> "Regression":
        found, wide = copy(self), train.astype(np.float64)
        spread = wide.std(0)
        found.mean = tuple(wide.mean(0).tolist())
        found.spread = tuple(np.where(spread > 0, spread, 1.0).tolist())
        return found

    def restored(self, details: Mapping[str, Any]) -> "Regression":
        found, known = copy(self), details["standardised"]
        found.mean, found.spread = tuple(map(float, known["mean"])), tuple(map(float, known["std"]))
        return found

    def check_exact(self) -> None:
        if self.objective_name == "l1":
            raise InputError("head.solver=lbfgs needs a smooth loss: use task.objective=mse or huber, not l1.")

    def exact(self) -> "Regression":
        found = copy(self)
        found.objective_name = "mse" if self.objective_name == "l1" else self.objective_name
        return found

    def outputs_of(self, said: Tensor) -> Tensor:
        return self._standardised(said, said.double())

    def in_terms_of(self, other: Task, outputs: Tensor) -> Tensor:
        return other.outputs_of(self.in_units(outputs))

    def doubted(self, near: Tensor, labels: Tensor) -> Tensor:
        """It is further from their mean than `FAR` times the usual distance, and outside of all of them."""
        near, labels = near.double(), labels.double()
        away = (labels - near.mean(1)).abs()
        usual = (away.median(0).values / 0.6745).clamp_min(1e-12)
        outside = (labels > near.max(1).values) | (labels < near.min(1).values)
        return ((away > FAR * usual) & outside).any(1)

    def _standardised(self, targets: Tensor, outputs: Tensor) -> Tensor:
        targets = targets.to(outputs.dtype)
        return (targets - on(self.mean, outputs)) / on(self.spread, outputs)

    def in_units(self, outputs: Tensor) -> Tensor:
        """What a head gives `(N, T)`, in the units of the data."""
        return outputs * on(self.spread, outputs) + on(self.mean, outputs)

    def shares(self, labels: Tensor, num_outputs: int) -> Tensor:
        return labels

    def votes(self, targets: Tensor, num_outputs: int) -> Tensor:
        """Standardised, as a head gives them."""
        return self._standardised(targets, targets.double()).float()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self._losses(outputs, self._standardised(targets, outputs)).mean()

    def plain_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self._losses(outputs, self._standardised(targets, outputs)).mean(1)

    def _losses(self, outputs: Tensor, standardised: Tensor) -> Tensor:
        if self.objective_name == "mse":
            return F.mse_loss(outputs, standardised, reduction="none")
        if self.objective_name == "l1":
            return F.l1_loss(outputs, standardised, reduction="none")
        return F.huber_loss(outputs, standardised, reduction="none", delta=self.delta)

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The absolute error, the mean over targets."""
        return (self.in_units(outputs) - targets).abs().mean(1)

    @staticmethod
    def stack(tasks: Sequence["Regression"], num_outputs: int, device: torch.device) -> "StackedRegression":
        return StackedRegression(tasks, device)

    def objective(self, inputs: Tensor, targets: Tensor, num_outputs: int, l2: float) -> Objective:
        """Of standardised targets: for `mse` as scikit-learn's `Ridge(alpha=l2)`, for `huber` half its square part."""
        delta = float("inf") if self.objective_name == "mse" else self.delta
        wanted = self._standardised(targets.to(inputs.device), inputs)
        num_examples = len(wanted)

        def evaluate(flat: np.ndarray) -> tuple[float, np.ndarray]:
            solution = torch.from_numpy(flat).to(inputs.device).view(num_outputs, -1)
            weight, bias = solution[:, :-1], solution[:, -1]
            error = inputs @ weight.T + bias - wanted
            size = error.abs()
            losses = torch.where(size <= delta, error.square() / 2, self.delta * (size - self.delta / 2))
            loss = losses.sum() + l2 / 2 * weight.square().sum()
            residual = error.clamp(-delta, delta)
            gradient = torch.cat([residual.T @ inputs + l2 * weight, residual.sum(0)[:, None]], 1)
            return loss.item() / num_examples, gradient.div_(num_examples).cpu().numpy().ravel()

        return evaluate

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """RMSE and MAE in the data's units, R², Pearson's and Spearman's correlation; means over several targets."""
        found = self.measured(outputs, targets, self.metrics)
        return {name: value for name, value in found.items() if np.isfinite(value)}

    def measured(self, outputs: Tensor, targets: Tensor, names: Sequence[str]) -> dict[str, float]:
        said, truth = self.in_units(outputs.double()).numpy(), targets.double().numpy()
        error, total = said - truth, ((truth - truth.mean(0)) ** 2).sum(0)
        r2 = 1 - np.divide((error**2).sum(0), total, out=np.full(len(total), np.nan), where=total > 0)
        found: dict[str, Callable[[], Any]] = {
            "loss": lambda: self.plain_losses(outputs.double(), targets.double()).mean(),
            "rmse": lambda: np.sqrt((error**2).mean(0)).mean(),
            "mae": lambda: np.abs(error).mean(),
            "r2": lambda: r2.mean(),
            "pearson": lambda: _correlation("pearsonr", said, truth),
            "spearman": lambda: _correlation("spearmanr", said, truth),
        }
        return {name: float(found[name]()) for name in names}

    def baseline(self, train: np.ndarray, targets: Tensor) -> dict[str, float]:
        """The training part's mean, said of everything: zeros, standardised."""
        found = self.scores(torch.zeros(targets.shape, dtype=torch.float64), targets)
        return {f"baseline_{name}": found[name] for name in ("rmse", "mae")}

    def predictions(self, outputs: Tensor, targets: np.ndarray) -> dict[str, np.ndarray]:
        said = self.in_units(outputs.double()).numpy()
        return {"label": targets.astype(np.float32), "predicted": said.astype(np.float32)}

    def said(self, outputs: Tensor) -> np.ndarray:
        return self.in_units(outputs.double()).numpy()

    def chosen(self, said: np.ndarray) -> list[int]:
        return list(range(len(said)))

    def details(self, outputs: Tensor, targets: Tensor, names: tuple[str, ...]) -> dict[str, Any]:
        rows = {}
        for place, name in enumerate(names):
            alone = copy(self)
            alone.mean, alone.spread = self.mean[place : place + 1], self.spread[place : place + 1]
            found = alone.scores(outputs[:, [place]], targets[:, [place]])
            rows[name] = {"examples": len(targets), **{measure: found.get(measure) for measure in _BY_TARGET}}
        standardised = {"mean": list(self.mean), "std": list(self.spread)}
        return {"targets": list(names), "by_output": rows, "standardised": standardised}

    def hardness(self, outputs: Tensor, targets: Tensor) -> np.ndarray:
        """The absolute error in standard deviations, the mean over targets."""
        return (outputs.double() - self._standardised(targets, outputs.double())).abs().mean(1).numpy()

    def described(self, outputs: Tensor, targets: Tensor, place: int, names: tuple[str, ...]) -> Mapping[str, Any]:
        said, truth = self.in_units(outputs[[place]].double())[0], targets[place].double()
        return {"label": _numbers(truth), "predicted": _numbers(said), "error": float((said - truth).abs().max())}


class StackedRegression(Stack):
    """As torch's mse, huber and l1 losses on standardised targets, for each head by its own task."""

    def __init__(self, tasks: Sequence[Regression], device: torch.device) -> None:
        super().__init__(tasks)
        self.device = device
        self._stack()

    def _stack(self) -> None:
        self.mean, self.spread = (
            torch.tensor(rows, device=self.device, dtype=torch.float32).unsqueeze(-1)
            for rows in ([task.mean for task in self.tasks], [task.spread for task in self.tasks])
        )
        self.alike: dict[tuple[str, float], list[int]] = {}
        for row, task in enumerate(self.tasks):
            self.alike.setdefault((task.objective_name, task.delta), []).append(row)

    def loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        error = outputs - (targets.transpose(1, 2) - self.mean) / self.spread
        losses, gradient = torch.empty_like(error), torch.empty_like(error)
        for (objective, delta), rows in self.alike.items():
            losses[rows], gradient[rows] = _of_error(objective, delta, error[rows])
        return losses.mean(1), gradient.div_(outputs[0].numel())

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs * self.spread + self.mean - targets.transpose(1, 2)).abs_().mean(1)

    def keep(self, members: Sequence[int]) -> None:
        super().keep(members)
        self._stack()


_BY_TARGET = ("rmse", "mae", "r2", "pearson", "spearman")


def _is_pairs(cell: Sequence[Any]) -> bool:
    return bool(cell) and isinstance(cell[0], tuple)


def _number(value: Cell) -> float | None:
    """A number as tables write it: with a point, or with a comma where there is no point."""
    if not isinstance(value, (str, int, float)):
        return None
    try:
        return float(value.strip().replace(",", ".") if isinstance(value, str) and "." not in value else value)
    except ValueError:
        return None


def _of_error(objective: str, delta: float, error: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and gradient of each error."""
    if objective == "mse":
        return error * error, 2 * error
    size = error.abs()
    if objective == "l1":
        return size, error.sign()
    losses = torch.where(size <= delta, 0.5 * error * error, delta * (size - 0.5 * delta))
    return losses, torch.clamp(error, -delta, delta)


def _correlation(kind: str, said: np.ndarray, truth: np.ndarray) -> np.floating:
    """Of scipy, the mean over targets; 0 for one that does not vary."""
    from scipy import stats

    of = getattr(stats, kind)
    varies = (np.ptp(said, axis=0) > 0) & (np.ptp(truth, axis=0) > 0)
    return np.mean([of(said[:, t], truth[:, t])[0] if varies[t] else 0.0 for t in range(truth.shape[1])])


def _numbers(values: Tensor) -> str:
    return ", ".join(f"{value:.4g}" for value in values.tolist())
