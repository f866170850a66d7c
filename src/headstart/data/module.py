"""The examples of a run as Lightning wants them: loaders of whole batches, the same for any number of workers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from headstart.compat import declare_torchvision_operators
from headstart.data.augmentation import Augmentation
from headstart.data.batches import Batches, Draw
from headstart.data.device_augmentation import padded
from headstart.data.source import Examples, Whole
from headstart.seeding import seed_for

declare_torchvision_operators()

import pytorch_lightning as pl  # noqa: E402

VIEW_SEED = 0
"""Seed of augmented views: the same for every run, so that what is made of them can be shared."""
DICE, SIZE = "dice", "size"
"""In a batch whose pictures are changed on the device: what was thrown for each, and the size that they get."""
Batch = dict[str, Any]
"""`inputs` (tensors by name, batch-first), `labels` `(B,)` int64 or `(B, O)` float32, `index` `(B,)` int64 into the
source.

Under several processes also `num_global`: how many examples the batch has in all of them together.
"""


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


def whole_of(examples: Examples, augmentation: Augmentation | None) -> Whole | None:
    """What an augmentation cuts its parts out of, if not of the examples as they are read in evaluation."""
    if augmentation is None or not augmentation.cuts:
        return None
    return examples.uncut(augmentation.needs_whole)


class BatchDataset(Dataset[Batch]):
    """Reads a whole batch at once; what comes out depends on the `Draw` alone, not on who reads it or when.

    Args:
        examples: What is read.
        labels: Label of each example `(N,)` or `(N, O)`.
        augmentation: Changes each example; `None` for none.
        seed: The run's seed, of what augmentation draws anew in every epoch.
        world: Processes that share each batch.
        views: In place of new ones in every epoch, this many versions in turn, the same for every seed: the example as
            it is, then augmented.
    """

    def __init__(
        self,
        examples: Examples,
        labels: np.ndarray,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        world: int = 1,
        views: int | None = None,
    ) -> None:
        self._examples = examples
        self._labels = labels
        self._augmentation = augmentation if augmentation is not None and augmentation.changes_examples else None
        self._seed = seed
        self._world = world
        self._views = views
        self._whole = whole_of(examples, self._augmentation)

    def __getitem__(self, draw: Draw) -> Batch:
        inputs, more = self._examples.batch(draw.indices), dict[str, Any]()
        version = draw.epoch if self._views is None else draw.epoch % self._views
        augmentation = self._augmentation
        if augmentation is not None and augmentation.on_device and self._views is None:
            inputs, more = self._thrown(augmentation, inputs, draw.indices, (self._seed, "augmentation", version))
        elif augmentation is not None and (version or self._views is None):
            rng = (self._seed, "augmentation") if self._views is None else (VIEW_SEED, "views")
            inputs = self._augmented(augmentation, inputs, draw.indices, (*rng, version))
        batch: Batch = {
            "inputs": inputs,
            "labels": torch.from_numpy(self._labels[draw.indices]),
            "index": torch.from_numpy(draw.indices),
            **more,
        }
        if self._world > 1:
            batch["num_global"] = draw.num_global
        return batch

    def _thrown(
        self, augmentation: Augmentation, inputs: dict[str, Tensor], indices: np.ndarray, rng: tuple[int, str, int]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Whole pictures, and what `on_device` changes them by."""
        pictures = inputs["pixels"]
        size = (int(pictures.shape[2]), int(pictures.shape[3]))
        whole = self._whole
        each = list(pictures) if whole is None else [whole[index] for index in indices.tolist()]
        dice = []
        with torch.random.fork_rng(devices=[]):
            for picture, index in zip(each, indices.tolist(), strict=True):
                torch.default_generator.manual_seed(seed_for(*rng, index))
                dice.append(augmentation.thrown(picture.shape, size))
        made = pictures if whole is None else padded(each)
        return {**inputs, "pixels": made}, {DICE: torch.stack(dice), SIZE: size}

    def _augmented(
        self, augmentation: Augmentation, inputs: dict[str, Tensor], indices: np.ndarray, rng: tuple[int, str, int]
    ) -> dict[str, Tensor]:
        changed: list[dict[str, Tensor]] = []
        with torch.random.fork_rng(devices=[]):
            for place, index in enumerate(indices.tolist()):
                torch.default_generator.manual_seed(seed_for(*rng, index))
                example = {name: values[place] for name, values in inputs.items()}
                if self._whole is not None:
                    example["whole"] = self._whole[index]
                changed.append(augmentation.example(example))
        return {name: torch.stack([one[name] for one in changed]) for name in changed[0]}


