"""Lightning's trainer, set up for one run: quiet, deterministic, with nothing of its own on the disk."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.exceptions import SIGTERMException

from headstart.config.schema import TrainerConfig
from headstart.training.checkpoints import write_checkpoint
from headstart.training.device import device_of


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, so that one is whole or not there.

    Lightning's own goes by way of the temporary folder, which may lie on another disk: half a file can be copied then.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        write_checkpoint(Path(path), checkpoint, self.run_id)


class LastStep(pl.Callback):
    """Ends training after `max_steps`, within an epoch too, which ends with a look at val as others do.

    Lightning's own `max_steps` would leave that out, and a run that goes on from an epoch's end would do it again.
    """

    def __init__(self, max_steps: int) -> None:
        self.max_steps = max_steps

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end(trainer)  # a run that was cut off behind its last epoch does not train another

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._end(trainer)

    def _end(self, trainer: pl.Trainer) -> None:
        if trainer.global_step >= self.max_steps:
            trainer.should_stop = True


def lightning_trainer(
    settings: TrainerConfig, callbacks: Sequence[pl.Callback], directory: Path, run_id: str
) -> pl.Trainer:
    """A trainer that follows `settings`; what ends training before its last epoch is among the `callbacks`."""
    device = device_of(settings.accelerator)
    own: list[pl.Callback] = [] if settings.max_steps is None else [LastStep(settings.max_steps)]
    shared: Any = "ddp_find_unused_parameters_true" if settings.devices > 1 else "auto"
    if is_sharded(settings):
        from headstart.training.sharded import FirstStatistics, Sharded  # which takes a while

        shared, own = Sharded(settings.devices), [*own, FirstStatistics()]
    trainer = pl.Trainer(
        accelerator=device.type,
        devices=settings.devices,
        strategy=shared,
        precision=settings.precision,  # type: ignore[arg-type]
        max_epochs=settings.max_epochs,
        accumulate_grad_batches=settings.accumulate_grad_batches,
        gradient_clip_val=settings.gradient_clip_val,
        limit_train_batches=settings.limit_batches,
        limit_val_batches=settings.limit_batches,
        deterministic="warn" if settings.deterministic else None,
        callbacks=[*callbacks, *own],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=directory,
        plugins=[WholeCheckpoints(run_id)],
    )
    taken = (trainer.precision, trainer.num_devices, trainer.strategy.root_device.type)
    if taken != (asked := (settings.precision, settings.devices, device.type)):
        raise RuntimeError(
            f"Lightning would train with {taken} (precision, devices, accelerator) where it got {asked}."
        )
    return trainer


def is_sharded(settings: TrainerConfig) -> bool:
    """Whether each device holds a part of the model."""
    return settings.strategy == "fsdp2" and settings.devices > 1


@contextmanager
def more_than_one_value() -> Iterator[None]:
    """What batch norms refuse in this block is told with its remedy: torch's own words name a tensor's shape alone."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise RuntimeError(
            "Batch norms take the mean over the values that a batch has for a channel, and one example gives them one "
            "value. Raise trainer.batch_size (on each device at least 2 examples; accumulate_grad_batches is no help)."
        ) from error


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C, or a request to end, in this block is a `KeyboardInterrupt`, and the next one is too.

    Lightning turns the one into `sys.exit(1)` and ignores it from then on, the other into an exception of its own.
    """
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if in_main else None
    try:
        yield
    except SIGTERMException:
        raise KeyboardInterrupt from None
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if in_main:
            signal.signal(signal.SIGINT, handler)
