"""One array of an entry: a `.npy` file written batch by batch, with its checksum on the way."""

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_CHUNK = 1 << 24


class ArrayWriter:
    """Writes one `.npy` file from batches, with its checksum on the way."""

    def __init__(self, path: Path, like: Tensor, num_examples: int) -> None:
        self.path, self.like, self.num_examples = path, like, num_examples
        self.num_written = self.crc32 = 0
        self.file = open(path, "wb")  # noqa: SIM115  (closed by the writer's owner)
        stored = _as_array(like).dtype
        self.facts = {
            "file": path.name,
            "shape": [num_examples, *like.shape[1:]],
            "dtype": str(like.dtype).removeprefix("torch."),
            "stored": str(stored),
        }
        header = {"descr": np.lib.format.dtype_to_descr(stored), "fortran_order": False}
        np.lib.format.write_array_header_1_0(self, header | {"shape": tuple(self.facts["shape"])})

    def append(self, tensor: Tensor) -> None:
        assert tensor.shape[1:] == self.like.shape[1:]
        assert tensor.dtype == self.like.dtype
        self.num_written += len(tensor)
        self.write(np.ascontiguousarray(_as_array(tensor)).reshape(-1).view(np.uint8).data)

    def write(self, data: bytes | memoryview) -> None:
        self.crc32 = zlib.crc32(data, self.crc32)
        self.file.write(data)

    def finish(self) -> dict[str, Any]:
        assert self.num_written == self.num_examples, f"{self.num_written} of {self.num_examples} examples were given"
        self.file.flush()
        os.fsync(self.file.fileno())
        return self.facts | {"crc32": self.crc32}


def _as_array(tensor: Tensor) -> np.ndarray:
    """The tensor's memory as NumPy can hold it: bfloat16, which it lacks, as int16."""
    tensor = tensor.detach().cpu()
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def as_tensor(array: np.ndarray, dtype: str) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor


def crc32_of(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while data := file.read(_CHUNK):
            value = zlib.crc32(data, value)
    return value
