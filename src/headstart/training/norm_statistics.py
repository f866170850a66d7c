"""What batch norms follow, measured anew where the weights are not those that were trained."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from headstart.training import scoring

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm


def batch_norms(model: nn.Module) -> Iterator[tuple[str, BatchNorm]]:
    """Those that keep running statistics, by name."""
    for name, module in model.named_modules():
        if isinstance(module, BATCH_NORMS) and module.running_mean is not None:
            yield name, module


def moved(model: nn.Module, states: Sequence[Mapping[str, Tensor]]) -> list[BatchNorm]:
    """The batch norms whose statistics are not the same in all `states` of the model: these alone follow training.

    Those that keep the ones that they came with are to go on keeping them.
    """

    def differs(name: str) -> bool:
        first, *others = (state[f"{name}.running_mean"] for state in states)
        return any(not torch.equal(first, other.to(first.device)) for other in others)

    return [norm for name, norm in batch_norms(model) if differs(name)]


def measure(
    model: nn.Module,
    norms: Sequence[BatchNorm],
    batches: Iterable[Mapping[str, Any]],
    device: torch.device,
    precision: str = "32-true",
) -> None:
    """Set running means and variances of `norms` to the plain mean over `batches` of what each batch has.

    All else in `model`, which is in eval mode, stays in that mode. As `torch.optim.swa_utils.update_bn` does
    (Izmailov et al. 2018, section 3.2).
    """
    if not norms:
        return
    before = [(norm.momentum, norm.track_running_stats) for norm in norms]
    for norm in norms:
        norm.track_running_stats = True
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    try:
        scoring.predict(model, batches, device, precision)
    finally:
        for norm, (momentum, tracks) in zip(norms, before, strict=True):
            norm.momentum, norm.track_running_stats = momentum, tracks
            norm.eval()
