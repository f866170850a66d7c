"""A part of a user's own: a head that ends the process that builds it, as the system does when memory runs out."""

import os
import signal

from torch import nn

from headstart.training.heads import Linear


class Deadly(Linear):
    """As a linear head, but for the killing."""

    def __init__(self, deadly: bool = False) -> None:
        super().__init__()
        self.deadly = deadly

    def build(self, num_features: int, num_classes: int) -> nn.Module:
        made = super().build(num_features, num_classes)
        if self.deadly and not next(made.parameters()).is_meta:  # to check what a run needs, it is made without memory
            os.kill(os.getpid(), signal.SIGKILL)
        return made
