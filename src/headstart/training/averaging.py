"""Weights that are averaged: over the steps of training (EMA), or with those that training began from (WiSE-FT)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from headstart import metrics
from headstart.strategies.adapters import FACTORS
from headstart.strategies.plan import HEAD, Plan
from headstart.training.epochs import AsTrained, EpochRows
from headstart.training.norm_statistics import BATCH_NORMS, batch_norms, measure, moved
from headstart.training.rows import is_norm
from headstart.training.thaw import Thaw

Batches = Callable[[], Iterable[Mapping[str, Any]]]
"""Training examples as they are read in scoring, for norm statistics."""
State = dict[str, Tensor]
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def tuned_names(module: Any, plan: Plan) -> list[str]:
    """Parameters that train in some phase, and statistics of norm layers of other kinds than batch norm."""
    trained = {
        id(parameter)
        for row, named in module.rows.items()
        if any(phase.trains(*row) for phase in plan.phases)
        for parameter in named.values()
    }
    names = [name for name, parameter in module.named_parameters() if id(parameter) in trained]
    others = [(name, one) for name, one in module.named_modules() if is_norm(one) and not isinstance(one, BATCH_NORMS)]
    kept = module.state_dict().keys()
    buffers = [f"{name}.{buffer}" for name, one in others for buffer, value in one.named_buffers(recurse=False)
               if value.is_floating_point()]  # fmt: skip
    return names + [name for name in buffers if name in kept]


def tensors(module: nn.Module, names: Iterable[str]) -> State:
    """Parameters and buffers themselves, detached, not copies."""
    state = module.state_dict()
    return {name: state[name] for name in names}


class Ema(pl.Callback, AsTrained):
    """An exponential moving average of the weights: epochs are measured and selected by it, and it is what is kept.

    After optimizer step `t` (from 1) the mean becomes `d · mean + (1 - d) · weights` with `d = min(decay, (1 + t) /
    (10 + t))`, so that it soon forgets the weights that training began with (as TensorFlow's ExponentialMovingAverage
    with `num_updates`). Batch norms that follow the training data are measured in every epoch with the averaged
    weights.

    Args:
        decay: the largest `d`.
        names: of the tensors that are averaged (see `tuned_names`); others never change.
        rows: the history, from which is told which epoch is best by `monitor`.
        batches: for norm statistics.
        value: the monitor's value on val of the model as it is, to say what averaging did.
    """

    def __init__(
        self,
        decay: float,
        names: list[str],
        rows: EpochRows,
        monitor: str,
        batches: Batches,
        value: Callable[[nn.Module], float],
        precision: str = "32-true",
    ) -> None:
        self.decay, self.names, self.rows, self.monitor = decay, names, rows, monitor
        self.batches, self.value, self.precision = batches, value, precision
        self.mean: State | None = None
        self.step = 0
        self.before: float | None = None
        """Of the weights themselves, at the best epoch."""
        self.num_measured = 0
        self._start: State = {}
        self._statistics: tuple[int, State] = (-1, {})
        self._swap = ExitStack()

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("mean", "step", "before", "num_measured")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        # before a checkpoint is loaded: what norms came with is the same in a run that goes on
        names = [f"{name}.running_mean" for name, _ in batch_norms(pl_module)]
        self._start = {name: tensor.clone() for name, tensor in tensors(pl_module, names).items()}

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.mean is None:
            self.restart(pl_module)
        assert self.mean is not None
        self.mean = {name: tensor.to(pl_module.device) for name, tensor in self.mean.items()}

    def restart(self, module: Any) -> None:
        """Let the mean be the weights as they are."""
        self.mean = {name: tensor.clone() for name, tensor in tensors(module, self.names).items()}

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        if trainer.global_step == self.step:  # gradients are still being added up
            return
        self.step = trainer.global_step
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        assert self.mean is not None
        for name, tensor in tensors(pl_module, self.names).items():
            self.mean[name].lerp_(tensor, 1 - decay)  # bit-equal where nothing changes

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._swap.enter_context(self.in_place(pl_module))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._swap.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self._swap.close()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if metrics.best_epoch(self.rows.rows, self.monitor) == len(self.rows.rows) - 1:
            with _in_eval(pl_module):
                self.before = self.value(pl_module)

    @contextmanager
    def in_place(self, module: Any) -> Iterator[None]:
        """In this block `module` holds the averaged weights, with the statistics that belong to them."""
        assert self.mean is not None
        with torch.inference_mode(False), torch.no_grad():  # Lightning validates in inference mode
            norms = moved(module, [self._start, module.state_dict()])
            self.num_measured = len(norms)
            own = tensors(module, _statistic_names(module, norms))
            present = {**tensors(module, self.names), **own}
            kept = {name: tensor.clone() for name, tensor in present.items()}
            _copy(self.mean, present)
            if self._statistics[0] != self.step:
                with _in_eval(module):
                    measure(module, norms, self.batches(), module.device, self.precision)
                self._statistics = self.step, {name: tensor.clone() for name, tensor in own.items()}
            _copy(self._statistics[1], own)
        try:
            yield
        finally:
            with torch.inference_mode(False), torch.no_grad():
                _copy(kept, present)


class Start(pl.Callback):
    """Keeps the weights that tuning began from: the backbone's as they came, and the head's if it had been trained by
    then. A head that begins together with the backbone began from nothing that one could go back towards.
    """

    def __init__(self, module: Any, thaw: Thaw) -> None:
        names = [name for name in tuned_names(module, thaw.plan) if not _is_of_head(name)]
        names += _statistic_names(module, (norm for _, norm in batch_norms(module)))
        self.thaw, self.begun = thaw, False
        self.backbone = {name: tensor.clone() for name, tensor in tensors(module, names).items()}
        self.head: State = {}

    def state_dict(self) -> dict[str, Any]:
        return {"begun": self.begun, "head": self.head}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.begun, self.head = state_dict["begun"], state_dict["head"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.begun or not self.thaw.plan.trained(self.thaw.phase):
            return
        self.begun = True
        if self.thaw.phase:
            names = [name for name, _ in pl_module.named_parameters() if _is_of_head(name)]
            self.head = {name: tensor.cpu().clone() for name, tensor in tensors(pl_module, names).items()}

    @property
    def weights(self) -> State:
        return {**self.backbone, **self.head}


@torch.no_grad()
def interpolate(model: nn.Module, start: State, tuned: State, share: float, batches: Batches, precision: str) -> int:
    """Set the weights of `model`, in eval mode, to `(1 - share) · start + share · tuned` (Wortsman et al. 2022,
    arXiv:2109.01903, equation 1), in double precision; returns how many batch norms were measured with them.

    `tuned` is all of the model's state, `start` what of it is mixed. Of an adapter's product, such as LoRA's `B A`,
    only the factor that began at 0 is scaled: then the weights that it is added to are mixed as the others are. Batch
    norms whose statistics training moved are measured, but at either end: there they are known.
    """
    present = model.state_dict()
    _copy(tuned, present)
    if share == 1:
        return 0
    statistics = set(_statistic_names(model, (norm for _, norm in batch_norms(model))))
    for name in start.keys() - statistics:
        if FACTORS.search(name) is None:
            found = tuned[name].double()
            present[name].copy_(start[name].to(found.device).double() * (1 - share) + found * share)
    if share == 0:
        _copy({name: start[name] for name in statistics}, present)
        return 0
    norms = moved(model, [tuned, start])
    measure(model, norms, batches(), next(model.parameters()).device, precision)
    return len(norms)


def _is_of_head(name: str) -> bool:
    return name.startswith(f"{HEAD}.")


def _statistic_names(model: nn.Module, norms: Iterable[nn.Module]) -> list[str]:
    chosen, kept = set(map(id, norms)), model.state_dict().keys()
    names = [f"{name}.{one}" for name, norm in batch_norms(model) if id(norm) in chosen for one in STATISTICS]
    return [name for name in names if name in kept]


def _copy(values: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    for name, tensor in values.items():
        into[name].copy_(tensor)


@contextmanager
def _in_eval(module: nn.Module) -> Iterator[None]:
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
