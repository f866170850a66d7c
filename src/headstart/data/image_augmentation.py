"""Augmentations of pictures: torchvision's transforms v2, on uint8, or floats from 0 to 1.

One picture at a time, each with its own rng: on a CPU that is quicker than resampling whole batches by a grid.
"""

from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from torch import Tensor

from headstart.compat import declare_torchvision_operators
from headstart.config.ranges import Concentration, Fraction, Views
from headstart.data.augmentation import Augmentation
from headstart.data.device_augmentation import changed, check_steps, drawn

Magnitude = Annotated[int, Ge(0), Le(30)]
AreaShare = Annotated[float, Gt(0), Le(1)]
Grey = Annotated[int, Ge(0), Le(255)]
Policy = Literal["trivial_augment", "rand_augment", "three_augment"]
Place = Literal["workers", "device"]
"""Where pictures are changed."""
Operations = Annotated[int, Ge(1), Le(100)]


class ImageAugmentation(Augmentation):
    """A torchvision transform on each picture; subclasses say which."""

    white: float = 255
    """What is white in the pictures that a transform is for: 255 of uint8, 1 of floats (pictures kept in 16 bits)."""
    modality: Literal["vision", "text", "audio", "any"] = "vision"
    changes_examples = True

    def example(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`pixels` `(C, H, W)`, uint8 or floats from 0 to 1, changed; of the same size, whatever is cut out of `whole`
        where that is there."""
        rest = {name: tensor for name, tensor in inputs.items() if name not in ("pixels", "whole")}
        height, width = inputs["pixels"].shape[-2:]
        given = inputs.get("whole", inputs["pixels"])
        transform = _made(self, 1.0 if given.is_floating_point() else 255, height, width)
        return {**rest, "pixels": transform(given)}

    def thrown(self, shape: Sequence[int], size: tuple[int, int]) -> Tensor:
        return drawn(_made(self, 255, *size).transforms, shape, size)

    def finished(self, pixels: Tensor, dice: Tensor, size: tuple[int, int]) -> Tensor:
        return changed(pixels, dice, size, self.of_colours)

    def _on(self, place: Place) -> None:
        """Have examples changed there; raise `InputError` where that is not offered."""
        self.on_device = place == "device"
        if self.on_device:
            check_steps(_made(self, 255, 8, 8).transforms)

    def transform(self, v2: Any, size: tuple[int, int]) -> Any:
        """The transform for pictures of `size` (height, width), from torchvision's module `v2`."""
        raise NotImplementedError

    def _level(self, level: int) -> float:
        """A level of 0 to 255 in the numbers of the pictures."""
        return level if self.white == 255 else level * self.white / 255


class Light(ImageAugmentation):
    """A crop of most of the picture, resized to its size, and a mirror image half of the time.

    Args:
        min_scale: Smallest share of the area that a crop keeps.
        flip: Probability of mirroring left and right; 0 where sides matter (text, arrows).
        views: Versions of each picture kept for a frozen backbone: the picture as it is, then augmented.
        place: `workers` changes one picture after the other where they are read, `device` whole batches where the model
            is, by the same dice (see `device_augmentation`).
    """

    cuts = True

    def __init__(
        self, min_scale: AreaShare = 0.7, flip: Fraction = 0.5, views: Views = 1, place: Place = "workers"
    ) -> None:
        self._min_scale = min_scale
        self._flip = flip
        self.is_idle = min_scale == 1 and flip == 0 and not self.mixes
        self.views = views
        self._on(place)

    def transform(self, v2: Any, size: tuple[int, int]) -> Any:
        crop = _crop(v2, size, self._min_scale)
        return v2.Compose([crop, v2.RandomHorizontalFlip(self._flip)])


class Standard(ImageAugmentation):
    """What networks on photographs are trained with: a crop of the whole picture, a mirror image half of the time, and
    whichever of these is asked for: a policy, colours changed, a rectangle erased, in this order.

    The crop is that of Szegedy et al. (2015, arXiv:1409.4842, section 6), as torchvision and timm have it; it is cut
    out of the whole picture where the data keep that. The policies see what is cut out.

    Args:
        min_scale: Smallest share of the area that a crop keeps; its sides are as 3:4 to 4:3, times those read.
        flip: Probability of mirroring left and right; 0 where sides matter (text, arrows).
        jitter: How far brightness, contrast and saturation go from 1, either way.
        policy: `trivial_augment` (arXiv:2103.10158), `rand_augment` (arXiv:1909.13719, two operations of strength 9) or
            `three_augment` (Touvron et al. 2022, arXiv:2204.07118: one of grey, inverted highlights and blur).
        erase: Probability that a rectangle of 2% to a third of the area is made grey (Zhong et al. 2020,
            arXiv:1708.04896).
        fill: Grey (0 to 255) of what is erased, and of what turning and shearing uncover.
        views: Versions of each picture kept for a frozen backbone: the picture as it is, then augmented.
        place: As for `Light`; the policies are for `workers` alone.
    """

    cuts = needs_whole = True

    def __init__(
        self,
        min_scale: AreaShare = 0.08,
        flip: Fraction = 0.5,
        jitter: Fraction = 0.0,
        policy: Policy | None = None,
        erase: Fraction = 0.0,
        fill: Grey = 128,
        views: Views = 1,
        place: Place = "workers",
    ) -> None:
        self._min_scale, self._flip, self._jitter = min_scale, flip, jitter
        self._policy, self._erase, self._fill, self.views = policy, erase, fill, views
        self.of_colours = policy is not None or jitter > 0
        self._on(place)

    def transform(self, v2: Any, size: tuple[int, int]) -> Any:
        steps = [_crop(v2, size, self._min_scale)]
        steps += [v2.RandomHorizontalFlip(self._flip)] if self._flip else []
        steps += [] if self._policy is None else [_policy(v2, self._policy, self._level(self._fill), self._level(128))]
        steps += [v2.ColorJitter(self._jitter, self._jitter, self._jitter)] if self._jitter else []
        steps += [v2.RandomErasing(self._erase, value=self._level(self._fill))] if self._erase else []
        return v2.Compose(steps)


def _crop(v2: Any, size: tuple[int, int], min_scale: float) -> Any:
    """Of a shape that, brought to `size`, is stretched by a third at most, as it is for squares."""
    shape = size[1] / size[0]
    ratio = (3 / 4 * shape, 4 / 3 * shape)
    return v2.RandomResizedCrop(size, scale=(min_scale, 1.0), ratio=ratio, antialias=True)


def _policy(v2: Any, name: Policy, fill: float, middle: float) -> Any:
    if name == "trivial_augment":
        return v2.TrivialAugmentWide(fill=fill)
    if name == "rand_augment":
        return v2.RandAugment(2, 9, num_magnitude_bins=31, fill=fill)
    blur = v2.GaussianBlur(kernel_size=5, sigma=(0.1, 2.0))
    return v2.RandomChoice([v2.Lambda(_without_colour), v2.RandomSolarize(middle, p=1.0), blur])


def _without_colour(pixels: Tensor) -> Tensor:
    """In grey, with as many channels as before."""
    grey: Tensor = _v2().functional.rgb_to_grayscale(pixels, num_output_channels=pixels.shape[-3])
    return grey


class TrivialAugment(ImageAugmentation):
    """One operation at random strength: TrivialAugment Wide (Müller & Hutter 2021, arXiv:2103.10158).

    Args:
        fill: Grey (0 to 255) of what turning and shearing uncover.
        views: Versions of each picture kept for a frozen backbone: the picture as it is, then augmented.
    """

    of_colours = True

    def __init__(self, fill: Grey = 0, views: Views = 1) -> None:
        self._fill = fill
        self.views = views

    def transform(self, v2: Any, size: tuple[int, int]) -> Any:
        return v2.TrivialAugmentWide(fill=self._level(self._fill))


class RandAugment(ImageAugmentation):
    """Several operations in a row at one strength: RandAugment (Cubuk et al. 2020, arXiv:1909.13719).

    Args:
        num_ops: Operations on each picture.
        magnitude: Their strength, 0 to 30.
        fill: Grey (0 to 255) of what turning and shearing uncover.
        views: Versions of each picture kept for a frozen backbone: the picture as it is, then augmented.
    """

    of_colours = True

    def __init__(self, num_ops: Operations = 2, magnitude: Magnitude = 9, fill: Grey = 0, views: Views = 1) -> None:
        self._num_ops = num_ops
        self._magnitude = magnitude
        self._fill = fill
        self.views = views

    def transform(self, v2: Any, size: tuple[int, int]) -> Any:
        return v2.RandAugment(self._num_ops, self._magnitude, num_magnitude_bins=31, fill=self._level(self._fill))


class MixupCutmix(Light):
    """`Light` on each picture; each batch then goes through mixup or CutMix, at even chances.

    Mixup: Zhang et al. 2018, arXiv:1710.09412. CutMix: Yun et al. 2019, arXiv:1905.04899.

    Args:
        mixup_alpha: Both parameters of the Beta distribution of mixup's share.
        cutmix_alpha: The same for CutMix.
        min_scale, flip, views, place: As for `Light`. Views are not mixed.
    """

    mixes = True

    def __init__(
        self,
        mixup_alpha: Concentration = 0.2,
        cutmix_alpha: Concentration = 1.0,
        min_scale: AreaShare = 0.7,
        flip: Fraction = 0.5,
        views: Views = 1,
        place: Place = "workers",
    ) -> None:
        super().__init__(min_scale, flip, views, place)
        self._alphas = (mixup_alpha, cutmix_alpha)

    def batch(self, inputs: dict[str, Tensor], targets: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """`pixels` `(B, C, H, W)` and targets `(B, O)` mixed with their neighbours in the batch."""
        mix = _mixer(*self._alphas)
        mixed, shares = mix(inputs["pixels"].float(), targets)
        if not inputs["pixels"].is_floating_point():
            mixed = mixed.round_().to(inputs["pixels"].dtype)
        return {**inputs, "pixels": mixed}, shares


def _v2() -> Any:
    declare_torchvision_operators()
    from torchvision.transforms import v2

    return v2


@lru_cache(maxsize=16)
def _made(augmentation: ImageAugmentation, white: float, height: int, width: int) -> Any:
    """Its transform for pictures of this size, made once."""
    own = copy(augmentation)
    own.white = white
    return own.transform(_v2(), (height, width))


@lru_cache(maxsize=16)
def _mixer(mixup_alpha: float, cutmix_alpha: float) -> Any:
    v2 = _v2()
    return v2.RandomChoice([v2.MixUp(alpha=mixup_alpha), v2.CutMix(alpha=cutmix_alpha)])
