"""Lightning's trainer, set up for one run: quiet, deterministic, with nothing of its own on the disk."""

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl

from headstart.config import TrainerConfig
from headstart.training.epochs import early_stopping


def lightning_trainer(settings: TrainerConfig, callbacks: Sequence[pl.Callback], directory: Path) -> pl.Trainer:
    """A trainer that follows `settings`, early stopping included."""
    stopping = []
    if settings.patience is not None:
        stopping = [early_stopping(settings.patience, settings.min_delta, settings.monitor)]
    return pl.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy="ddp_find_unused_parameters_true" if settings.devices > 1 else "auto",
        precision=settings.precision,  # type: ignore[arg-type]
        max_epochs=settings.max_epochs,
        max_steps=settings.max_steps or -1,
        accumulate_grad_batches=settings.accumulate_grad_batches,
        gradient_clip_val=settings.gradient_clip_val,
        limit_train_batches=settings.limit_batches,
        limit_val_batches=settings.limit_batches,
        deterministic="warn" if settings.deterministic else None,
        callbacks=[*callbacks, *stopping],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=directory,
    )
