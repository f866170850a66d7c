"""A backbone and a head that have been trained."""

from torch import Tensor, nn

from headstart.backbones.backbone import Backbone, Inputs


class TrainedModel(nn.Module):
    """Inputs → logits `(B, C)`, by the weights of a run's selected epoch, in eval mode on the CPU."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits `(B, C)`; `inputs` are a batch of examples read as the run's `reading` says."""
        return self.head(self.backbone(inputs))
