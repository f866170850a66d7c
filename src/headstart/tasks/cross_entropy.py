"""Cross-entropy and its gradient in closed form, for a stack of probes."""

from collections.abc import Sequence

import torch
from torch import Tensor


class StackedCrossEntropy:
    """As `torch.nn.functional.cross_entropy` with `weight` and `label_smoothing`, for each probe its own.

    An example with label `y` loses `-Σ_c t_c w_c log p_c`, where `t` is the smoothed one-hot row of `y` and `w` the
    class weights; a batch loses the sum over its examples, divided by the sum of their `w_y`. With smoothing `s`,
    `t_c w_c` is the same `s / C · w_c` for every example, plus `(1 - s) w_y` at `c = y`.
    """

    def __init__(
        self,
        label_smoothing: Sequence[float],
        class_weights: Sequence[Sequence[float] | None],
        num_classes: int,
        device: torch.device,
    ) -> None:
        self.is_smoothed = any(label_smoothing)
        self.is_weighted = any(weights is not None for weights in class_weights)
        smoothing = torch.tensor(label_smoothing, dtype=torch.float64)[:, None]
        rows = [[1.0] * num_classes if weights is None else list(weights) for weights in class_weights]
        weights = torch.tensor(rows, dtype=torch.float64)
        everywhere = smoothing / num_classes * weights
        at_label = (1 - smoothing) * weights
        mass = at_label + everywhere.sum(1, keepdim=True)
        tables = torch.stack([everywhere, at_label, mass, weights])
        self.tables = tables.to(device, torch.float32)
        self.classes = torch.arange(num_classes, device=device).unsqueeze(-1)

    def __call__(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Losses `(K, B)`, whose mean is the batch's loss, and that loss's gradient `(K, C, B)`.

        `scores` are `(K, C, B)`, `labels` `(K, B)`.
        """
        everywhere, at_label, mass, weights = self.tables.unbind()
        num_examples, at = labels.shape[1], labels.unsqueeze(1)
        # Classes lie in the middle: softmax along a short last dimension takes ten times as long.
        log_p = torch.log_softmax(scores, 1)
        share = at_label.gather(1, labels)
        losses = log_p.gather(1, at).squeeze(1).mul_(share).neg_()
        if self.is_smoothed:
            losses.sub_((log_p * everywhere.unsqueeze(-1)).sum(1))
        gradient = log_p.exp_()
        if self.is_weighted:
            gradient.mul_(mass.gather(1, labels).unsqueeze(1))
        if self.is_smoothed:
            gradient.sub_(everywhere.unsqueeze(-1))
        gradient.sub_((self.classes == at) * share.unsqueeze(1))
        if not self.is_weighted:
            return losses, gradient.div_(num_examples)
        total = weights.gather(1, labels).sum(1, keepdim=True)
        return losses.mul_(num_examples).div_(total), gradient.div_(total.unsqueeze(-1))

    def keep(self, members: Sequence[int]) -> None:
        """Go on with these probes alone."""
        self.tables = self.tables[:, torch.tensor(members, device=self.tables.device)]
