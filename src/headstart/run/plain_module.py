"""A run's model as an ordinary module: tensors in, tensors out, as torch's own tools expect it."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from headstart.run.trained import TrainedModel


class PictureModule(nn.Module):
    """Pictures `(B, C, H, W)`, uint8, uint16 or float from 0 to 1 → logits `(B, C)`; normalising included."""

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__()
        self.trained = trained

    def forward(self, pixels: Tensor) -> Tensor:
        return self.trained({"pixels": pixels})


class TextModule(nn.Module):
    """Token ids `(B, L)`, padded on the right → logits `(B, C)`.

    `attention_mask` `(B, L)` is 1 where there is no padding (by default everywhere); `token_type_ids` `(B, L)` tell a
    first text from a second one, where the tokenizer has them.
    """

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__()
        self.trained = trained

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        inputs = {"input_ids": input_ids, "attention_mask": mask}
        return self.trained(inputs if token_type_ids is None else {**inputs, "token_type_ids": token_type_ids})


class SoundModule(nn.Module):
    """Waveforms `(B, T)`, float, at the sample rate that the run read, 0 where padded → logits `(B, C)`.

    `lengths` `(B,)` int64 are their lengths in samples (by default all of `T`).
    """

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__()
        self.trained = trained

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None:
            lengths = torch.full((waveform.shape[0],), waveform.shape[1], dtype=torch.int64, device=waveform.device)
        return self.trained({"waveform": waveform, "lengths": lengths})


_MODULES = {"vision": PictureModule, "text": TextModule, "audio": SoundModule}


def plain_module(trained: TrainedModel, modality: str) -> nn.Module:
    """The model as a module that can be pickled and compiled; weights are shared with `trained` where they can be."""
    if any(map(parametrize.is_parametrized, trained.modules())):  # which refuse to be pickled
        trained = deepcopy(trained)
        for module in trained.modules():
            if parametrize.is_parametrized(module):
                for name in list(module.parametrizations):  # type: ignore[arg-type]
                    parametrize.remove_parametrizations(module, name)
                module._load_state_dict_pre_hooks.clear()  # torch leaves one there that cannot be pickled either
        trained.requires_grad_(False)
    return _MODULES[modality](trained).eval()
