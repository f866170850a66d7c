"""Activations of frozen depth groups: computed once, in eval mode and without a graph, kept in the feature store."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from headstart.backbones.backbone import Backbone
from headstart.data.augmentation import Augmentation
from headstart.data.batches import Batches
from headstart.data.loading import VIEW_SEED, BatchDataset, Loader, whole_of
from headstart.data.source import Examples
from headstart.features.store import FeatureStore
from headstart.training import work
from headstart.training.device import autocast

FEATURES = "features"
"""Name of the pooled features among a backbone's activations."""
COST = "cost"
"""Seconds and floating-point operations of each row `(rows, 2)`, kept with the activations."""
Activations = Mapping[str, Tensor]
"""What a depth group gives of all examples `(rows, …)`, by name: what a backbone's `suffix` starts from."""
Passed = tuple[np.ndarray, dict[str, Tensor], float]
"""Of a batch its examples' indices, activations, and operations per example."""
CUTS = 2
"""Changes with every change of where backbones are cut, so that activations from before are not taken for others."""


@dataclass(frozen=True)
class Kept:
    """Activations that stand in for the groups up to `boundary` as long as these never change.

    Epoch `e` trains on view `e % V`; the first view is the examples as they are. Each example has a row, or, where they
    differ in length, one for each of its positions (tokens, say): as many as `positions` `(N,)` says.
    """

    boundary: str
    views: Sequence[Activations]
    positions: Tensor | None = None

    @cached_property
    def begins(self) -> Tensor | None:
        """The first row of each example `(N,)`, where it has several."""
        return None if self.positions is None else self.positions.cumsum(0) - self.positions

    @property
    def is_pooled(self) -> bool:
        """Whether they are features: nothing but the head is left to run."""
        return FEATURES in self.views[0]

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for view in self.views for tensor in view.values())

    def on(self, device: torch.device) -> "Kept":
        """The same on `device`, so that a step copies nothing to it; on a CPU they stay memory-mapped."""
        if device.type == "cpu":
            return self
        views = [{name: tensor.to(device) for name, tensor in view.items()} for view in self.views]
        return Kept(self.boundary, views, None if self.positions is None else self.positions.to(device))

    def of(self, epoch: int, batch: Mapping[str, Any], backbone: Backbone) -> dict[str, Tensor]:
        """The activations of a batch's examples `(B, …)`, on its device; where they differ in length, 0 beyond it."""
        view = self.views[epoch % len(self.views)]
        place, target = next(iter(view.values())).device, batch["index"].device
        index = batch["index"].to(place)
        if self.positions is None or self.begins is None:
            return {name: values[index].to(target) for name, values in view.items()}
        # told by the inputs' shape: to look at the lengths of these examples would be to wait for the device
        longest = max(tensor.shape[1] for tensor in batch["inputs"].values() if tensor.ndim > 1)
        most = backbone.num_positions(np.array([longest]))
        assert most is not None
        steps = torch.arange(int(most[0]), device=place)
        beyond = steps >= self.positions[index, None]
        rows = (self.begins[index, None] + steps).masked_fill_(beyond, 0)
        found = {}
        for name, values in view.items():
            found[name] = values[rows].masked_fill_(beyond.view(*rows.shape, *[1] * (values.ndim - 1)), 0).to(target)
        return found


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
        key = _key(examples, fingerprint, reading)
        return self._kept(examples, key, None, 0, counted=counted)[FEATURES]

    def has(
        self,
        examples: Examples,
        fingerprint: str,
        reading: Mapping[str, Any],
        augmentation: Augmentation | None = None,
        name: Any = None,
    ) -> bool:
        """Whether the store has what `of` would give, or, with an augmentation, all that `views` would."""
        keys = [_key(examples, fingerprint, reading)]
        if augmentation is not None:
            keys = _view_keys(keys[0], examples, augmentation, name)
        return all(self.store.has(self._full(key)) for key in keys)

    def views(
        self,
        examples: Examples,
        fingerprint: str,
        reading: Mapping[str, Any],
        augmentation: Augmentation,
        name: Any,
        boundary: str | None = None,
        positions: np.ndarray | None = None,
    ) -> list[Activations]:
        """Features, or what the group `boundary` gives, of all examples: as they are, and then augmented.

        As many versions as `augmentation.views`, or the first alone where it changes nothing; `name` describes it.
        With `positions` `(N,)` they have so many rows to an example, in place of one.
        """
        key = _key(examples, fingerprint, reading) | ({} if boundary is None else {"after": boundary})
        keys = _view_keys(key, examples, augmentation, name)
        before = self.seconds, self.flops
        try:
            return [self._kept(examples, key, augmentation, view, boundary, positions) for view, key in enumerate(keys)]
        except BaseException:
            self.seconds, self.flops = before  # what is not used costs nothing
            raise

    def _kept(
        self,
        examples: Examples,
        key: Mapping[str, Any],
        augmentation: Augmentation | None,
        view: int,
        boundary: str | None = None,
        positions: np.ndarray | None = None,
        counted: bool = True,
    ) -> dict[str, Tensor]:
        full_key = self._full(key)
        kept = self.store.get(full_key)
        if kept is None:
            rows = len(examples) if positions is None else int(positions.sum())
            kept = self.store.fill(full_key, self._computed(examples, augmentation, view, boundary, positions), rows)
        seconds, flops = kept.pop(COST).sum(0).tolist() if counted else (0.0, 0.0)
        self.seconds, self.flops = self.seconds + seconds, self.flops + flops
        return kept

    def _full(self, key: Mapping[str, Any]) -> dict[str, Any]:
        place = {"precision": self.precision, "device": self.device.type, "cuts": CUTS}
        return {**self.identity, **key, **place}

    def _computed(
        self,
        examples: Examples,
        augmentation: Augmentation | None,
        view: int,
        boundary: str | None,
        positions: np.ndarray | None,
    ) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
        """Batches of activations with their rows: one to an example or, by `positions`, several."""
        backbone = self.backbone().eval().requires_grad_(False)
        if boundary is not None:  # proven here: other kernels of another device may round otherwise
            assert boundary in backbone.boundaries, f"cannot be cut after {boundary}"
        backbone = backbone.to(self.device)
        begins = None if positions is None else np.cumsum(positions) - positions
        began = time.perf_counter()
        with torch.inference_mode(), autocast(self.device, self.precision):
            passes = self._passes(backbone, examples, augmentation, view, boundary)
            for index, activations, flops in self._fetched(passes):
                seconds, began = (time.perf_counter() - began) / len(index), time.perf_counter()
                shares = torch.tensor([[seconds, flops]], dtype=torch.float64).repeat(len(index), 1)
                if positions is None or begins is None:
                    yield index, {**activations, COST: shares}
                    continue
                own = torch.from_numpy(positions[index])
                is_real = torch.arange(int(own.max())) < own[:, None]
                rows = np.concatenate([np.arange(begins[i], begins[i] + positions[i]) for i in index])
                shares = (shares / own[:, None]).repeat_interleave(own, 0)
                yield rows, {**{name: tensor[is_real] for name, tensor in activations.items()}, COST: shares}
        examples.verify()  # what was made of damaged examples would outlive their repair

    def _passes(
        self, backbone: Backbone, examples: Examples, augmentation: Augmentation | None, view: int, boundary: str | None
    ) -> Iterator[Passed]:
        """Batches on their way through the backbone."""
        known = work.Known()
        for batch in self._batches(examples, augmentation, view):
            inputs = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch["inputs"].items()}
            index = batch["index"].numpy()
            with work.counter() if not known.has(None, inputs) else nullcontext() as counter:
                if boundary is None:
                    activations = {FEATURES: backbone(inputs).float()}
                else:
                    activations = backbone.prefix(inputs, boundary)
            if counter is not None:
                known.add(None, inputs, counter.get_total_flops() / len(index))
            yield index, activations, known.of(None, inputs)

    def _fetched(self, passes: Iterator[Passed]) -> Iterator[Passed]:
        """The same with activations on the CPU. A GPU's are fetched while it computes the next batch."""
        if self.device.type != "cuda":
            for index, activations, flops in passes:
                yield index, {name: tensor.cpu() for name, tensor in activations.items()}, flops
            return
        before: tuple[Passed, torch.cuda.Event] | None = None
        for index, activations, flops in passes:
            under_way = {name: _pinned(tensor) for name, tensor in activations.items()}, torch.cuda.Event()
            under_way[1].record()
            if before is not None:
                before[1].synchronize()
                yield before[0]
            before = (index, under_way[0], flops), under_way[1]
        if before is not None:
            before[1].synchronize()
            yield before[0]

    def _batches(self, examples: Examples, augmentation: Augmentation | None, view: int) -> DataLoader[Any]:
        """All examples, once each; those of like lengths together, so that little is padding."""
        labels, everything = np.zeros(len(examples), dtype=np.int64), np.arange(len(examples))
        num_views = None if augmentation is None else augmentation.views
        size = self.batch_size * (4 if self.device.type == "cuda" else 1)  # a GPU is idle on few
        draws = Batches(everything, size, None, examples.lengths)
        draws.set_epoch(view)
        return Loader.of(BatchDataset(examples, labels, augmentation, views=num_views), draws, self.num_workers)


def _key(examples: Examples, fingerprint: str, reading: Mapping[str, Any]) -> dict[str, Any]:
    return {"data": fingerprint, "examples": examples.identity, "reading": dict(reading), "view": None}


def _view_keys(
    key: Mapping[str, Any], examples: Examples, augmentation: Augmentation, name: Any
) -> list[dict[str, Any]]:
    """Of the examples as they are and, where the augmentation changes them, of as many versions as it says."""
    count = augmentation.views if augmentation.changes_examples else 1
    whole = whole_of(examples, augmentation) if count > 1 else None
    name = name if whole is None else [name, whole.identity]
    return [{**key, "view": [view, VIEW_SEED, name] if view else None} for view in range(count)]


def _pinned(tensor: Tensor) -> Tensor:
    """A copy in memory that a GPU writes to by itself; it is there once an event behind it has come."""
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
