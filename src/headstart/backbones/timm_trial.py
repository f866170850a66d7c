"""A timm model tried without memory: the shape of what it gives, and what of a picture it leaves unread."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from headstart.backbones.timm_create import Created
from headstart.config.sides import Sides, height_width


@dataclass(frozen=True)
class Patches:
    """How a model takes a picture: in patches that do not overlap, of which whole ones alone are read."""

    step: int = 1
    """Pixels from one patch to the next; 1 where there are no such patches, so that there is no grid to keep to."""
    unread: tuple[int, int] = (0, 0)
    """Rows at the bottom, and columns at the right, that nothing after the patches depends on."""


@dataclass(frozen=True)
class Trial(Created):
    """A model on the meta device (or, where it computes values while it is made, on the CPU)."""

    shape: tuple[int, ...]
    """Of what it gives for one picture."""
    patches: Patches


class TrialError(Exception):
    """A model could not be made, or could not read a picture; `step` as in `Patches`, as far as it was seen."""

    def __init__(self, cause: Exception, step: int) -> None:
        super().__init__(str(cause))
        self.step = step


def try_out(make: Callable[[], Created], size: Sides, is_own: bool = False, channels: int = 3) -> Trial:
    """Make a model and let it read a picture of `size` pixels; nothing is computed where that can be avoided.

    That cannot be where a model looks values up by their place: on the meta device no place is out of range. `is_own`:
    whether `size` is that of the model's weights, at which all of them are there.

    Raises:
        TrialError: whatever was wrong; timm raises all kinds of exceptions.
    """
    try:
        trial, looks_up = _tried(make, size, channels, torch.device("meta"))
        if is_own or not looks_up:
            return trial
    except TrialError as error:
        if not _needs_values(error.__cause__):
            raise
    return _tried(make, size, channels, torch.device("cpu"))[0]


def _needs_values(error: BaseException | None) -> bool:
    """Whether it is the meta device that a model cannot do with, and not the size or an argument."""
    return isinstance(error, NotImplementedError) or (isinstance(error, RuntimeError) and "meta" in str(error))


def _tried(make: Callable[[], Created], size: Sides, channels: int, device: torch.device) -> tuple[Trial, bool]:
    """The trial, and whether the model looks values up."""
    patching = _Patching(size)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            with device:
                created = make()
            with patching:
                features = created.model.eval()(torch.zeros(1, channels, *height_width(size), device=device))
            created.model.train()
    except Exception as error:
        raise TrialError(error, patching.patches.step) from error
    return Trial(created.model, created.filter_fn, tuple(features.shape), patching.patches), patching.looks_up


@dataclass
class _Side:
    """Height or width of a picture on its way through windows.

    Output `i` of what came so far depends on the pixels from `start + i * jump` on, `reach` of them.
    """

    size: int
    now: int
    jump: int = 1
    reach: int = 1
    start: int = 0

    def unread(self, kernel: int, stride: int) -> int:
        """Pixels at the end that no whole window reaches."""
        last = ((self.now - kernel) // stride) * stride + kernel - 1
        return max(0, self.size - (self.start + last * self.jump + self.reach))

    def move(self, kernel: int, stride: int, padding: int) -> None:
        self.start -= padding * self.jump
        self.reach += (kernel - 1) * self.jump
        self.jump *= stride
        self.now = (self.now + 2 * padding - kernel) // stride + 1


class _Patching(TorchFunctionMode):
    """Follows a picture through a model's first convolutions, up to one whose windows do not overlap."""

    def __init__(self, size: Sides) -> None:
        super().__init__()
        self.patches = Patches()
        height, width = height_width(size)
        self._sides = (_Side(height, height), _Side(width, width))
        self._is_over = False
        self.looks_up = False
        """Whether values were taken by places that a tensor says."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.looks_up |= _looks_up(func, args)
        if not self._is_over:
            if func is torch.conv2d:
                self._convolution(*args, **kwargs)
            elif func is torch.nn.functional.unfold:
                self._window(args[0], *_window_of(*args[1:], **kwargs))
            self._is_over |= getattr(func, "__name__", "") in _MIXING
        return func(*args, **kwargs)

    def _convolution(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: Any = 1,
    ) -> None:
        kernel, spread = weight.shape[-1], _one(dilation) * (weight.shape[-1] - 1)
        if weight.shape[-2] == kernel:
            pad = {"same": spread // 2, "valid": 0}[padding] if isinstance(padding, str) else _one(padding)
            self._window(input, spread + 1, _one(stride), pad)

    def _window(self, input: Tensor, kernel: int, stride: int, padding: int) -> None:
        rows, columns = self._sides
        if tuple(input.shape[-2:]) != (rows.now, columns.now):  # off the main path
            return
        if 1 < kernel <= stride and not padding:
            unread = rows.unread(kernel, stride), columns.unread(kernel, stride)
            self.patches = Patches(stride * rows.jump, unread)
            self._is_over = True
        for side in self._sides:
            side.move(kernel, stride, padding)


_LOOK_UPS = frozenset({"embedding", "gather", "index_select", "take_along_dim", "take"})


def _looks_up(func: Any, args: Any) -> bool:
    if func is Tensor.__getitem__:
        places = args[1] if isinstance(args[1], tuple) else (args[1],)
        return any(isinstance(place, Tensor) for place in places)
    return getattr(func, "__name__", "") in _LOOK_UPS


_MIXING = frozenset({"scaled_dot_product_attention", "matmul", "bmm", "einsum", "softmax", "linear"})
"""Operations after which every place may depend on all others."""


def _window_of(kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> tuple[int, int, int]:
    return _one(dilation) * (_one(kernel_size) - 1) + 1, _one(stride), _one(padding)


def _one(value: Any) -> int:
    return value if isinstance(value, int) else value[-1]