def on_device(batch: Batch, augmentation: Augmentation | None) -> Batch:
    """A batch on its device with its pictures changed as was thrown for them, where that was left to the device."""
    if augmentation is None or DICE not in batch:
        return batch
    rest = {name: value for name, value in batch.items() if name not in (DICE, SIZE)}
    pixels = augmentation.finished(batch["inputs"]["pixels"], batch[DICE], batch[SIZE])
    return {**rest, "inputs": {**batch["inputs"], "pixels": pixels}}


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
        return AheadLoader.of(dataset, batches, self.num_workers, self._num_epochs())

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return on_device(batch, self.augmentation)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._plain(self.examples, self.labels, self.parts.val)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._plain(self.examples, self.labels, self.parts.test)

    def shift_dataloaders(self) -> dict[str, DataLoader[Batch]]:
        """A loader for each extra test set, by name; `index` counts in the shift's own source."""
        return {name: self._plain(one.examples, one.labels, one.indices) for name, one in self.shifts.items()}

    def _num_epochs(self) -> int | None:
        return self.trainer.max_epochs if self.trainer is not None else None

    def _plain(self, examples: Examples, labels: np.ndarray, indices: np.ndarray) -> DataLoader[Batch]:
        rank, world = self._place()
        lengths = None if examples.lengths is None else examples.lengths[indices]
        batches = Batches(indices, self.batch_size, None, lengths, rank, world)
        return self._loader(BatchDataset(examples, labels, world=world), batches)

    def _lengths(self, indices: np.ndarray) -> np.ndarray | None:
        return None if self.examples.lengths is None else self.examples.lengths[indices]

    def _place(self) -> tuple[int, int]:
        """This process's rank, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _loader(self, dataset: BatchDataset, batches: Batches) -> DataLoader[Batch]:
        return loader(dataset, batches, self.num_workers)


def loader(
    dataset: BatchDataset, batches: Batches, num_workers: int, kind: type[DataLoader[Batch]] = DataLoader
) -> DataLoader[Batch]:
    """Whole batches, read by the `num_workers` of them that there are, or else by this process."""
    # without automatic batching the "sampler" gives whole batches, and Lightning calls its `set_epoch`
    return kind(
        dataset,
        sampler=batches,
        batch_size=None,
        collate_fn=_as_it_is,  # type: ignore[arg-type]
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else each pass would move torch's global rng, and with them dropout's
    )


def _next_epoch(trainer: pl.Trainer) -> int:
    """The epoch that training begins with. In a run that goes on, `current_epoch` is still the one whose end the
    checkpoint was written at, until training has begun."""
    done: Any = trainer.fit_loop.epoch_progress.current
    return int(done.processed)


class AheadLoader(DataLoader[Batch]):
    """A loader of training batches whose processes begin to read an epoch while the one before it is evaluated."""

    num_epochs: int | None = None
    """How many there are, so that none is read in vain."""
    ahead: tuple[int, Iterator[Batch]] | None = None
    """An epoch that is being read already."""

    @classmethod
    def of(cls, dataset: BatchDataset, batches: Batches, num_workers: int, num_epochs: int | None) -> "AheadLoader":
        made = loader(dataset, batches, num_workers, cls)
        assert isinstance(made, cls)
        made.num_epochs = num_epochs
        return made

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """The epoch that the sampler was told of."""
        batches = self.sampler
        assert isinstance(batches, Batches)
        found, self.ahead = self.ahead, None
        read = found[1] if found is not None and found[0] == batches.epoch else super().__iter__()
        return self._through(batches, read)

    def _through(self, batches: Batches, read: Iterator[Batch]) -> Iterator[Batch]:
        epoch, most = batches.epoch, len(batches)
        for number, batch in enumerate(read, start=1):
            if number == most and self.num_workers and epoch + 1 < (self.num_epochs or 0):
                # the processes read on for this same iterator, which has nothing more to give of its epoch
                batches.set_epoch(epoch + 1)
                self.ahead = epoch + 1, super().__iter__()
                yield batch
                return
            yield batch


def _as_it_is(batch: Batch) -> Batch:
    return batch
