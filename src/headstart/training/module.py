"""The model in training: backbone and head, loss and metrics, as a LightningModule. It never waits for the device."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import isfinite
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from headstart.backbones.backbone import Backbone, DepthGroup
from headstart.data.augmentation import Augmentation
from headstart.seeding import seed_for
from headstart.strategies.plan import HEAD, FrozenNorm, Row
from headstart.strategies.regularizers import MapPair, Regularizer
from headstart.tasks.task import Task
from headstart.training.activations import Kept
from headstart.training.checkpoints import FrozenWeights, keep_precision, put_back
from headstart.training.compiled import compiled, eager
from headstart.training.device import at_least_single
from headstart.training.epoch_metrics import Mean, Outputs
from headstart.training.feature_maps import StartingMaps
from headstart.training.one_update import updated_together
from headstart.training.rows import rows
from headstart.training.sharpness import SharpnessAware
from headstart.training.source_head import source_of
from headstart.training.thaw import hold

DECAYED = frozenset({"weight", "adapter"})
"""Kinds that get weight decay; norms and biases get none, as the field does, nor adapters that do not begin at 0."""


class DivergedError(RuntimeError):
    """The training loss became NaN or infinite, at an epoch and a step (both from 0), or that on val after them.

    The message counts both from 1, as progress does.
    """

    def __init__(self, epoch: int, step: int, precision: str, on_val: bool = False) -> None:
        finer = ", or trainer.precision=32-true" if precision.endswith("mixed") else ""
        what = "loss on val was not finite after" if on_val else "training loss was not finite at"
        super().__init__(
            f"The {what} epoch {epoch + 1}, step {step + 1}. Try a lower optimizer.lr, or "
            f"trainer.gradient_clip_val=1{finer}."
        )


class TransferModule(pl.LightningModule):
    """A backbone with a head; batches are `{"inputs": …, "labels": (B,) or (B, O), "index": (B,)}`.

    Args:
        backbone: inputs → features `(B, D)`.
        head: features → outputs `(B, O)`.
        groups: the backbone's depth groups, from the input to the output.
        optimizer: a torch optimizer that lacks its parameters; its `lr` is the head's base rate.
        seed: of the streams for dropout and for mixing pictures.
        task: loss and metrics, fitted to the training part.
        num_outputs: O.
        measures: metrics of val that are measured in every epoch beside `loss` and the task's running one.
        augmentation: mixes whole batches on the device, if it does.
        regularizer: a penalty that is added to the training loss.
        sharpness: makes each step sharpness-aware, if it is to be.
        decays_adapter: whether weight decay pulls an adapter towards what it began from, so that it gets some.
    """

    frozen_modules: Sequence[tuple[nn.Module, FrozenNorm]] = ()

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        groups: list[DepthGroup],
        task: Task,
        num_outputs: int,
        optimizer: Callable[..., torch.optim.Optimizer],
        seed: int,
        measures: Sequence[str] = (),
        augmentation: Augmentation | None = None,
        regularizer: Regularizer | None = None,
        decays_adapter: bool = True,
        sharpness: SharpnessAware | None = None,
    ) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.backbone, self.head = backbone, head
        self.task, self.seed, self.measures, self.num_outputs = task, seed, list(measures), num_outputs
        self.optimizer, self.augmentation, self.regularizer = optimizer, augmentation, regularizer
        self.groups = groups
        self.rows = rows([*groups, _head_group(head)], nn.ModuleList([backbone, head]))
        self.through: Callable[[Backbone, Mapping[str, Tensor]], Tensor] = _whole
        self.beyond: Callable[[Backbone, Mapping[str, Tensor], str], Tensor] = _rest
        self.kept: Mapping[int, Kept] = {}
        self.start: Kept | None = None
        self.maps: StartingMaps | None = None
        self.frozen_weights: FrozenWeights | None = None
        """What the plan never trains, which checkpoints leave out."""
        self.decayed = DECAYED if decays_adapter else DECAYED - {"adapter"}
        self.metrics: dict[str, float] = {}
        self.train_loss, self.train_running, self.val_loss, self.val_running = Mean(), Mean(), Mean(), Mean()
        self.val_outputs = Outputs()
        self.register_buffer("bad_step", torch.tensor(-1), persistent=False)
        self.bad_step: Tensor

    def train(self, mode: bool = True) -> "TransferModule":
        super().train(mode)
        if mode:
            hold(self.frozen_modules)
        return self

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Outputs of the head `(B, O)`."""
        return self.head(self.backbone(inputs))

    def compile_backbone(self) -> None:
        """Have torch's compiler make what runs the backbone in training and on val; scores come without it."""
        self.through, self.beyond = compiled(_whole), compiled(_rest)

    def uncompiled(self) -> AbstractContextManager[Any]:
        """The context in which steps run as they are written; needed where something watches single operations."""
        return nullcontext() if self.through is _whole else eager()

    def keep(self, kept: Mapping[int, Kept]) -> None:
        """Take activations of all examples, by phase, in place of the groups that never change up to it.

        `start` is where the current phase begins; None for the inputs.
        """
        self.kept = kept

    def _features(
        self, batch: Mapping[str, Any], inputs: Mapping[str, Tensor], backbone: Backbone | None = None
    ) -> Tensor:
        backbone = backbone or self.backbone
        if self.start is None:
            return self.through(backbone, inputs)
        activations = self.start.of(self.current_epoch if self.training else 0, batch, backbone)
        return self.beyond(backbone, activations, self.start.boundary)

    def _with_maps(self, batch: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, MapPair]]:
        """Features, and the feature maps that the penalty compares with those of the start, if it does."""
        if self.maps is None:
            return self._features(batch, inputs), {}
        return self.maps.compared(lambda backbone: self._features(batch, inputs, backbone), inputs)

    def configure_model(self) -> None:
        """Share the model out among the devices, where that is how they train it."""
        shard = getattr(self.trainer.strategy, "shard", None)
        if shard is not None:
            shard(self)

    def setup(self, stage: str) -> None:
        # Lightning widens weights for trainer.precision=64-true once it has loaded a checkpoint, which narrows that one
        self.trainer.precision_plugin.convert_module(self)
        if self.regularizer is not None:  # before a checkpoint is loaded: a resumed run is pulled to the same start
            weights = [(row, p) for row, named in self.rows.items() if row[1] == "weight" for p in named.values()]
            self.regularizer.start(
                [parameter for (group, _), parameter in weights if group != HEAD],
                [parameter for (group, _), parameter in weights if group == HEAD],
            )
            if self.regularizer.compares_maps:
                self.maps = StartingMaps(self.backbone)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.frozen_weights is not None:
            self.frozen_weights.leave_out(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        put_back(checkpoint, self)

    def on_train_epoch_start(self) -> None:
        # dropout's rng depend on (seed, epoch, rank), so a resumed run throws the same ones
        torch.manual_seed(seed_for(self.seed, "epoch", self.current_epoch, self.global_rank))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        inputs, labels = batch["inputs"], batch["labels"]
        targets = labels
        if self.augmentation is not None and self.augmentation.mixes:
            inputs, targets = self._mix(inputs, labels, batch_idx)
        features, maps = self._with_maps(batch, inputs)
        outputs = at_least_single(self.head(features))
        loss = self.task.loss(outputs, targets)
        if self.sharpness is None or not self.sharpness.is_second:
            self._note_training(loss.detach(), outputs.detach(), labels)
        if maps and self.regularizer is not None:
            loss = loss + self.regularizer.of_examples(maps)
        if self.regularizer is not None and (source := source_of(self.backbone)) is not None:
            shares = targets if targets is not labels else self.task.shares(labels, self.num_outputs)
            loss = loss + self.regularizer.of_source(source(features), source.wanted(shares))
        if "num_global" in batch:
            # processes average their gradients: scaled so that every example of the batch weighs the same
            loss = loss * (len(labels) * self.trainer.world_size / batch["num_global"])
        return loss if self.regularizer is None else loss + self.regularizer.penalty(features)

    def _note_training(self, loss: Tensor, outputs: Tensor, labels: Tensor) -> None:
        self._note_divergence(loss)
        self.train_loss.update(loss * len(labels), len(labels))
        self.train_running.update(self.task.values(outputs, labels).sum(), len(labels))

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        if self.sharpness is not None:
            optimizer_closure = self.sharpness.closure(self, optimizer_closure)
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        outputs, labels = at_least_single(self.head(self._features(batch, batch["inputs"]))), batch["labels"]
        # neither smoothed nor weighted, so that val/loss means the same in every run
        self.val_loss.update(self.task.plain_loss(outputs, labels) * len(labels), len(labels))
        self.val_running.update(self.task.values(outputs, labels).sum(), len(labels))
        self.val_outputs.update(outputs, labels)

    def on_validation_epoch_end(self) -> None:
        """Read the epoch's metrics off the device: the only time anything waits for it.

        Raises:
            DivergedError: if the loss was not finite at some step of the epoch, or is not on val after the last.
        """
        self._raise_if_diverged()
        self.metrics = {
            "train/loss": _read(self.train_loss),
            f"train/{self.task.running}": _read(self.train_running),
            "val/loss": _read(self.val_loss),
            f"val/{self.task.running}": _read(self.val_running),
            **{f"val/{name}": value for name, value in self._measured().items()},
        }
        if not isfinite(self.metrics["val/loss"]):
            raise DivergedError(self.current_epoch, self.global_step - 1, self._precision, on_val=True)

    @property
    def _precision(self) -> str:
        return str(self.trainer.precision)

    def _measured(self) -> dict[str, float]:
        found = self.task.measured(*self.val_outputs.compute(), self.measures)
        self.val_outputs.reset()
        return found

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """A parameter group or two per row, all from the start, whether frozen or not.

        Weight decay is for matrices and kernels: norms, biases and other vectors get none, as the field does.
        """
        base = self.optimizer([nn.Parameter(torch.zeros(1))]).defaults
        replaced = self.regularizer is not None and self.regularizer.replaces_decay
        decay = 0.0 if replaced else base.get("weight_decay", 0.0)
        groups: dict[tuple[Row, bool], list[nn.Parameter]] = {}
        for row, named in self.rows.items():
            for parameter in named.values():
                groups.setdefault((row, row[1] in self.decayed and parameter.ndim > 1), []).append(parameter)
        made = [
            {
                "params": parameters,
                "row": row,
                "base_lr": float(base["lr"]),
                **({"weight_decay": decay if is_decayed else 0.0} if "weight_decay" in base else {}),
            }
            for (row, is_decayed), parameters in groups.items()
        ]
        return updated_together(keep_precision(self.optimizer(made)))

    def _mix(self, inputs: Mapping[str, Tensor], labels: Tensor, batch_idx: int) -> tuple[Mapping[str, Tensor], Tensor]:
        assert self.augmentation is not None
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_for(self.seed, "mix", self.current_epoch, batch_idx))
            return self.augmentation.batch(dict(inputs), self.task.shares(labels, self.num_outputs))

    def _note_divergence(self, loss: Tensor) -> None:
        step = torch.full_like(self.bad_step, self.global_step)
        self.bad_step = torch.where(~torch.isfinite(loss) & (self.bad_step < 0), step, self.bad_step)

    def _raise_if_diverged(self) -> None:
        step = int(self.bad_step)
        if step >= 0:
            raise DivergedError(self.current_epoch, step, self._precision)


def _whole(backbone: Backbone, inputs: Mapping[str, Tensor]) -> Tensor:
    return backbone(inputs)


def _rest(backbone: Backbone, activations: Mapping[str, Tensor], boundary: str) -> Tensor:
    return backbone.suffix(activations, boundary)


def _head_group(head: nn.Module) -> DepthGroup:
    return DepthGroup(HEAD, dict(head.named_parameters()), dict(head.named_buffers()), (head,))


def _read(metric: Metric) -> float:
    value = float(metric.compute())
    metric.reset()
    return value
