"""Ranges for the arguments of configurable parts; `config.bind` checks values against them."""

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

Count = Annotated[int, Ge(1)]
"""A whole number from 1."""
Index = Annotated[int, Ge(0)]
"""A whole number from 0."""
Positive = Annotated[float, Gt(0)]
"""A number above 0."""
NonNegative = Annotated[float, Ge(0)]
"""A number from 0."""
Fraction = Annotated[float, Ge(0), Le(1)]
"""A number from 0 to 1."""
ProperFraction = Annotated[float, Ge(0), Lt(1)]
"""A number from 0, below 1."""
