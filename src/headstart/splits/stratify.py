"""Examples dealt out to parts so that each part has its share of every class, and no unit is divided."""

from collections.abc import Iterator

import numpy as np

from headstart.seeding import stream

NO_PART = -1


def deal(labels: np.ndarray, units: np.ndarray, wanted: np.ndarray, seed: int, name: str) -> np.ndarray:
    """Number of the part of each example `(N,)`, or `NO_PART` for those that are left over.

    Args:
        labels: Class `(N,)` of each example.
        units: `(N,)`, equal for examples that must lie in one part; of one class each.
        wanted: How many examples of each class each part is to get `(P, L)`.
        seed: Of the order in which a class's units are dealt; `name` is the stream's.

    Where every unit is one example, a part gets just the number that it wants. Else it gets units as long as that
    brings it nearer to the number, and at least one; but each later part, and what is left over, keeps one as well.
    """
    dealt = np.full(len(labels), NO_PART)
    _, firsts, unit_of, sizes = np.unique(units, return_index=True, return_inverse=True, return_counts=True)
    are_single = len(sizes) == len(units)
    by_unit = [] if are_single else np.split(np.argsort(unit_of, kind="stable"), np.cumsum(sizes)[:-1])
    for label in np.unique(labels).tolist():
        order = stream(seed, name, label).permutation(np.sort(firsts[labels[firsts] == label]))
        counts = wanted[:, label]
        if are_single:
            ends = np.cumsum(counts)
            for part, end in enumerate(ends.tolist()):
                dealt[order[end - counts[part] : end]] = part
            continue
        waiting = unit_of[order].tolist()
        for part, count in enumerate(counts.tolist()):
            most = len(waiting) - (len(counts) - part)
            taken = _taken([int(sizes[unit]) for unit in waiting], count, most)
            for place in taken:
                dealt[by_unit[waiting[place]]] = part
            waiting = [unit for place, unit in enumerate(waiting) if place not in taken]
    return dealt


def _taken(sizes: list[int], count: int, most: int) -> set[int]:
    """Which units a part takes, of those that wait: at most `most`, as near to `count` examples as comes in turn."""
    taken: set[int] = set()
    got = 0
    for place, size in enumerate(sizes):
        if len(taken) >= most or got >= count:
            break
        if abs(got + size - count) < abs(got - count):
            taken.add(place)
            got += size
    if not taken and count > 0 and most > 0:
        taken.add(int(np.argmin(sizes)))
    return taken


def level(labels: np.ndarray, units: np.ndarray, start: np.ndarray, seed: int, name: str) -> np.ndarray:
    """Number of the part of each example `(N,)`, such that all parts have as many of every class, and in all, as each
    other: units are dealt in a drawn order, large ones first, each to the part that has the fewest.

    Args:
        labels: Class `(N,)` of each example.
        units: `(N,)`, equal for examples that must lie in one part; of one class each.
        start: How many examples of each class each part has already `(P, L)`.
        seed: Of the order in which a class's units are dealt; `name` is the stream's.
    """
    _, firsts, unit_of, sizes = np.unique(units, return_index=True, return_inverse=True, return_counts=True)
    part_of = np.full(len(sizes), NO_PART)
    totals = start.sum(1).tolist()
    for label in np.unique(labels).tolist():
        order = stream(seed, name, label).permutation(np.flatnonzero(labels[firsts] == label))
        order = order[np.argsort(-sizes[order], kind="stable")]
        counts = start[:, label].tolist()
        for unit, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
            part = min(range(len(counts)), key=lambda place: (counts[place], totals[place]))
            part_of[unit] = part
            counts[part] += size
            totals[part] += size
    return part_of[unit_of]


def iterate(
    labels: np.ndarray, units: np.ndarray, want: np.ndarray, room: np.ndarray, seed: int, name: str
) -> np.ndarray:
    """Number of the part of each example `(N,)`: iterative stratification (Sechidis et al. 2011, algorithm 1) of units.

    The label that is left on the fewest examples is dealt first, each unit to the part that still wants most of it; so
    rare labels, and units of several, are spread as evenly as they can be.

    Args:
        labels: Class `(N,)` of each example; or `(N, L)`, 0 or 1, where it may have several.
        units: `(N,)`, equal for examples that must lie in one part.
        want: How many examples of each label each part is to get `(P, L)`; they need not be whole.
        room: How many examples each part is to get `(P,)`.
        seed: Of the order in which units are dealt, and of ties; `name` is the stream's.
    """
    rng = stream(seed, name)
    _, unit_of, sizes = np.unique(units, return_inverse=True, return_counts=True)
    held = _held(labels, unit_of, len(sizes))
    want, room = want.astype(float).copy(), room.astype(float).copy()
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]  # large ones while there is room
    of_label: list[list[int]] = [[] for _ in range(want.shape[1])]
    for unit in order.tolist():
        for label in held[unit][0]:
            of_label[label].append(unit)
    left = np.zeros(want.shape[1])
    for found, numbers in held:
        left[found] += numbers
    part_of = np.full(len(sizes), NO_PART)
    for chosen, label in _turns(of_label, left, part_of, order):
        for unit in chosen:
            part = _neediest(room if label is None else want[:, label], room, rng)
            found, numbers = held[unit]
            part_of[unit] = part
            want[part, found] -= numbers
            left[found] -= numbers
            room[part] -= sizes[unit]
    return part_of[unit_of]


def _turns(
    of_label: list[list[int]], left: np.ndarray, part_of: np.ndarray, order: np.ndarray
) -> Iterator[tuple[list[int], int | None]]:
    """The units that are dealt together, and the label for whose sake; those without a label come last."""
    while left.any():
        label = int(np.argmin(np.where(left > 0, left, np.inf)))
        yield [unit for unit in of_label[label] if part_of[unit] == NO_PART], label
    yield [unit for unit in order.tolist() if part_of[unit] == NO_PART], None


def _held(labels: np.ndarray, unit_of: np.ndarray, num_units: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The labels of each unit, and how many of its examples have each."""
    places, found = np.nonzero(labels) if labels.ndim == 2 else (np.arange(len(labels)), labels)
    num_labels = int(found.max(initial=0)) + 1
    pairs, numbers = np.unique(unit_of[places] * num_labels + found, return_counts=True)
    cuts = np.searchsorted(pairs, np.arange(1, num_units) * num_labels)
    return list(zip(np.split(pairs % num_labels, cuts), np.split(numbers, cuts), strict=True))


def _neediest(wishes: np.ndarray, room: np.ndarray, rng: np.random.Generator) -> int:
    """The part that wants most; among equals the one with most room, then one by chance."""
    best = np.flatnonzero(wishes >= wishes.max() - 1e-9)
    if len(best) > 1:
        best = best[room[best] >= room[best].max() - 1e-9]
    return int(best[0] if len(best) == 1 else rng.choice(best))
