"""What happens once an epoch while Lightning trains: a row of history, the best weights, plateaus that thaw, the end of
training, and floating-point work."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from math import inf
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.flop_counter import FlopCounterMode

from headstart import metrics
from headstart.progress import Progress
from headstart.training.checkpoints import put_back, read_checkpoint
from headstart.training.thaw import Thaw
from headstart.training.work import Known, counter

Row = dict[str, Any]


class AsTrained:
    """The weights that a run is judged by and keeps: here those that train, elsewhere an average of them."""

    def in_place(self, module: Any) -> AbstractContextManager[Any]:
        """The block in which `module` holds them."""
        return nullcontext()

    def restart(self, module: Any) -> None:
        """Take note that training goes on from other weights, those that `module` holds now."""


class EpochRows(pl.Callback):
    """Builds one row an epoch and hands it on; after a resume it begins with the rows that were there."""

    def __init__(self, thaw: Thaw, on_row: Callable[[Row], None], progress: Progress) -> None:
        self.thaw, self.on_row, self.progress = thaw, on_row, progress
        self.rows: list[Row] = []
        self.began = 0.0
        self.earlier = 0.0
        """Seconds of the epochs that were there, where a run goes on."""

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        self.earlier = sum(float(row["seconds"]) for row in self.rows)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            for row in self.rows:  # of the epochs before a resume: what keeps them starts anew
                self.on_row(row)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.progress.step(trainer.current_epoch, batch_idx + 1, int(trainer.num_training_batches))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "phase": self.thaw.phase,
            **pl_module.metrics,
            "seconds": time.perf_counter() - self.began,
            **{f"lr/{group}": rate for group, rate in self.thaw.rates(trainer).items()},
        }
        self.rows.append(row)
        if trainer.is_global_zero:
            self.on_row(row)
            self.progress.epoch(row)


class PlateauThaw(pl.Callback):
    """Tells `thaw` of each epoch's monitored value; keeps the phase's best weights, and puts them back if asked.

    Args:
        thaw: begins the next phase once the current one has come to its plateau.
        best: where the best weights of a phase are kept meanwhile, each in a file of its own: a run that is killed
            before its last checkpoint knows of the next phase must find those that it was to put back.
        run_id: the run that they must be of.
        judged: the weights that are kept and put back.
    """

    def __init__(
        self,
        thaw: Thaw,
        best: Callable[[int], Path],
        run_id: str | None = None,
        judged: AsTrained | None = None,
    ) -> None:
        self.thaw, self.best, self.run_id, self.judged = thaw, best, run_id, judged or AsTrained()
        self.restore = False

    def needs(self, states: Mapping[str, Any]) -> list[Path]:
        """What a run needs of those files that goes on from these states of callbacks."""
        thaw = states[self.thaw.state_key]
        until = self.thaw.plan.phases[thaw["phase"]].until
        has_best = until is not None and until.restore_best and thaw["best"] > -inf
        return [self.best(thaw["phase"])] if has_best else []

    def state_dict(self) -> dict[str, Any]:
        return {"restore": self.restore}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.restore = state_dict["restore"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.restore:
            load_weights(pl_module, self.best(self.thaw.phase - 1), self.run_id)
            self.judged.restart(pl_module)
            self.restore = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        until = self.thaw.until
        if until is None:
            return
        is_best = self.thaw.watch(pl_module.metrics[until.monitor])
        if is_best and until.restore_best:
            with self.judged.in_place(pl_module):
                trainer.save_checkpoint(self.best(self.thaw.phase), weights_only=True)
        self.restore = self.thaw.is_due and until.restore_best


class BestWeights(pl.Callback):
    """Keeps the weights of the best epoch by `monitor`, as the history of `rows` tells it."""

    def __init__(self, path: Path, rows: EpochRows, monitor: str, judged: AsTrained | None = None) -> None:
        self.path, self.rows, self.monitor, self.judged = path, rows, monitor, judged or AsTrained()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if metrics.best_epoch(self.rows.rows, self.monitor) == len(self.rows.rows) - 1:
            with self.judged.in_place(pl_module):
                trainer.save_checkpoint(self.path, weights_only=True)


class EarlyStopping(pl.Callback):
    """Ends training after `patience` epochs of the plan's last phase in which `monitor` was not better than before.

    In earlier phases it is not asked: what they lead to has not begun to train.
    """

    def __init__(self, thaw: Thaw, patience: int, min_delta: float, monitor: str) -> None:
        self.thaw, self.patience = thaw, patience
        self.watch = metrics.Watch(monitor, min_delta)

    @property
    def is_over(self) -> bool:
        return self.watch.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.watch.best, "waited": self.watch.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.watch.best, self.watch.waited = state_dict["best"], state_dict["waited"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.is_over:  # a run that was cut off behind its last epoch does not train another
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.thaw.is_last:
            self.watch.see(pl_module.metrics[self.watch.metric])
            if self.is_over:
                trainer.should_stop = True


class PausedError(Exception):
    """Training was left at the end of an epoch, to go on from there."""


class Pause(pl.Callback):
    """Leaves training as a kill would, once `epochs` are done and kept: before anything of the next one begins.

    It comes before all other callbacks, so that none of them knows of an epoch that was not trained.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch >= self.epochs:
            raise PausedError


