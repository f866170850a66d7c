"""Examples go through a model in the order in which they came, and few of them are in memory at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstart.data.class_folders import Kind
from headstart.data.unlabelled import Reader
from headstart.predict.inputs import Example
from headstart.predict.stream import stream


class Numbers(Reader):
    """Reads a file's name as a number; batches of like lengths are made among three."""

    kind, window = Kind("numbers", frozenset(), ""), 3

    def read(self, content: Any) -> int:
        return int(content.name)

    def length(self, item: int) -> int:
        return -item

    def batch(self, items):
        return {"numbers": torch.tensor(items)}


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_answers_come_in_order_whatever_the_batches(batch_size: int):
    pulled, sizes = [0], []

    def examples() -> Iterator[Example]:
        for number in range(500):
            pulled[0] += 1
            yield Example(str(number), Path("none" if number % 50 == 7 else str(number)))

    def model(batch) -> np.ndarray:
        sizes.append(len(batch["numbers"]))
        return batch["numbers"].numpy()[:, None] * 2.0

    for place, said in enumerate(stream(examples(), Numbers(), model, batch_size)):
        assert said.name == str(place)
        assert pulled[0] - place <= 3 * batch_size + 2 * batch_size + 8  # a window, and what is read ahead
        if place % 50 == 7:
            assert said.values is None
            assert "invalid literal" in said.problem
        else:
            assert said.values.tolist() == [2.0 * place]
    assert place == 499
    assert max(sizes) <= batch_size


def test_what_reads_ahead_ends_with_whoever_listens():
    found = stream(
        (Example(str(n), Path(str(n))) for n in range(10**9)), Numbers(), lambda b: np.zeros((len(b["numbers"]), 1)), 1
    )
    assert next(found).name == "0"
    found.close()
