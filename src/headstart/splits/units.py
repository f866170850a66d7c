"""What may not be divided: examples of one group (a patient, a speaker), and copies of one example."""

from collections.abc import Sequence

import numpy as np


def units(num_examples: int, *memberships: Sequence[str | None] | np.ndarray | None) -> np.ndarray:
    """A number for each example `(N,)`: equal for examples that must lie in one part, by whatever chain.

    Args:
        num_examples: N.
        memberships: Each `(N,)`: examples of one name belong together (a group, a content's hash); `None` for an
            example that belongs to nothing, or in place of a whole membership.

    Units are numbered by the first example of each.
    """
    parent = list(range(num_examples))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for names in memberships:
        for other, place in () if names is None else alike(names):
            low, high = sorted((root(other), root(place)))
            parent[high] = low
    roots = np.array(parent, dtype=np.int64)
    while (above := roots[roots]).tobytes() != roots.tobytes():
        roots = above
    firsts = np.zeros(num_examples + 1, dtype=np.int64)
    firsts[1:][roots] = 1  # the root of each unit is its first example
    return np.cumsum(firsts)[roots]


def alike(names: Sequence[str | None] | np.ndarray) -> list[tuple[int, int]]:
    """Each example that has the name of an earlier one, behind the first one of that name."""
    if len(set(names)) == len(names):
        return []
    first: dict[object, int] = {}
    pairs = ((first.setdefault(name, place), place) for place, name in enumerate(names) if name is not None)
    return [pair for pair in pairs if pair[0] != pair[1]]


def spread(units: np.ndarray, parts: np.ndarray) -> list[int]:
    """Units whose examples lie in more than one part (`""` counts as none)."""
    found: dict[int, set[str]] = {}
    for unit, part in zip(units.tolist(), parts.tolist(), strict=True):
        if part:
            found.setdefault(unit, set()).add(part)
    return [unit for unit, names in found.items() if len(names) > 1]


def mixed(units: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which examples `(N,)` lie in a unit that has examples of several labels."""
    _, unit_of = np.unique(units, return_inverse=True)
    first = np.zeros(unit_of.max(initial=-1) + 1, dtype=labels.dtype)
    first[unit_of] = labels
    several = np.zeros(len(first), dtype=bool)
    several[unit_of[labels != first[unit_of]]] = True
    return several[unit_of]
