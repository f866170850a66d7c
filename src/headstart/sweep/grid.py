"""From overrides that hold several values to the list of runs: grids, paired values and explicit lists."""

from collections.abc import Mapping, Sequence
from itertools import product

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from headstart.errors import InputError

Line = tuple[str, ...]
"""The overrides of one run."""


def expand(
    loader: ConfigLoader,
    arguments: Sequence[str],
    params: Mapping[str, str],
    paired: Mapping[str, str],
    runs: Sequence[str],
) -> list[Line]:
    """Every run: each of `runs` (if any) × each pairing × the grid of `params` and `arguments`.

    `arguments` win over `params` of the same key. Values are in Hydra's syntax: `a,b`, `range(1,4)`, `choice(a,b)`.

    Raises:
        InputError: if paired keys have different numbers of values, or a sweep has no end.
    """
    given = OverridesParser.create(config_loader=loader).parse_overrides(list(arguments))
    typed = {one.get_key_element() for one in given}
    base = _parse(loader, [f"{key}={value}" for key, value in params.items() if key not in typed])
    grid = [_values(one) for one in (*base, *given)]
    return [
        (*line, *pairing, *point)
        for line, pairing, point in product(_lines(runs), _pairings(loader, paired), product(*grid))
    ]


def _parse(loader: ConfigLoader, lines: Sequence[str]) -> list[Override]:
    return OverridesParser.create(config_loader=loader).parse_overrides(list(lines))


def _values(override: Override) -> list[str]:
    """The override once for each of its values."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}" if not override.is_delete() else f"{key}"]
    if not override.is_discrete_sweep():
        raise InputError(f"{override.input_line} must list its values, as in {key}=1,2 or {key}=range(1,3).")
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _pairings(loader: ConfigLoader, paired: Mapping[str, str]) -> list[Line]:
    columns = [_values(one) for one in _parse(loader, [f"{key}={value}" for key, value in paired.items()])]
    counts = {key: len(column) for key, column in zip(paired, columns, strict=True)}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{key} has {count}" for key, count in counts.items())
        raise InputError(f"Keys in hydra.sweeper.zip must have as many values as each other, but {listed}.")
    return list(zip(*columns, strict=True)) if columns else [()]


def _lines(runs: Sequence[str]) -> list[Line]:
    return [tuple(line.split()) for line in runs] or [()]
