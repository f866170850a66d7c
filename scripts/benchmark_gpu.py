"""How near a GPU's limit headstart comes: the section `gpu` of `scripts/benchmark.py`, both sides of a row in one run.

Training and features from pictures on the disk, against the same network on pictures that never leave the GPU: what is
lost is loading, copying and bookkeeping. Pictures are decoded once beforehand, as in every run but the first.
"""

import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MODELS = ("resnet50", "vit_small_patch16_224")
SIDE, BATCH, NUM_CLASSES = 224, 128, 20
EPOCHS = 3
FREE = "trainer.deterministic=false"
WAYS = ([], [FREE], ["augmentation=standard"], ["trainer.compile=true", FREE])
"""Settings that pictures are trained with."""


def measure(setting: Any, run: Callable[..., Any], epochs_of: Callable[..., Any]) -> None:
    """Add the section's rows to `setting`.

    `run` runs a command of ours in this process; `epochs_of` does that too, and tells the seconds of each epoch.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which torch looks at once, at the first product
    pictures = make_pictures(setting.folder / "pictures", setting.pictures)
    for model in MODELS:
        words = [
            "backbone=timm", f"backbone.model={model}", "backbone.weights=none", "data=image_folder",
            f"data.root={pictures}", f"data.size={SIDE}", "trainer=gpu", f"trainer.batch_size={BATCH}",
        ]  # fmt: skip
        _training(setting, model, words, epochs_of)
        _features(setting, model, words, run)
        _waits(setting, model, words, run)
    _probes(setting)


def make_pictures(root: Path, count: int) -> Path:
    """So many JPEGs of noise, 256 px, in `NUM_CLASSES` folders."""
    from PIL import Image

    def make(number: int) -> None:
        small = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((256, 256))
        picture.save(root / f"class{number % NUM_CLASSES:02}" / f"{number}.jpg")

    for label in range(NUM_CLASSES):
        (root / f"class{label:02}").mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(make, range(count)))
    return root


def _training(setting: Any, model: str, words: Sequence[str], epochs_of: Callable[..., Any]) -> None:
    """Pictures a second of full fine-tuning."""
    bare = {compiled: bare_training(model, compiled) for compiled in (False, True)}
    for more in WAYS:
        speeds = []
        for number in range(setting.rounds):
            name = f"{model}_{'_'.join(more)}_{number}".replace("=", "_").replace(".", "_")
            chosen = ["strategy=fine_tune", *words, *more, f"seed={number}"]
            with with_callback(Waited()) as waited:
                seconds, done = epochs_of(setting, name, EPOCHS, *chosen)
            print(f"  epochs of {[round(one, 2) for one in seconds]} s, of them for batches {waited.told()}")
            speeds.append(done["data"]["sizes"]["train"] / min(seconds[1:]))
        _row(setting, f"fine-tuning {model} {' '.join(more)}", speeds, bare["trainer.compile=true" in more])


def _features(setting: Any, model: str, words: Sequence[str], run: Callable[..., Any]) -> None:
    """Pictures a second of feature extraction once it runs, and the seconds of all of it."""
    from headstart.training import activations

    bare, speeds = bare_forward(model), []
    for number in range(setting.rounds):
        with _watched(activations.FrozenFeatures, "_computed") as seen:
            run("-m", f"name={model}_features{number}", "strategy=feature_extraction", *words,
                f"features.root={setting.folder}/store{number}", "trainer.max_epochs=1")  # fmt: skip
        first, last = seen[min(4, len(seen) // 2)], seen[-1]
        speeds.append((last.rows - first.rows) / (last.at - first.at))
        print(f"  {last.rows} pictures in {last.at - seen[0].began:.2f} s, the first there after "
              f"{seen[0].at - seen[0].began:.2f} s")  # fmt: skip
    _row(setting, f"features of {model}", speeds, bare)


def _row(setting: Any, what: str, speeds: Sequence[float], bare: float) -> None:
    ours = statistics.median(speeds)
    setting.add("gpu", what, ours, "/s", bare, ours / bare, "≥ 0.9", ours / bare >= 0.9)


@dataclass
class Seen:
    """A batch that came: so many rows are there, at this time; when the first was asked for."""

    rows: int
    at: float
    began: float


@contextmanager
def _watched(owner: Any, name: str) -> Iterator[list[Seen]]:
    """When batches of a method came, while in the block."""
    real, seen = getattr(owner, name), []

    def watched(*args: Any, **named: Any) -> Any:
        rows, began = 0, time.perf_counter()
        for index, batch in real(*args, **named):
            rows += len(index)
            seen.append(Seen(rows, time.perf_counter(), began))
            yield index, batch

    setattr(owner, name, watched)
    try:
        yield seen
    finally:
        setattr(owner, name, real)


def bare_training(model: str, compiled: bool = False, steps: int = 60) -> float:
    """Pictures a second of a training step in bfloat16, on one batch that never leaves the GPU."""
    import timm
    import torch
    from torch.nn import functional as F

    torch.use_deterministic_algorithms(False)
    network = timm.create_model(model, num_classes=NUM_CLASSES).cuda().to(memory_format=torch.channels_last)
    if compiled:
        network.compile()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    pixels = torch.randn(BATCH, 3, SIDE, SIDE, device="cuda").contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH, device="cuda") % NUM_CLASSES

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(network(pixels).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return BATCH * _per_second(step, steps)


def bare_forward(model: str, steps: int = 60) -> float:
    """Pictures a second of a forward pass in bfloat16, on one batch that never leaves the GPU."""
    import timm
    import torch

    network = timm.create_model(model, num_classes=0).cuda().to(memory_format=torch.channels_last).eval()
    pixels = torch.randn(256, 3, SIDE, SIDE, device="cuda").contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            network(pixels)

    return len(pixels) * _per_second(step, steps)


def _per_second(step: Callable[[], None], steps: int) -> float:
    import torch

    for _ in range(10):
        step()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    return steps / (time.perf_counter() - began)


def _waits(setting: Any, model: str, words: Sequence[str], run: Callable[..., Any]) -> None:
    """How often training waits for the GPU between the first batch of the second epoch and its last."""
    import pytorch_lightning as pl
    import torch

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            watched = trainer.current_epoch == 1 and 0 < batch_idx < trainer.num_training_batches - 1
            torch.cuda.set_sync_debug_mode("warn" if watched else "default")

        def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
            torch.cuda.set_sync_debug_mode("default")

    with warnings.catch_warnings(record=True) as caught, with_callback(Watch()):
        warnings.simplefilter("always")
        run("-m", f"name={model}_waits", "strategy=fine_tune", "trainer.max_epochs=2", *words, "seed=99")
    found = [f"{one.filename}:{one.lineno}" for one in caught if "called a synchronizing" in str(one.message)]
    for place in sorted(set(found)):
        print(f"  waits at {place} ({found.count(place)} times)")
    setting.add("gpu", f"waits of a training step, {model}", len(found), "", goal="0", met=not found)


class Waited:
    """Seconds of each epoch in which the program waits for the next batch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.since = 0.0

    def told(self) -> list[float]:
        return [round(one, 2) for one in self.seconds]

    def callback(self) -> Any:
        """As a callback."""
        import pytorch_lightning as pl

        waited = self

        class Watch(pl.Callback):
            def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
                waited.seconds.append(0.0)
                waited.since = time.perf_counter()

            def on_train_batch_start(self, *_: Any) -> None:
                waited.seconds[-1] += time.perf_counter() - waited.since

            def on_train_batch_end(self, *_: Any) -> None:
                waited.since = time.perf_counter()

        return Watch()


