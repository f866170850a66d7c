"""The examples of a run as Lightning wants them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch.utils.data import DataLoader

from headstart.compat import declare_torchvision_operators
from headstart.data.augmentation import Augmentation
from headstart.data.batches import Batches
from headstart.data.loading import AheadLoader, Batch, BatchDataset, Loader, on_device
from headstart.data.source import Examples

declare_torchvision_operators()

import pytorch_lightning as pl  # noqa: E402


class Indices(Protocol):
    """Indices of the examples that train, select and test, each `(n,)`."""

    @property
    def train(self) -> np.ndarray: ...
    @property
    def val(self) -> np.ndarray: ...
    @property
    def test(self) -> np.ndarray: ...


@dataclass(frozen=True)
class ShiftSet:
    """An extra test set: its examples, the labels of all of them `(N, …)`, and the indices of those that are scored."""

    examples: Examples
    labels: np.ndarray
    indices: np.ndarray


class DataModule(pl.LightningDataModule):
    """Loaders over one source's examples, split.

    The order of training follows from (seed, epoch), augmentation from (seed, epoch, example) or (view, example). The
    trainer must have `use_distributed_sampler=False`: each process takes its own share of each batch here.

    Args:
        examples: All examples of the source, as the backbone reads them.
        labels: Their labels `(N,)` or `(N, O)`.
        parts: Which of them train, select and test.
        augmentation: What happens to training examples; `None` for nothing.
        batch_size: Examples of a batch, all processes together.
        seed: The run's seed.
        num_workers: Processes that read ahead; 0 reads in this one. Changes no number.
        shifts: Extra test sets, by name.
        reuse_views: Train on `augmentation.views` versions of each example in turn, not on new ones in every epoch.
    """

    def __init__(
        self,
        examples: Examples,
        labels: np.ndarray,
        parts: Indices,
        augmentation: Augmentation | None = None,
        batch_size: int = 32,
        seed: int = 0,
        num_workers: int = 0,
        shifts: Mapping[str, ShiftSet] | None = None,
        reuse_views: bool = False,
    ) -> None:
        super().__init__()
        self.examples = examples
        self.labels = labels
        self.parts = parts
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = num_workers
        self.shifts = dict(shifts or {})
        self.views = augmentation.views if augmentation is not None and reuse_views else None

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled anew each epoch, augmented per example (mixing is the training module's)."""
        rank, world = self._place()
        batches = Batches(self.parts.train, self.batch_size, self.seed, self._lengths(self.parts.train), rank, world)
        if self.trainer is not None:  # Lightning's own `set_epoch` comes after workers have begun to read ahead
            batches.set_epoch(_next_epoch(self.trainer))
        dataset = BatchDataset(self.examples, self.labels, self.augmentation, self.seed, world, self.views)
        made = AheadLoader.of(dataset, batches, self.num_workers)
        made.num_epochs = self.trainer.max_epochs if self.trainer is not None else None
        return made

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return on_device(batch, self.augmentation)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._plain(self.examples, self.labels, self.parts.val)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._plain(self.examples, self.labels, self.parts.test)

    def shift_dataloaders(self) -> dict[str, DataLoader[Batch]]:
        """A loader for each extra test set, by name; `index` counts in the shift's own source."""
        return {name: self._plain(one.examples, one.labels, one.indices) for name, one in self.shifts.items()}

    def _plain(self, examples: Examples, labels: np.ndarray, indices: np.ndarray) -> DataLoader[Batch]:
        rank, world = self._place()
        lengths = None if examples.lengths is None else examples.lengths[indices]
        batches = Batches(indices, self.batch_size, None, lengths, rank, world)
        return Loader.of(BatchDataset(examples, labels, world=world), batches, self.num_workers)

    def _lengths(self, indices: np.ndarray) -> np.ndarray | None:
        return None if self.examples.lengths is None else self.examples.lengths[indices]

    def _place(self) -> tuple[int, int]:
        """This process's rank, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)


def _next_epoch(trainer: pl.Trainer) -> int:
    """The epoch that training begins with. In a run that goes on, `current_epoch` is still the one whose end the
    checkpoint was written at, until training has begun."""
    done: Any = trainer.fit_loop.epoch_progress.current
    return int(done.processed)
