"""Labels that are one class each, told from those that are something else."""

import re
from collections.abc import Sequence

from headstart.errors import InputError
from headstart.tasks.task import Cell

_NUMBER = re.compile(r"[+-]?(\d+)(?:[.,](\d+))?(?:[eE][+-]?\d+)?", re.ASCII)
_MOST_REAL_CLASSES = 20


def class_names(cells: Sequence[Cell], where: str) -> list[str]:
    """The name of each example's class.

    Raises:
        InputError: if labels are several to an example, or measure something, naming the task for them.
    """
    several = [cell for cell in cells if not isinstance(cell, str)]
    if several:
        raise InputError(
            f"{where} has several labels to an example, such as {several[0]!r}: a class is one name. Use "
            "task=multilabel if any number of labels may hold of an example, task=regression if they are numbers, or "
            "give one label column."
        )
    if numbers := real_values(cells):
        raise InputError(
            f"{where} has fractions as labels, {len(set(cells))} different ones among {len(cells)} examples, from "
            f"{min(numbers):g} to {max(numbers):g}. Predicting a number is a regression, not a choice among classes: "
            "use task=regression, or name a column of classes, or group the numbers into a few of them."
        )
    return list(cells)


def real_values(names: Sequence[str]) -> list[float]:
    """The labels as numbers where they measure something, as far as can be told: they are fractions of many values."""
    different = set(names)
    numbers = [_NUMBER.fullmatch(name) for name in different]
    if not all(numbers) or all(not (number[2] or "").strip("0") for number in numbers if number):
        return []
    if len(different) <= _MOST_REAL_CLASSES and 2 * len(different) <= len(names):
        return []
    return [float(name.replace(",", ".")) for name in names]
