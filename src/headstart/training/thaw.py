"""The one place that applies a thaw plan to a live model: requires_grad, eval mode and learning rates."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Any

import pytorch_lightning as pl
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from headstart import metrics
from headstart.backbones.backbone import DepthGroup
from headstart.strategies.plan import FrozenNorm, Plan, Plateau
from headstart.strategies.rate import PhaseRates
from headstart.strategies.schedule import Schedule
from headstart.training.checkpoints import FrozenWeights
from headstart.training.rows import is_norm


class Thaw(pl.Callback):
    """Carries a plan out: freezes and thaws rows at phase boundaries and sets every row's rate before each step.

    All rows are in the optimizer from the start; a frozen one has neither gradient nor rate. Frozen parts are in eval
    mode whatever calls `train()` (see `TransferModule.train`).
    """

    def __init__(
        self, plan: Plan, schedule: Schedule, groups: Sequence[DepthGroup], max_steps: int | None = None
    ) -> None:
        self.plan, self.schedule, self.max_steps = plan, schedule, max_steps
        self.groups = list(groups)
        self.phase = -1
        self.begun: list[int] = []  # optimizer step at which each phase so far began
        self.best, self.waited, self.is_due = -inf, 0, False
        self.shares: Mapping[str, float] = {}
        """By group, what its rates are multiplied by in this epoch, where that is measured."""

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("phase", "begun", "best", "waited", "is_due")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, list(value) if name == "begun" else value)

    @property
    def is_last(self) -> bool:
        """Whether the plan has come to its last phase."""
        return self.phase == len(self.plan.phases) - 1

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        never = (row for row in pl_module.rows if not any(phase.trains(*row) for phase in self.plan.phases))
        parameters = [parameter for row in never for parameter in pl_module.rows[row].values()]
        pl_module.frozen_weights = FrozenWeights.of(pl_module, parameters)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        foreseen = self.plan.phase_at(trainer.current_epoch)
        phase = self.phase + 1 if self.is_due else max(self.phase, foreseen)
        if phase != self.phase:
            self.phase = phase
            self.begun += [trainer.global_step] * (phase + 1 - len(self.begun))
            self.best, self.waited, self.is_due = -inf, 0, False
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
        for norm in _norms_with_buffers([module.backbone]):
            if isinstance(norm, _NormBase):
                norm.track_running_stats = norm.running_mean is not None
        module.start = module.kept.get(self.phase)
        module.frozen_modules = frozen_modules(self.plan, self.phase, self.groups, module.backbone)
        module.train(module.training)

    def set_rates(self, trainer: pl.Trainer) -> None:
        """Set each optimizer group's rate for the coming step."""
        steps_per_epoch = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        total_steps = int(trainer.estimated_stepping_batches)
        total_steps = total_steps if self.max_steps is None else min(total_steps, self.max_steps)
        steps = (steps_per_epoch, total_steps, self.begun)
        rates = PhaseRates(self.plan, self.schedule.factor, self.phase, *steps, self.shares)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = rates.at(trainer.global_step, group["row"], group["base_lr"])

    def rates(self, trainer: pl.Trainer) -> dict[str, float]:
        """The highest current rate within each depth group, head last; 0 where frozen."""
        highest = dict.fromkeys(self.plan.groups, 0.0)
        for group in trainer.optimizers[0].param_groups:
            highest[group["row"][0]] = max(highest[group["row"][0]], float(group["lr"]))
        return highest

    def watch(self, value: float) -> bool:
        """Take note of the epoch's monitored value; true if it is the phase's best so far.

        Once the phase has come to its plateau, the next one begins with the coming epoch.
        """
        assert self.until is not None, "this phase waits for no plateau"
        watch = metrics.Watch(self.until.monitor, self.until.min_delta, self.best, self.waited)
        is_best = watch.see(value)
        self.best, self.waited = watch.best, watch.waited
        self.is_due = self.waited >= self.until.patience
        return is_best

    @property
    def until(self) -> Plateau | None:
        """The plateau that the current phase waits for."""
        return self.plan.phases[self.phase].until


def frozen_modules(
    plan: Plan, phase: int, groups: Sequence[DepthGroup], backbone: nn.Module
) -> list[tuple[nn.Module, FrozenNorm]]:
    """Modules that are not in training mode in this phase, each with how it is frozen: `eval` or `batch_stats`.

    A group in which nothing trains is frozen whole, and so is a module that reaches over it (its dropout, layer drop or
    masking would touch the frozen group). In a group that trains in part, a norm layer whose own rows are frozen keeps
    its buffers. Only norm layers that `frozen_norm` speaks of are left in training mode.
    """
    rates = plan.phases[phase]
    frozen: list[tuple[nn.Module, FrozenNorm]] = []
    for group in groups:
        norms = list(_norms_with_buffers(group.modules))
        if not rates.trains(group.name):
            frozen += [(child, "eval") for module in group.modules for child in module.modules()]
            frozen += [(norm, plan.frozen_norm) for norm in norms]
        elif not rates.trains(group.name, "norm"):
            frozen += [(norm, plan.frozen_norm) for norm in norms]
        elif plan.thawed_norm == "eval":
            frozen += [(norm, "eval") for norm in norms]
    if not all(rates.trains(group.name) for group in groups):
        owned = {id(child) for group in groups for module in group.modules for child in module.modules()}
        frozen += [(module, "eval") for module in backbone.modules() if id(module) not in owned]
    return frozen


def hold(frozen: Sequence[tuple[nn.Module, FrozenNorm]]) -> None:
    """Put frozen modules into their mode again, after a call of `train()`."""
    for module, how in frozen:
        module.training = how != "eval" and isinstance(module, _NormBase)
        if how == "batch_stats":
            # a norm layer in training that tracks nothing uses the batch's statistics and leaves its buffers alone
            module.track_running_stats = False  # type: ignore[assignment]


def _norms_with_buffers(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for module in modules:
        for child in module.modules():
            if is_norm(child) and next(child.buffers(recurse=False), None) is not None:
                yield child
