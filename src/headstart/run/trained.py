"""A backbone and a head that have been trained."""

import torch
from torch import Tensor, nn

from headstart.backbones.backbone import Backbone, Inputs
from headstart.backbones.waveforms import full_precision


class TrainedModel(nn.Module):
    """Inputs → logits `(B, C)`, by the weights of a run's selected epoch, in eval mode on the CPU.

    `on_features`: whether the head was trained and scored on features that were computed once, in single precision
    whatever the backbone's matrix products were in.
    """

    def __init__(self, backbone: Backbone, head: nn.Module, on_features: bool = False) -> None:
        super().__init__()
        self.backbone, self.head, self.on_features = backbone, head, on_features

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits `(B, C)`; `inputs` are a batch of examples read as the run's `reading` says."""
        features = self.backbone(inputs)
        if not (self.on_features and torch.is_autocast_enabled(features.device.type)):
            return self.head(features)
        with full_precision(features.device.type):
            return self.head(features.float())
