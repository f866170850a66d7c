"""Activations of frozen depth groups: computed once, in eval mode and without a graph, kept in the feature store."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from headstart.backbones.backbone import Backbone
from headstart.data.augmentation import Augmentation
from headstart.data.batches import Batches
from headstart.data.module import BatchDataset
from headstart.data.source import Examples
from headstart.features.store import FeatureStore
from headstart.training import work
from headstart.training.scoring import PRECISIONS

FEATURES = "features"
"""Name of the pooled features among a backbone's activations."""
COST = "cost"
"""Seconds and floating-point operations of each example `(N, 2)`, kept with its activations."""
Activations = Mapping[str, Tensor]
"""What a depth group gives of all examples `(N, …)`, by name: what a backbone's `suffix` starts from."""
CUTS = 1
"""Changes with every change of where backbones are cut, so that activations from before are not taken for others."""
VIEW_SEED = 0
"""Dice of augmented views: the same for every run, so that runs of other seeds find them in the store."""


@dataclass(frozen=True)
class Kept:
    """Activations that stand in for the groups up to `boundary` as long as these never change.

    Epoch `e` trains on view `e % V`; the first view is the examples as they are.
    """

    boundary: str
    views: Sequence[Activations]

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for view in self.views for tensor in view.values())

    def on(self, device: torch.device) -> "Kept":
        """The same on `device`, so that a step copies nothing to it; on a CPU they stay memory-mapped."""
        if device.type == "cpu":
            return self
        return Kept(self.boundary, [{name: t.to(device) for name, t in view.items()} for view in self.views])

    def of(self, epoch: int, index: Tensor, device: torch.device) -> dict[str, Tensor]:
        """The activations of the examples at `index` `(B,)`."""
        view = self.views[epoch % len(self.views)]
        return {name: values[index.to(values.device)].to(device) for name, values in view.items()}


@dataclass
class FrozenFeatures:
    """Where a frozen backbone's features come from: the store or, the first time, one pass over the data.

    Args:
        store: keeps them from run to run.
        identity: everything that can change them but what is asked for here (weights, precision, library versions).
        backbone: gives the backbone when it is needed; not called when the store has all.
    """

    store: FeatureStore
    identity: Mapping[str, Any]
    backbone: Callable[[], Backbone]
    device: torch.device
    precision: str
    batch_size: int = 64
    num_workers: int = 0
    seconds: float = 0.0
    """Time it took to compute all features that were asked for, whoever did it."""
    flops: float = 0.0
    """Floating-point operations that went into them."""

    def of(self, examples: Examples, fingerprint: str, reading: Mapping[str, Any], counted: bool = True) -> Tensor:
        """Features `(N, D)` of all examples of a source as they are.

        `counted`: whether they belong to the cost of training; those that only test do not.
        """
        key = {"data": fingerprint, "reading": dict(reading), "view": None}
        return self._kept(examples, key, None, 0, counted)[FEATURES]

    def after(self, boundary: str, examples: Examples, fingerprint: str, reading: Mapping[str, Any]) -> Activations:
        """What the group `boundary` gives of all examples of a source as they are."""
        key = {"data": fingerprint, "reading": dict(reading), "view": None, "after": boundary}
        return self._kept(examples, key, None, 0, boundary=boundary)

    def views(
        self, examples: Examples, fingerprint: str, reading: Mapping[str, Any], augmentation: Augmentation, name: Any
    ) -> list[Tensor]:
        """Features `(N, D)` of `augmentation.views` versions of all examples, the first of them as they are.

        `name` describes the augmentation. No list at all where it changes nothing.
        """
        if not augmentation.changes_examples or augmentation.views == 1:
            return []
        base: dict[str, Any] = {"data": fingerprint, "reading": dict(reading)}
        plain = self._kept(examples, {**base, "view": None}, None, 0, counted=False)[FEATURES]
        named = {view: {**base, "view": [view, VIEW_SEED, name]} for view in range(1, augmentation.views)}
        return [plain, *(self._kept(examples, key, augmentation, view)[FEATURES] for view, key in named.items())]

    def _kept(
        self,
        examples: Examples,
        key: Mapping[str, Any],
        augmentation: Augmentation | None,
        view: int,
        counted: bool = True,
        boundary: str | None = None,
    ) -> dict[str, Tensor]:
        place = {"precision": self.precision, "device": self.device.type, "cuts": CUTS}
        full_key = {**self.identity, **key, **place}
        kept = self.store.get(full_key)
        if kept is None:
            kept = self.store.fill(full_key, self._computed(examples, augmentation, view, boundary), len(examples))
        seconds, flops = kept.pop(COST).sum(0).tolist() if counted else (0.0, 0.0)
        self.seconds, self.flops = self.seconds + seconds, self.flops + flops
        return kept

    def _computed(
        self, examples: Examples, augmentation: Augmentation | None, view: int, boundary: str | None
    ) -> Iterator[dict[str, Tensor]]:
        backbone = self.backbone().eval().requires_grad_(False)
        if boundary is not None:  # proven here: other kernels of another device may round otherwise
            assert boundary in backbone.boundaries, f"cannot be cut after {boundary}"
        backbone = backbone.to(self.device)
        everything = np.arange(len(examples))
        dataset = BatchDataset(examples, np.zeros(len(examples), dtype=np.int64), augmentation, VIEW_SEED, "views")
        draws = Batches(everything, self.batch_size, None)
        draws.set_epoch(view)
        mixed = PRECISIONS.get(self.precision)
        loader = DataLoader(
            dataset,
            sampler=draws,
            batch_size=None,
            num_workers=self.num_workers,
            collate_fn=_as_it_is,  # type: ignore[arg-type]
            generator=torch.Generator(),  # a loader without its own would move torch's dice
        )
        per_example: float | None = None  # counted on the first batch
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, mixed or torch.bfloat16, enabled=mixed is not None),
        ):
            began = time.perf_counter()
            for batch in loader:
                inputs = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch["inputs"].items()}
                size = len(batch["labels"])
                with work.counter() if per_example is None else nullcontext() as counter:
                    if boundary is None:
                        activations = {FEATURES: backbone(inputs).float().cpu()}
                    else:
                        activations = {name: t.cpu() for name, t in backbone.prefix(inputs, boundary).items()}
                if counter is not None:
                    per_example = counter.get_total_flops() / size
                seconds, began = (time.perf_counter() - began) / size, time.perf_counter()
                shares = torch.tensor([seconds, per_example or 0.0], dtype=torch.float64)
                yield {**activations, COST: shares.repeat(size, 1)}


def _as_it_is(batch: dict[str, Any]) -> dict[str, Any]:
    return batch
