"""From overrides that hold several values to the list of runs: grids, paired values and explicit lists."""

from collections.abc import Mapping, Sequence
from itertools import islice, product
from math import prod
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override

from headstart.config import overrides
from headstart.errors import InputError

Line = tuple[str, ...]
"""The overrides of one run."""
MOST_RUNS = 10_000
"""Runs of a comparison: all are composed and checked before the first begins, at some milliseconds each."""


def expand(
    loader: ConfigLoader,
    arguments: Sequence[str],
    params: Mapping[str, str],
    paired: Mapping[str, str],
    runs: Sequence[str],
) -> list[Line]:
    """Every run: each of `runs` (if any) × each pairing × the grid of `params` and `arguments`.

    `arguments` win over `params` of the same key. Values are in Hydra's syntax: `a,b`, `range(1,4)`, `choice(a,b)`, and
    stay as they were typed: what is interpolated is so in each run.

    Raises:
        InputError: if paired keys have different numbers of values, a sweep has no end, no value or too many, or a line
            of `runs` has a quote or bracket that is not closed.
    """
    given = OverridesParser.create(config_loader=loader).parse_overrides(list(arguments))
    typed = {one.get_key_element() for one in given}
    base = _parse(loader, _assigned({key: value for key, value in params.items() if key not in typed}))
    grid = [_values(one) for one in (*base, *given)]
    lines, pairings = _lines(loader, runs), _pairings(loader, paired)
    _check_number(prod(map(len, grid)) * len(lines) * len(pairings))
    return [(*line, *pairing, *point) for line, pairing, point in product(lines, pairings, product(*grid))]


def _check_number(count: int) -> None:
    if count > MOST_RUNS:
        raise InputError(
            f"A comparison may have at most {MOST_RUNS:,} runs, but these settings make {count:,}. List fewer."
        )


def _parse(loader: ConfigLoader, lines: Sequence[str]) -> list[Override]:
    return OverridesParser.create(config_loader=loader).parse_overrides(list(lines))


def _assigned(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={'null' if value is None else value}" for key, value in values.items()]


def _values(override: Override) -> list[str]:
    """The override once for each of its values."""
    assert override.input_line is not None
    if not override.is_sweep_override():
        return [override.input_line]
    if not override.is_discrete_sweep():
        key = override.get_key_element()
        raise InputError(f"{override.input_line} must list its values, as in {key}=1,2 or {key}=range(1,3).")
    key, _, text = override.input_line.partition("=")
    sweep = override.value()
    if isinstance(sweep, ChoiceSweep) and sweep.simple_form:
        return [f"{key}={value}" for value in overrides.values(text)]
    try:
        found = [f"{key}={value}" for value in islice(override.sweep_string_iterator(), MOST_RUNS + 1)]
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{override.input_line} cannot be listed: {error}. Write its values, as in {key}=1,2."
        ) from error
    if not found:
        raise InputError(f"{override.input_line} gives no value at all. Write them, as in {key}=1,2.")
    if len(found) > MOST_RUNS:
        raise InputError(
            f"A comparison may have at most {MOST_RUNS:,} runs, but {override.input_line} gives more values than that. "
            "List fewer."
        )
    return found


def _pairings(loader: ConfigLoader, paired: Mapping[str, str]) -> list[Line]:
    columns = [_values(one) for one in _parse(loader, _assigned(paired))]
    counts = {key: len(column) for key, column in zip(paired, columns, strict=True)}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{key} has {count}" for key, count in counts.items())
        raise InputError(f"Keys in hydra.sweeper.zip must have as many values as each other, but {listed}.")
    return list(zip(*columns, strict=True)) if columns else [()]


def _lines(loader: ConfigLoader, runs: Sequence[str]) -> list[Line]:
    """The overrides of each line; one with several values for a key stands for as many runs."""
    return [point for line in runs for point in product(*map(_values, _parse(loader, _words(line))))] or [()]


def _words(line: str) -> list[str]:
    try:
        return overrides.words(str(line))
    except ValueError as error:
        raise InputError(
            f"A line of hydra.sweeper.runs cannot be cut into overrides, as {error}: {line} Write each as on the "
            f"command line, such as {overrides.in_shell('data.root', 'my photos, 2024')}."
        ) from None
