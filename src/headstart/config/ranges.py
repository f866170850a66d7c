"""Ranges for the arguments of configurable parts; `config.binding` checks values against them."""

from functools import cache, lru_cache
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt

MOST = 10**9
"""What no count of steps, examples or epochs reaches."""
Count = Annotated[int, Ge(1)]
"""A whole number from 1."""
Bytes = Annotated[int, Ge(1), Le(10**15)]
"""Room on a disk or in memory, to a petabyte."""
Index = Annotated[int, Ge(0)]
"""A whole number from 0."""
Positive = Annotated[float, Gt(0)]
"""A number above 0."""
NonNegative = Annotated[float, Ge(0)]
"""A number from 0."""
Spread = Annotated[float, Ge(1e-3), Le(1000)]
"""What values are divided by; a smaller one is 0 to half precision."""
Delta = Annotated[float, Ge(0), Le(1e9)]
"""What a better score must be better by."""
Strength = Annotated[float, Ge(1e-9), Le(1e9)]
"""Of a penalty that there must be."""
Penalty = Annotated[float, Ge(0), Le(10_000)]
"""Strength of a pull towards some weights."""
Fraction = Annotated[float, Ge(0), Le(1)]
"""A number from 0 to 1."""
ProperFraction = Annotated[float, Ge(0), Lt(1)]
"""A number from 0, below 1."""
Multiplier = Annotated[float, Ge(1e-6), Le(1000)]
"""What a learning rate is multiplied by."""
Concentration = Annotated[float, Ge(0.01), Le(1000)]
"""Both parameters of a Beta distribution; beyond, its numbers round to 0, 1 or nothing."""
Side = Annotated[int, Ge(8), Le(4096)]
"""Side of a picture, in pixels."""
Extent = Side | Annotated[list[Side], Len(2, 2)]
"""Side of a square picture, or height and width."""
Channels = Annotated[int, Ge(1), Le(64)]
"""Of a picture."""
Depth = Literal[8, 16]
"""Bits of each of a picture's values."""
Seconds = Annotated[float, Ge(0.01), Le(3600)]
"""Length of a sound."""
Tokens = Annotated[int, Ge(2), Le(1_000_000)]
"""Length of a text."""
Few = Annotated[int, Ge(0), Le(100)]
"""How many times something is done to one example."""
Views = Annotated[int, Ge(1), Le(1000)]
"""Versions of an example that are kept."""
Decibels = Annotated[float, Ge(-200), Le(200)]
"""A level, or a difference of levels."""


PLAIN = (bool, int, float, str, type(None))


def violations(key: str, value: Any, annotation: Any) -> list[str]:
    """What is wrong with the value of `key` by the annotation of a constructor's argument: one message, or none."""
    reason = _known(value, annotation) if type(value) in PLAIN else _wrong(value, annotation)
    return [f"{key} must be {reason}, but is {'null' if value is None else repr(value)}."] if reason else []


def _wrong(value: Any, annotation: Any) -> str:
    """What the value must be and is not; empty if it is."""
    from pydantic import ValidationError

    try:
        _adapter(annotation).validate_python(value)
    except ValidationError as error:
        return " or ".join(dict.fromkeys(_reason(problem["msg"]) for problem in error.errors()))
    return ""


# The runs of a comparison have most values in common; 1, 1.0 and true are three.
_known = lru_cache(4096, typed=True)(_wrong)


def _reason(message: str) -> str:
    """pydantic's words as they go on after "must be"."""
    return message.replace("Input should be ", "").replace("List should have ", "a list of ")


@cache
def _adapter(annotation: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(annotation, config=ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False))
