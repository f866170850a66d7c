"""An epoch of small operations recorded once on a GPU and played again: to launch each of them anew takes longer than
to compute it."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

log = logging.getLogger(__name__)

Work = Callable[[Any], Sequence[Tensor]]


class EpochGraph:
    """Plays work on tensors of equal shapes again; it may change others in place, always the same ones."""

    def __init__(self) -> None:
        self.recorded: dict[int, tuple[torch.cuda.CUDAGraph, list[Tensor], Sequence[Tensor]]] = {}
        """By what differs between recordings."""
        self.is_possible = True

    def forget(self) -> None:
        """Record anew, for other tensors are changed from now on."""
        self.recorded.clear()

    def run(self, which: int, work: Work, given: Any) -> Sequence[Tensor]:
        """`work(given)`: recorded, and then played."""
        tensors, how = pytree.tree_flatten(given)
        if which not in self.recorded and not self._record(which, work, tensors, how):
            return work(given)
        graph, held, results = self.recorded[which]
        for place, tensor in zip(held, tensors, strict=True):
            place.copy_(tensor)
        graph.replay()
        return [result.clone() for result in results]

    def _record(self, which: int, work: Work, tensors: Sequence[Tensor], how: Any) -> bool:
        """Nothing is computed meanwhile; false if some operation cannot be recorded."""
        if not self.is_possible:
            return False
        held, graph = [tensor.clone() for tensor in tensors], torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                results = work(pytree.tree_unflatten(held, how))
        except RuntimeError as error:
            log.debug("Epochs are not recorded: %s", error)
            self.is_possible = False
            return False
        self.recorded[which] = graph, held, results
        return True
