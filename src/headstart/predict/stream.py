"""Examples through a model, in batches: read ahead by threads, answered in the order in which they came."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart.data.file_check import reason
from headstart.data.unlabelled import Reader
from headstart.errors import InputError, unknown
from headstart.predict.inputs import Example
from headstart.system.cores import cores

Model = Callable[[Mapping[str, Tensor]], np.ndarray]
"""From a batch to what is said of each example `(B, O)` (see `Task.said`)."""
_CHUNK = 4
"""Examples that a thread reads at a time."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a model says of one example: `values` `(O,)`, or why it could not be read."""

    name: str
    values: np.ndarray | None
    problem: str = ""


def stream(examples: Iterable[Example], reader: Reader, model: Model, batch_size: int) -> Iterator[Said]:
    """One answer to each example, in order; no more than a few batches are in memory at a time."""
    with closing(_read_ahead(examples, reader, 2 * batch_size)) as items:
        while window := list(islice(items, reader.window * batch_size)):
            good = [place for place, (_, item, _) in enumerate(window) if item is not None]
            values = _answered([window[place][1] for place in good], reader, model, batch_size)
            by_place = dict(zip(good, values, strict=True))
            for place, (name, _, problem) in enumerate(window):
                yield Said(name, by_place.get(place), problem)


def _answered(items: Sequence[Any], reader: Reader, model: Model, batch_size: int) -> list[np.ndarray]:
    order = sorted(range(len(items)), key=lambda place: reader.length(items[place]))
    found: dict[int, np.ndarray] = {}
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        batch = reader.batch([items[place] for place in places])
        found.update(zip(places, model(batch), strict=True))
    return [found[place] for place in range(len(items))]


def _read_ahead(examples: Iterable[Example], reader: Reader, ahead: int) -> Generator[tuple[str, Any, str], None, None]:
    """Name, item and problem of each; `ahead` more than are asked for are being read."""
    source, pool = iter(examples), ThreadPoolExecutor(cores())
    waiting: deque[Future[list[tuple[str, Any, str]]]] = deque()

    def fill() -> None:
        while len(waiting) * _CHUNK < ahead and (chunk := list(islice(source, _CHUNK))):
            waiting.append(pool.submit(_read, chunk, reader))

    try:
        fill()
        while waiting:
            done = waiting.popleft().result()
            fill()
            yield from done
    finally:
        pool.shutdown(cancel_futures=True)


def _read(examples: Sequence[Example], reader: Reader) -> list[tuple[str, Any, str]]:
    return [_read_one(example, reader) for example in examples]


def _read_one(example: Example, reader: Reader) -> tuple[str, Any, str]:
    if example.content is None or example.problem:
        return example.name, None, example.problem
    try:
        return example.name, reader.read(example.content), ""
    except Exception as error:  # decoders raise all kinds of exceptions on bytes that are not theirs
        return example.name, None, reason(error)


def place_of(name: str) -> torch.device:
    """The device to predict on: `auto` is a GPU where there is one. Raises `InputError` for one that is not here."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if there["cuda"] else "cpu")
    if name not in there:
        raise unknown("device", name, ["auto", *there])
    if not there[name]:
        raise InputError(f"There is no {name} on this machine: choose another device, or auto.")
    return torch.device(name)
