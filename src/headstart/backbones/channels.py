"""Weights for pictures in red, green and blue, for pictures of other channels: as timm adapts them."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from headstart.errors import InputError


def adapted(state: Mapping[str, Tensor], model: nn.Module, channels: int) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a model for three channels, for `model`, the same for `channels`; and which were changed.

    Kernels that see the picture are summed over red, green and blue for one channel, so that a grey picture gives what
    it gave in three equal channels; for others they are repeated in turn, times 3 / `channels`
    (`timm.models.adapt_input_conv`).

    Raises:
        InputError: if the model sees the picture by anything but convolutions over its channels.
    """
    from timm.models import adapt_input_conv

    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    made, changed = dict(state), []
    for name, tensor in state.items():
        if shapes.get(name) in (None, tensor.shape):
            continue
        try:
            made[name] = adapt_input_conv(channels, tensor.float())
        except (AssertionError, NotImplementedError, RuntimeError, ValueError) as error:
            raise _cannot(name, channels) from error
        if made[name].shape != shapes[name]:
            raise _cannot(name, channels)
        changed.append(name)
    return made, changed


def channel_values(values: Sequence[float], channels: int) -> list[float]:
    """Of red, green and blue, for other channels: of one, which stands for all three, the mean; else in turn, as their
    kernels are."""
    if channels == 1:
        return [round(sum(values) / len(values), 6)]
    return [values[place % len(values)] for place in range(channels)]


def _cannot(name: str, channels: int) -> InputError:
    return InputError(
        f"Weights for red, green and blue cannot be adapted to data.channels={channels}: {name} is no convolution over "
        "them. Use another backbone, backbone.weights=none, or data.channels=3."
    )
