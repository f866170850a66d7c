"""Height and width of pictures in pixels: one number where they are square, else both."""

from collections.abc import Sequence

Sides = int | tuple[int, int]
"""A side, or height and width where they differ."""


def sides_of(size: int | Sequence[int]) -> Sides:
    """The one form of a size: `[96, 96]` is 96, so that both name the same run."""
    if isinstance(size, int):
        return size
    height, width = size
    return height if height == width else (height, width)


def height_width(size: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


def told(size: int | Sequence[int]) -> str:
    """In words: `96`, `96 × 160`."""
    return " × ".join(map(str, dict.fromkeys(height_width(size))))


def as_setting(size: int | Sequence[int]) -> str:
    """As it is typed: `96`, `[96,160]`."""
    sides = sides_of(size)
    return str(sides) if isinstance(sides, int) else f"[{sides[0]},{sides[1]}]"
