import pickle
import threading
import time
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from headstart.data.augmentation import Augmentation, NoAugmentation
from headstart.data.image_augmentation import Light, TrivialAugment
from headstart.data.module import DataModule, ShiftSet, pl
from headstart.data.source import Examples
from headstart.splits.holdout import Holdout
from headstart.splits.splitter import Pool

LABELS = np.arange(60) % 3


class Noise(Examples):
    """Seeded noise in place of pictures; each example's first pixel is its own index."""

    def __init__(self, size: int = 16, lengths: np.ndarray | None = None) -> None:
        self.pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (60, 3, size, size), dtype=np.uint8))
        self.pixels[:, 0, 0, 0] = torch.arange(60)
        self._lengths = lengths

    def __len__(self):
        return 60

    def batch(self, indices):
        return {"pixels": self.pixels[torch.as_tensor(indices)]}

    @property
    def lengths(self):
        return self._lengths


class Kept(Noise):
    """Whose batches are only copied."""

    is_kept = True


def module(augmentation: Augmentation | None = None, workers: int = 0, examples: Examples | None = None, **options):
    parts = Holdout(0.2, 0.2).split(Pool(LABELS, ("a", "b", "c"), np.arange(len(LABELS))), 0)
    options = {"batch_size": 8, "seed": 0, "num_workers": workers, **options}
    return DataModule(examples or Noise(), LABELS, parts, augmentation, **options)


def epochs(data, count=2):
    loader = data.train_dataloader()
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        yield list(loader)


def test_batch_holds_inputs_labels_and_index_that_belong_together():
    data = module(NoAugmentation())
    for loader, part in (
        (data.train_dataloader(), data.parts.train),
        (data.val_dataloader(), data.parts.val),
        (data.test_dataloader(), data.parts.test),
    ):
        batches = list(loader)
        assert sorted(torch.cat([batch["index"] for batch in batches]).tolist()) == part.tolist()
        for batch in batches:
            assert set(batch) == {"inputs", "labels", "index"}
            assert batch["inputs"]["pixels"].dtype == torch.uint8
            assert batch["labels"].dtype == batch["index"].dtype == torch.int64
            assert torch.equal(batch["inputs"]["pixels"][:, 0, 0, 0].long(), batch["index"])
            assert batch["labels"].tolist() == LABELS[batch["index"]].tolist()


@pytest.mark.parametrize("augmentation", [Light(), TrivialAugment()])
def test_number_of_workers_changes_nothing(augmentation):
    here, there = (list(epochs(module(augmentation, workers))) for workers in (0, 2))
    assert len(here[0]) == len(there[0]) == 5
    for one, other in zip(chain(*here), chain(*there), strict=True):
        assert torch.equal(one["index"], other["index"])
        assert torch.equal(one["inputs"]["pixels"], other["inputs"]["pixels"])


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_kept_examples_are_read_ahead_by_threads_and_nothing_changes(workers):
    data = module(NoAugmentation(), workers, Kept())
    ready = data.train_dataloader()
    assert (ready.num_workers, ready.num_threads) == (0, min(workers, 4))
    for one, other in zip(chain(*epochs(module(NoAugmentation()), 3)), chain(*epochs(data, 3)), strict=True):
        assert torch.equal(one["index"], other["index"])
        assert torch.equal(one["inputs"]["pixels"], other["inputs"]["pixels"])
    for name in ("val_dataloader", "test_dataloader"):
        plain, threads = getattr(module(NoAugmentation()), name)(), getattr(data, name)()
        assert [one["index"].tolist() for one in plain] == [one["index"].tolist() for one in threads]


def test_augmented_examples_are_read_by_processes_and_examples_by_nobody_where_nobody_is_asked():
    assert (
        module(Light(), 2, Kept()).train_dataloader().num_workers,
        module(None, 2).val_dataloader().num_workers,
    ) == (2, 2)
    data = module(None, 0, Kept())
    assert data.train_dataloader().num_threads == data.val_dataloader().num_threads == 0


def test_what_fails_in_a_thread_that_reads_ahead_fails_where_the_batch_is_wanted():
    class Torn(Kept):
        def batch(self, indices):
            if 7 in indices:
                raise OSError("the disk is gone")
            return super().batch(indices)

    data = module(None, 2, Torn())
    with pytest.raises(OSError, match="the disk is gone"):
        list(chain(data.train_dataloader(), data.val_dataloader(), data.test_dataloader()))


