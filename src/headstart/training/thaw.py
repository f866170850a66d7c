"""The one place that applies a thaw plan to a live model: requires_grad, eval mode and learning rates."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytorch_lightning as pl
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from headstart.backbones.backbone import DepthGroup
from headstart.strategies.plan import HEAD, Plan, Plateau
from headstart.strategies.schedule import Schedule


class Thaw(pl.Callback):
    """Carries a plan out: freezes and thaws rows at phase boundaries and sets every row's rate before each step.

    All rows are in the optimizer from the start; a frozen one has neither gradient nor rate. Frozen parts are in eval
    mode whatever calls `train()` (see `TransferModule.train`).
    """

    def __init__(self, plan: Plan, schedule: Schedule, groups: Sequence[DepthGroup]) -> None:
        self.plan, self.schedule = plan, schedule
        self.groups = list(groups)
        self.phase = -1
        self.begun: list[int] = []  # optimizer step at which each phase so far began
        self.best, self.waited = float("inf"), 0

    def state_dict(self) -> dict[str, Any]:
        return {"phase": self.phase, "begun": self.begun, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.phase, self.begun = state_dict["phase"], list(state_dict["begun"])
        self.best, self.waited = state_dict["best"], state_dict["waited"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        phase = self._phase_for(trainer.current_epoch)
        if phase != self.phase:
            self.phase = phase
            self.begun += [trainer.global_step] * (phase + 1 - len(self.begun))
        self.apply(pl_module)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int):
        self.set_rates(trainer)

    def apply(self, module: Any) -> None:
        """Bring requires_grad, gradients and modes in line with the current phase."""
        phase = self.plan.phases[self.phase]
        for (group, kind), parameters in module.rows.items():
            trains = phase.trains(group, kind)
            for parameter in parameters.values():
                parameter.requires_grad_(trains)
                if not trains:
                    parameter.grad = None  # a stale zero gradient would still be decayed
        for norm in _norms_with_buffers(part for group in self.groups for part in group.modules):
            norm.track_running_stats = norm.running_mean is not None
        module.frozen_modules = frozen_modules(self.plan, self.phase, self.groups)
        module.train(module.training)

    def set_rates(self, trainer: pl.Trainer) -> None:
        """Set each optimizer group's rate for the coming step: base × schedule × row × phase × warm-up."""
        phase = self.plan.phases[self.phase]
        factor = self.schedule.factor(trainer.global_step, int(trainer.estimated_stepping_batches))
        steps_per_epoch = max(1, trainer.num_training_batches // trainer.accumulate_grad_batches)
        epochs_in = [(trainer.global_step + 1 - start) / steps_per_epoch for start in self.begun]
        for group in trainer.optimizers[0].param_groups:
            row = group["row"]
            group["lr"] = group["base_lr"] * factor * phase.multiplier(*row) * self._warmup(row[0], epochs_in)

    def rates(self, trainer: pl.Trainer) -> dict[str, float]:
        """The highest current rate within each depth group, head last; 0 where frozen."""
        highest = dict.fromkeys(self.plan.groups, 0.0)
        for group in trainer.optimizers[0].param_groups:
            highest[group["row"][0]] = max(highest[group["row"][0]], float(group["lr"]))
        return highest

    def watch(self, value: float) -> bool:
        """Take note of the epoch's monitored value; true if the phase has come to its plateau."""
        until = self.plan.phases[self.phase].until
        if until is None:
            return False
        if value < self.best - until.min_delta:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        return self.waited >= until.patience

    def next_phase(self, step: int) -> None:
        """Begin the next phase with the coming epoch; `step` is the first optimizer step of it."""
        self.phase, self.best, self.waited = self.phase + 1, float("inf"), 0
        self.begun.append(step)

    @property
    def until(self) -> Plateau | None:
        """The plateau that the current phase waits for."""
        return self.plan.phases[self.phase].until

    def _phase_for(self, epoch: int) -> int:
        foreseen = self.plan.phase_at(epoch)
        return max(self.phase, foreseen) if self.phase >= 0 else foreseen

    def _warmup(self, group: str, epochs_in: Sequence[float]) -> float:
        return self.plan.warmup(self.phase, group, epochs_in)


def frozen_modules(plan: Plan, phase: int, groups: Sequence[DepthGroup]) -> list[tuple[nn.Module, str]]:
    """Modules that are not in training mode in this phase, each with how it is frozen: `eval` or `batch_stats`.

    A group in which nothing trains is frozen whole. In one that trains in part, a norm layer whose own rows are
    frozen keeps its buffers.
    """
    frozen: list[tuple[nn.Module, str]] = []
    for group in groups:
        if group.name == HEAD or plan.phases[phase].trains(group.name, "norm") or plan.frozen_norm == "train":
            continue
        if not plan.phases[phase].trains(group.name):
            frozen += [(child, "eval") for module in group.modules for child in module.modules()]
        frozen += [(norm, plan.frozen_norm) for norm in _norms_with_buffers(group.modules)]
    return frozen


def hold(frozen: Sequence[tuple[nn.Module, str]]) -> None:
    """Put frozen modules into their mode again, after a call of `train()`."""
    for module, how in frozen:
        module.training = how == "batch_stats"
        if how == "batch_stats":
            # a norm layer in training that tracks nothing uses the batch's statistics and leaves its buffers alone
            module.track_running_stats = False  # type: ignore[assignment]


def _norms_with_buffers(modules: Iterable[nn.Module]) -> Iterator[_NormBase]:
    return (child for module in modules for child in module.modules() if isinstance(child, _NormBase))
