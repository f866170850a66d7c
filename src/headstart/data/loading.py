"""Loaders of whole batches, the same for any number of workers."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from headstart.data.augmentation import Augmentation
from headstart.data.batches import Batches, Draw
from headstart.data.device_augmentation import padded
from headstart.data.source import Examples, Whole
from headstart.seeding import seed_for

VIEW_SEED = 0
"""Seed of augmented views: the same for every run, so that what is made of them can be shared."""
DICE, SIZE = "dice", "size"
"""In a batch whose pictures are changed on the device: what was thrown for each, and the size that they get."""
_MOST_THREADS = 4
"""That read ahead: what they do is limited by memory, not by them."""
Batch = dict[str, Any]
"""`inputs` (tensors by name, batch-first), `labels` `(B,)` int64 or `(B, O)` float32, `index` `(B,)` int64 into the
source.

Under several processes also `num_global`: how many examples the batch has in all of them together.
"""

_Kind = TypeVar("_Kind", bound="Loader")


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

    @property
    def is_copied(self) -> bool:
        """Whether a batch is only copied, out of what is kept."""
        return self._augmentation is None and self._examples.is_kept

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


class Loader(DataLoader[Batch]):
    """Whole batches, read ahead by processes, or by threads where they are only copied: from a process each batch would
    be copied twice more, which takes longer than what the process saves."""

    num_threads: int = 0

    @classmethod
    def of(cls: type[_Kind], dataset: BatchDataset, batches: Batches, num_workers: int) -> _Kind:
        """Read by this many processes or threads; by this process, when they are needed, if there are none."""
        num_processes = 0 if dataset.is_copied else num_workers
        # without automatic batching the "sampler" gives whole batches, and Lightning calls its `set_epoch`
        made = cls(
            dataset,
            sampler=batches,
            batch_size=None,
            collate_fn=_as_it_is,  # type: ignore[arg-type]
            num_workers=num_processes,
            persistent_workers=num_processes > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else each pass would move torch's global rng, and with them dropout's
        )
        made.num_threads = min(num_workers, _MOST_THREADS) if dataset.is_copied else 0
        return made

    @property
    def reads_ahead(self) -> bool:
        return self.num_workers + self.num_threads > 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        return self._by_threads() if self.num_threads else super().__iter__()

    def _by_threads(self) -> Iterator[Batch]:
        """Batches in order; reading begins at once."""
        draws, read = iter(self.sampler), self.dataset.__getitem__
        prepare: tuple[Any, ...] = ()
        if self.pin_memory:  # a thread starts with the first GPU, whichever its process has
            prepare = torch.cuda.set_device, (torch.cuda.current_device(),)
        pool = ThreadPoolExecutor(self.num_threads, "reader", *prepare)

        def get(draw: Draw) -> Batch:
            return _pinned(read(draw)) if self.pin_memory else read(draw)

        under_way = deque(pool.submit(get, draw) for draw in islice(draws, 2 * self.num_threads))

        def come() -> Iterator[Batch]:
            try:
                while under_way:
                    batch = under_way.popleft().result()
                    under_way.extend(pool.submit(get, draw) for draw in islice(draws, 1))
                    yield batch
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

        return come()


class AheadLoader(Loader):
    """A loader of training batches that begins to read an epoch while the one before it is evaluated."""

    num_epochs: int | None = None
    """How many there are, so that none is read in vain."""
    ahead: tuple[int, Iterator[Batch]] | None = None
    """An epoch that is being read already."""

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
            if number == most and self.reads_ahead and epoch + 1 < (self.num_epochs or 0):
                # the processes read on for this same iterator, which has nothing more to give of its epoch
                batches.set_epoch(epoch + 1)
                self.ahead = epoch + 1, super().__iter__()
                yield batch
                return
            yield batch


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _pinned(batch: Batch) -> Batch:
    """Where a GPU fetches it from by itself."""
    return {
        name: value.pin_memory() if isinstance(value, Tensor) else _pinned(value) if isinstance(value, dict) else value
        for name, value in batch.items()
    }