class FlopMeter(pl.Callback):
    """Counts the floating-point operations of training: in each phase the first step on inputs of a shape, times the
    examples trained on.

    Frozen parts count as what is done in them; all processes are counted, evaluation is not.
    """

    def __init__(self, thaw: Thaw) -> None:
        self.thaw = thaw
        self.known = Known()
        """By phase."""
        self.total = 0.0
        self.counter: FlopCounterMode | None = None
        self.counting = ExitStack()

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total, "per_unit": self.known.per_unit}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.total, self.known.per_unit = state_dict["total"], dict(state_dict["per_unit"])

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if not self.known.has(self.thaw.phase, self._inputs(pl_module, batch)):
            self.counting.enter_context(pl_module.uncompiled())  # the counter sees nothing of compiled code
            self.counter = self.counting.enter_context(counter())

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        size, inputs = len(batch["labels"]), self._inputs(pl_module, batch)
        if self.counter is not None:
            self.counting.close()
            self.known.add(self.thaw.phase, inputs, self.counter.get_total_flops() / size)
            self.counter = None
        self.total += self.known.of(self.thaw.phase, inputs) * batch.get("num_global", size)

    def _inputs(self, module: Any, batch: Any) -> Mapping[str, Any]:
        """What the work depends on; a head on stored features does the same whatever those were made from."""
        return {} if module.start is not None and module.start.is_pooled else batch["inputs"]

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.counting.close()
        self.counter = None


class Keeper(ModelCheckpoint):
    """A checkpoint that remembers what was best even if the run's directory has been moved since.

    Lightning's forgets it then, and takes the first epoch after a resume for the best.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def moved(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        super().load_state_dict(
            {
                **state_dict,
                "dirpath": self.dirpath,
                "best_k_models": {moved(path): score for path, score in state_dict["best_k_models"].items()},
                **{
                    name: moved(state_dict[name])
                    for name in ("best_model_path", "kth_best_model_path", "last_model_path")
                },
            }
        )


def keepers(
    best: Path, last: Path, rows: EpochRows, monitor: str, judged: AsTrained | None = None
) -> list[pl.Callback]:
    """Keepers of `best` (weights at the best epoch by `monitor`) and of `last` (everything), each at its place.

    In this order: a run that is killed between the two does the epoch again, and keeps its weights again.
    """
    return [
        BestWeights(best, rows, monitor, judged),
        Keeper(last.parent, last.stem, enable_version_counter=False, save_on_train_epoch_end=True),
    ]


def load_weights(module: pl.LightningModule, path: Path, run_id: str | None = None) -> dict[str, Any]:
    """Put the weights of a checkpoint (of run `run_id`, if that is given) into `module`, strictly.

    Returns:
        The checkpoint as it was written, which may lack what never trains.

    Raises:
        DamagedCheckpointError: if they are not what was written, or another run's.
    """
    checkpoint = read_checkpoint(path, run_id)
    whole = dict(checkpoint)
    put_back(whole, module)
    module.load_state_dict(whole["state_dict"], strict=True)
    return checkpoint
