"""Augmentation of texts, after they have become tokens."""

from typing import Literal

import torch
from torch import Tensor

from headstart.config.ranges import ProperFraction, Views
from headstart.data.augmentation import Augmentation


class TokenDropout(Augmentation):
    """Hides tokens at random behind the model's mask token (or its unknown or padding token, where it has no mask).

    Special tokens and padding stay. Word dropout: Iyyer et al. 2015, "Deep Unordered Composition Rivals Syntactic
    Methods for Text Classification", section 2.3.

    Args:
        p: Probability that a token is hidden.
        views: Versions of each text kept for a frozen backbone: the text as it is, then augmented.
    """

    modality: Literal["vision", "text", "audio", "any"] = "text"
    changes_examples = True

    def __init__(self, p: ProperFraction = 0.1, views: Views = 1) -> None:
        self._p = p
        self.is_idle = p == 0
        self.views = views

    def example(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`input_ids` `(L,)` with some of them from `masked_ids`; the same ones however far the text is padded."""
        ids = inputs["input_ids"].clone()
        length = int(inputs["attention_mask"].sum())
        hidden = torch.rand(length) < self._p
        ids[:length] = torch.where(hidden, inputs["masked_ids"][:length], ids[:length])
        return {**inputs, "input_ids": ids}
