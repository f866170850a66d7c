"""One array of an entry: a `.npy` file written batch by batch, with a checksum."""

import os
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart.system.checksums import crc32_of_file


class ArrayWriter:
    """Writes the rows of one `.npy` file, a batch at a time and in any order."""

    def __init__(self, path: Path, like: Tensor, num_rows: int) -> None:
        self.path, self.like = path, like
        self.file = open(path, "wb")  # noqa: SIM115  (closed by the writer's owner)
        stored = _as_array(like).dtype
        self.facts = {
            "file": path.name,
            "shape": [num_rows, *like.shape[1:]],
            "dtype": str(like.dtype).removeprefix("torch."),
            "stored": str(stored),
        }
        header = {"descr": np.lib.format.dtype_to_descr(stored), "fortran_order": False}
        np.lib.format.write_array_header_1_0(self, header | {"shape": tuple(self.facts["shape"])})
        self.start, self.row_bytes = self.file.tell(), stored.itemsize * prod(like.shape[1:])

    def put(self, rows: np.ndarray, tensor: Tensor) -> None:
        """Write `tensor` `(B, …)` at `rows` `(B,)`, each of them once; neighbours go out in one piece."""
        assert tensor.shape[1:] == self.like.shape[1:]
        assert tensor.dtype == self.like.dtype
        assert len(rows) == len(tensor)
        data = np.ascontiguousarray(_as_array(tensor)).reshape(-1).view(np.uint8).data
        gaps = np.flatnonzero(np.diff(rows) != 1) + 1
        for begin, end in pairwise([0, *gaps.tolist(), len(rows)]):
            self.file.seek(self.start + int(rows[begin]) * self.row_bytes)
            self.write(data[begin * self.row_bytes : end * self.row_bytes])

    def write(self, data: bytes | memoryview) -> None:
        self.file.write(data)

    def finish(self) -> dict[str, Any]:
        """Bring all to the disk; what the entry's description has to say of the file."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return self.facts | {"crc32": crc32_of_file(self.path)}


def _as_array(tensor: Tensor) -> np.ndarray:
    """The tensor's memory as NumPy can hold it: bfloat16, which it lacks, as int16."""
    tensor = tensor.detach().cpu()
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def as_tensor(array: np.ndarray, dtype: str) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor
