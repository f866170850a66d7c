"""Products of heads that read the same examples: all their outputs in one, bit-equal to each head's own product.

A library of matrix products sums in an order that depends on the shape: a head of eight outputs alone comes out
otherwise than among thirty. Not so where each product has a multiple of sixteen rows, made up by rows of zeros, as far
as it was seen. Whether it is so here is tried out before it is relied on, for every shape, on random numbers; where it
is not, each head has a product of its own, of equal shape, strides and alignment.
"""

import logging
from collections.abc import Iterable
from functools import lru_cache
from itertools import repeat

import torch
from torch import Tensor

log = logging.getLogger(__name__)

LINE = 16
"""Floats to a cache line; rows of a product are a multiple of it, and each begins at one."""
WIDEST = 256
"""Rows of the largest product: more would win nothing, and would have to be tried out too."""


def padded(count: int) -> int:
    """The next multiple of `LINE`."""
    return -(-count // LINE) * LINE


def shared_heads(num_examples: int, num_inputs: int, num_outputs: int) -> int:
    """How many heads share a product; 1: each has its own."""
    fitting = WIDEST // num_outputs
    if fitting < 2 or not _is_exact(num_examples, num_inputs, num_outputs, torch.get_num_threads()):
        return 1
    return fitting


def say_of(num_examples: Iterable[int], num_inputs: int, num_outputs: int) -> None:
    """Say it if heads that could share a product of one of these sizes may not."""
    if WIDEST // num_outputs < 2:
        return
    apart = [size for size in sorted(set(num_examples)) if shared_heads(size, num_inputs, num_outputs) == 1]
    if apart:
        log.warning(
            "Heads are multiplied one by one, which takes longer: on this machine a product of several rounds "
            "differently from each alone (%d features, %d outputs, batches of %s).",
            *(num_inputs, num_outputs, ", ".join(map(str, apart))),
        )


def rows_for(num_rows: int, num_columns: int, device: torch.device) -> Tensor:
    """A matrix of zeros whose rows each begin at a cache line, with rows to spare for a product that is made up."""
    return torch.zeros(num_rows + LINE, padded(num_columns), device=device)[:, :num_columns]


def each_product(left: Tensor, right: Tensor, out: Tensor) -> None:
    """`out[k] = left[k] @ right[k]`, each by itself; a matrix stands for itself K times."""
    if out.is_cuda:
        batched_product(left, right, out)
        return
    rows = (factor.unbind() if factor.dim() == 3 else repeat(factor) for factor in (left, right))
    for one, other, result in zip(*rows, out.unbind(), strict=False):
        torch.mm(one, other, out=result)


def batched_product(left: Tensor, right: Tensor, out: Tensor) -> None:
    """As `each_product`, in one go."""
    left, right = (factor.expand(len(out), *factor.shape[-2:]) for factor in (left, right))
    out.copy_(torch.bmm(left, right))


def shared_product(left: Tensor, right: Tensor, out: Tensor, rows: slice) -> None:
    """`out[rows] = left[rows] @ right`; rows behind them, fifteen at most, are overwritten with what means nothing."""
    stop = rows.start + padded(rows.stop - rows.start)
    torch.mm(left[rows.start : stop], right, out=out[rows.start : stop])


@lru_cache(maxsize=1024)
def _is_exact(num_examples: int, num_inputs: int, num_outputs: int, num_threads: int) -> bool:
    """Whether a head's outputs and gradients have the same bits alone as in a product of any width, at any place."""
    dice, cpu = torch.Generator().manual_seed(0), torch.device("cpu")

    def random(num_rows: int, num_columns: int) -> Tensor:
        matrix = rows_for(num_rows, num_columns, cpu)
        matrix[:num_rows].copy_(torch.randn(num_rows, num_columns, generator=dice))
        return matrix

    features = torch.randn(num_examples, num_inputs, generator=dice)
    forward = _is_same_alone(random(WIDEST, num_inputs), features.T, num_outputs)
    return forward and _is_same_alone(random(WIDEST, num_examples), features, num_outputs)


def _is_same_alone(left: Tensor, right: Tensor, num_outputs: int) -> bool:
    def product(matrix: Tensor, rows: slice) -> Tensor:
        out = rows_for(len(matrix), right.shape[1], matrix.device)
        shared_product(matrix, right, out, rows)
        return out[rows]

    whole = product(left, slice(0, WIDEST))
    widths = range(LINE, WIDEST, LINE)
    if not all(torch.equal(product(left, slice(0, width)), whole[:width]) for width in widths):
        return False
    alone = rows_for(num_outputs, left.shape[1], left.device)
    places = range(0, WIDEST - num_outputs + 1, num_outputs)
    for start in places[:: max(1, len(places) // 32)]:
        alone[:num_outputs].copy_(left[start : start + num_outputs])
        if not torch.equal(product(alone, slice(0, num_outputs)), whole[start : start + num_outputs]):
            return False
    return True