@contextmanager
def with_callback(callback: Any) -> Iterator[Any]:
    """Lightning's trainers have this callback too, while in the block."""
    import pytorch_lightning as pl

    real: Callable[..., None] = pl.Trainer.__init__
    made = callback.callback() if isinstance(callback, Waited) else callback

    def watched(self: Any, *args: Any, callbacks: Any = (), **options: Any) -> None:
        real(self, *args, callbacks=[*callbacks, made], **options)

    pl.Trainer.__init__ = watched  # type: ignore[method-assign]
    try:
        yield callback
    finally:
        pl.Trainer.__init__ = real  # type: ignore[method-assign]


def _probes(setting: Any) -> None:
    """Seconds of heads on features, on the GPU and on this machine's processor."""
    _head_seconds(2, "cuda", 3)
    here, there = (_head_seconds(96, device, setting.epochs) for device in ("cuda", "cpu"))
    what = f"96 heads, {setting.epochs} epochs; peer: the processor"
    setting.add("gpu", what, here, "s", there, here / there, "< 1", here < there)
    many = _head_seconds(1000, "cuda", setting.epochs)
    setting.add("gpu", f"1,000 heads, {setting.epochs} epochs", many, "s", goal="≤ 30 s", met=many <= 30)


def _head_seconds(number: int, device: str, epochs: int) -> float:
    import torch
    from torch import nn

    from headstart.tasks.multiclass import Multiclass
    from headstart.training.probe import train_probes
    from headstart.training.probe_spec import Probe
    from headstart.training.vector_optim import AdamW

    rng = torch.Generator().manual_seed(0)
    features, labels = torch.randn(1332, 1280, generator=rng), torch.randint(0, 8, (1332,), generator=rng)
    train, val = np.arange(932), np.arange(932, 1332)
    probes = [
        Probe(
            nn.Linear(1280, 8), Multiclass(), AdamW(1e-5 * (1 + one)), train, val, seed=one % 3, batch_size=32,
            max_epochs=epochs,
        )
        for one in range(number)
    ]  # fmt: skip
    began = time.perf_counter()
    train_probes(features, labels, probes, 8, device)
    return time.perf_counter() - began
