"""Small products on one thread: faster than sharing them out, and the same numbers for any number of threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 2**26
"""Floating-point operations below which a product is not worth a second thread."""


@contextmanager
def threads_for(num_operations: int) -> Iterator[None]:
    """Torch computes with one thread in this block if its largest product is small."""
    before = torch.get_num_threads()
    try:
        if num_operations < SMALL:
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)
