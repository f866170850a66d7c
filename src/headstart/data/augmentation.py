"""What every augmentation is to the rest of the program: seeded changes of examples, and of batches."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from headstart.config.ranges import Views


class Augmentation:
    """Changes training examples. The base changes nothing, and fits every modality.

    Subclasses draw their rng from torch's default generator only, which the caller has seeded: for `example` from
    (seed, epoch, example), for `batch` from (seed, epoch, batch). So neither workers nor order change a picture.
    """

    modality: Literal["vision", "text", "audio", "any"] = "any"
    """Which inputs it is for."""
    views: int = 1
    """Versions of each training example that are kept for a frozen backbone: the example as it is, then augmented."""
    changes_examples: bool = False
    """Whether `example` does anything; where not, batches are read whole."""
    cuts: bool = False
    """Whether it cuts a part out of each example, so that it may be given whole ones."""
    needs_whole: bool = False
    """Whether that has to be a part of the whole example, wherever there is such a thing."""
    adds: frozenset[str] = frozenset()
    """Inputs that it puts beside those of the data, for a backbone that reads them."""
    of_colours: bool = False
    """Whether it does to a picture what is defined for grey and for red, green and blue alone."""
    mixes: bool = False
    """Whether `batch` mixes examples, so that labels become shares."""

    on_device: bool = False
    """Whether examples are changed in whole batches by `finished`, from what `thrown` gives of each."""

    is_idle: bool = False
    """Whether its settings are such that nothing is changed, though it could be."""

    def example(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """One example, without a batch dimension and as it was read (`pixels` `(C, H, W)` uint8), changed.

        `whole` is beside it where parts are to be cut out of that, of whatever shape.
        """
        return inputs

    def thrown(self, shape: Sequence[int], size: tuple[int, int]) -> Tensor:
        """The numbers that say how a picture of `shape` (C, H, W) is to be changed, from torch's default generator."""
        raise NotImplementedError(f"{type(self).__name__} does not change whole batches")

    def finished(self, pixels: Tensor, dice: Tensor, size: tuple[int, int]) -> Tensor:
        """Pictures `(B, C, H, W)` changed as the `dice` say that were thrown for each, on their device."""
        raise NotImplementedError(f"{type(self).__name__} does not change whole batches")

    def batch(self, inputs: dict[str, Tensor], targets: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """A batch and its targets `(B, O)` float, mixed on their device in the same shares."""
        raise NotImplementedError(f"{type(self).__name__} does not mix examples")


class NoAugmentation(Augmentation):
    """Examples as they are."""

    def __init__(self, views: Views = 1) -> None:
        self.views = views
