"""Pictures that nothing can hold decoded: the section `decoding` of `scripts/benchmark.py`.

Batches in random order out of many JPEGs, from files and from shards, against torch's `DataLoader` over the same files
with timm's transform and Pillow, as many workers on both sides, which take turns in being first.
"""

import io
import os
import statistics
import tarfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

BATCH, BATCHES = 64, 20
"""How many of what is read at a time are timed."""
KINDS = 400
"""Pictures that differ in more than their number."""
SHAPES = ((500, 375), (500, 333), (375, 500), (640, 480))
WORKERS = sorted({0, 1, os.cpu_count() or 1})
SHARDED, PER_SHARD = 5000, 1000
"""Pictures that are written as shards too, at most."""


def measure(setting: Any, photos: Path) -> None:
    """Add the section's rows to `setting`; the pictures are made in `photos` if it is not there."""
    from headstart.names import plural

    if setting.photographs is not None:  # what was found in them is kept beside them
        os.environ["HEADSTART_CACHE"] = str(photos.with_name(f"{photos.name}-cache"))
    if not photos.exists():
        make_photographs(photos, setting.pictures)
    sources = _sources(photos, sharded(photos, setting.folder / "shards"))
    for workers in WORKERS:
        sides: dict[str, list[float]] = {name: [] for name in (*sources, "peer")}
        for number in range(setting.rounds):
            turns: list[tuple[str, Any]] = [*sources.items(), ("peer", photos)]
            for name, source in turns if number % 2 == 0 else reversed(turns):
                read = _plain_batches if name == "peer" else _our_batches
                sides[name].append(_per_second(read(source, workers, number)))
        for name, source in sources.items():
            count = len(source.ids)
            ratio = statistics.median(a / b for a, b in zip(sides[name], sides["peer"], strict=True))
            setting.add(
                "decoding", f"{count:,} {name}, {plural(workers, 'worker')}; peer: a plain DataLoader",
                statistics.median(sides[name]), "/s", statistics.median(sides["peer"]), ratio, "≥ 1", ratio >= 1,
            )  # fmt: skip


def _sources(photos: Path, shards: Path) -> dict[str, Any]:
    """Ours, with no room for anything decoded."""
    from headstart.data import array_cache
    from headstart.data.image_shards import ImageShards
    from headstart.data.images import ImageFolder
    from headstart.tasks.multiclass import Multiclass

    array_cache._free_disk = lambda folder: 0
    sources = {"files": ImageFolder(str(photos), cache_bytes=1), "in shards": ImageShards(str(shards), cache_bytes=1)}
    for source in sources.values():
        source.encode = Multiclass().encode
        source.check()
    return sources


def _per_second(batches: Iterator[int]) -> float:
    """Pictures a second, from the start of reading."""
    began = time.perf_counter()
    return sum(islice(batches, BATCHES)) / (time.perf_counter() - began)


def _our_batches(source: Any, workers: int, epoch: int) -> Iterator[int]:
    """Sizes of batches of a shuffled epoch as training reads it, without augmentation."""
    from headstart.data.batches import Batches
    from headstart.data.loading import BatchDataset, Loader

    examples = source.examples(size=224, crop_pct=0.875)
    batches = Batches(np.arange(len(source.ids)), BATCH, seed=0)
    batches.set_epoch(epoch)
    ready = Loader.of(BatchDataset(examples, source.labels), batches, workers)
    return (len(batch["labels"]) for batch in ready)


def _plain_batches(photos: Path, workers: int, epoch: int) -> Iterator[int]:
    """The same of a loader as one writes it, up to where pictures are batches of bytes."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    names = sorted(photos.rglob("*.jpg"))
    bicubic = transforms.InterpolationMode.BICUBIC
    steps = [transforms.Resize(256, bicubic), transforms.CenterCrop(224), transforms.PILToTensor()]
    transform = transforms.Compose(steps)

    class Files(Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return len(names)

        def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
            return transform(Image.open(names[place]).convert("RGB")), place

    order = torch.Generator().manual_seed(epoch)
    ready = DataLoader(Files(), batch_size=BATCH, shuffle=True, num_workers=workers, generator=order)
    return (len(places) for _, places in ready)


def make_photographs(root: Path, count: int) -> None:
    """JPEGs of the sizes of usual photographs on the web, some 50 KB each, in ten classes.

    `KINDS` of them are drawn; the others hold the picture of one of these and, as a comment, their own number.
    """
    drawn = [_drawn(number) for number in range(min(KINDS, count))]
    for label in range(10):
        (root / f"class{label}").mkdir(parents=True)
    for number in range(count):
        content = drawn[number % len(drawn)]
        comment = b"\xff\xfe" + (2 + 8).to_bytes(2, "big") + number.to_bytes(8, "big")
        (root / f"class{number % 10}" / f"{number:06}.jpg").write_bytes(content[:2] + comment + content[2:])


def _drawn(number: int) -> bytes:
    """One of these, as a JPEG."""
    from PIL import Image

    rng, (width, height) = np.random.default_rng(number), SHAPES[number % len(SHAPES)]
    coarse = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
    large = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    made = large + rng.integers(-9, 10, (height, width, 1), dtype=np.int16)
    buffer = io.BytesIO()
    Image.fromarray(made.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def sharded(photos: Path, root: Path) -> Path:
    """The first of them in tar archives."""
    root.mkdir()
    paths = sorted(photos.rglob("*.jpg"), key=lambda path: path.name)[:SHARDED]
    for first in range(0, len(paths), PER_SHARD):
        with tarfile.open(root / f"{first // PER_SHARD:03}.tar", "w") as archive:
            for path in paths[first : first + PER_SHARD]:
                archive.add(path, path.name)
                label = tarfile.TarInfo(f"{path.stem}.cls")
                label.size = len(path.parent.name)
                archive.addfile(label, io.BytesIO(path.parent.name.encode()))
    return root