def test_an_epoch_that_is_left_early_leaves_no_thread_at_work():
    before = {*threading.enumerate()}
    for _ in range(5):
        batches = iter(module(None, 3, Kept()).train_dataloader())
        next(batches)
        del batches
    deadline = time.monotonic() + 20
    while (left := {*threading.enumerate()} - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


def test_augmentation_depends_on_epoch_and_example_not_on_order_or_global_rng():
    data = module(Light())
    found: dict[tuple[int, int], torch.Tensor] = {}
    for epoch, batches in enumerate(epochs(data)):
        for batch in batches:
            found |= {(epoch, int(i)): x for i, x in zip(batch["index"], batch["inputs"]["pixels"], strict=True)}
    index = int(data.parts.train[0])
    assert not torch.equal(found[0, index], found[1, index])
    smaller = DataModule(data.examples, LABELS, data.parts, Light(), batch_size=3, seed=0)
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    for batch in smaller.train_dataloader():
        for i, x in zip(batch["index"], batch["inputs"]["pixels"], strict=True):
            assert torch.equal(found[0, int(i)], x)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_val_and_test_are_never_augmented():
    data = module(TrivialAugment())
    for batch in [*data.val_dataloader(), *data.test_dataloader()]:
        assert torch.equal(batch["inputs"]["pixels"], data.examples.batch(batch["index"])["pixels"])


def test_reused_views_are_the_examples_first_and_then_augmented_ones_whatever_the_seed():
    found: dict[tuple[int, int], torch.Tensor] = {}
    for seed in (0, 1):
        again = module(Light(views=3), seed=seed, reuse_views=True)
        for epoch, batches in enumerate(epochs(again, 5)):
            for batch in batches:
                for i, x in zip(batch["index"].tolist(), batch["inputs"]["pixels"], strict=True):
                    assert torch.equal(found.setdefault((epoch % 3, i), x), x)
    index = int(again.parts.train[0])
    assert torch.equal(found[0, index], again.examples.batch([index])["pixels"][0])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert any(not torch.equal(found[one, i], found[other, i]) for i in again.parts.train.tolist())


def test_shifts_give_the_chosen_examples():
    other = Noise()
    data = module(shifts={"line": ShiftSet(other, LABELS, np.array([3, 1, 50]))})
    (batch,) = data.shift_dataloaders()["line"]
    assert batch["index"].tolist() == [3, 1, 50]
    assert batch["labels"].tolist() == [0, 1, 2]


def test_like_lengths_are_grouped_for_training_and_testing():
    lengths = np.random.default_rng(0).permutation(60)
    data = module(examples=Noise(lengths=lengths))
    for loader in (data.train_dataloader(), data.test_dataloader()):
        for batch in loader:
            assert np.ptp(lengths[batch["index"]]) < 45


class Recorder(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen: list[list[int]] = []

    def on_train_epoch_start(self):
        self.seen.append([])

    def training_step(self, batch, _):
        self.seen[-1] += batch["index"].tolist()
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch, _):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_brings_each_epoch_its_own_order(workers, tmp_path):
    def trainer(last, *keepers):
        return pl.Trainer(
            callbacks=[*keepers],
            max_epochs=last,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=tmp_path,
            num_sanity_val_steps=0,
        )

    expected = [torch.cat([batch["index"] for batch in batches]).tolist() for batches in epochs(module(), 3)]
    whole = Recorder()
    trainer(3).fit(whole, datamodule=module(workers=workers))
    assert whole.seen == expected
    keeper = pl.callbacks.ModelCheckpoint(
        tmp_path, "end", save_on_train_epoch_end=True
    )  # as runs do, before the epoch is over
    first = trainer(2, keeper)
    first.fit(Recorder(), datamodule=module(workers=workers))
    first.save_checkpoint(tmp_path / "two.ckpt")
    for name in ("two", "end"):
        resumed = Recorder()
        trainer(3).fit(resumed, datamodule=module(workers=workers), ckpt_path=tmp_path / f"{name}.ckpt")
        assert resumed.seen == expected[2:]


def test_unaugmented_batch_is_fetched_in_well_under_a_millisecond():
    data = module(examples=Noise(64))
    dataset, draws = data.train_dataloader().dataset, list(data.train_dataloader().sampler)
    best = min(_seconds(lambda: dataset[draws[0]]) for _ in range(50))
    assert best < 1e-3


def test_augmentations_survive_pickling_after_use():
    data = module(Light())
    next(iter(data.train_dataloader()))
    loader = data.train_dataloader()
    draw = next(iter(loader.sampler))
    expected, found = loader.dataset[draw], pickle.loads(pickle.dumps(loader.dataset))[draw]
    assert torch.equal(found["inputs"]["pixels"], expected["inputs"]["pixels"])


def _seconds(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


class Epochs:
    """What the loader asks of Lightning's trainer."""

    max_epochs, global_rank, world_size = 4, 0, 1
    fit_loop = SimpleNamespace(epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=0)))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 0)])
def test_epochs_that_are_read_ahead_are_the_same(order):
    data, plain = module(Light(), workers=2), module(Light())
    data.trainer = Epochs()
    ahead, loader = data.train_dataloader(), plain.train_dataloader()
    for epoch in order:
        ahead.sampler.set_epoch(epoch)
        loader.sampler.set_epoch(epoch)
        for one, other in zip(ahead, loader, strict=True):
            assert torch.equal(one["index"], other["index"])
            assert torch.equal(one["inputs"]["pixels"], other["inputs"]["pixels"])
        assert (ahead.ahead is not None) == (epoch < 3), "nothing is read behind the last epoch"


def test_an_epoch_that_was_left_in_its_middle_is_read_anew():
    data, plain = module(workers=2), module()
    data.trainer = Epochs()
    ahead, loader = data.train_dataloader(), plain.train_dataloader()
    for number, _ in enumerate(ahead):
        if number == 2:
            break
    for epoch in (1, 2):
        ahead.sampler.set_epoch(epoch)
        loader.sampler.set_epoch(epoch)
        assert [b["index"].tolist() for b in ahead] == [b["index"].tolist() for b in loader]
