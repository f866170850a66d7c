"""A setting that was drawn, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Point = Mapping[str, Any]


@dataclass(frozen=True)
class Tried:
    """A setting that was drawn. `value` is its score on val, `None` while it is under way or if there is none."""

    params: Point
    value: float | None = None
    is_running: bool = False
