"""Fresh seeds: what was selected is run anew on seeds that none of the comparison used, and only those count.

The settings that did best on val are partly those that were lucky on the seeds that they were selected on. On other
seeds that luck is gone: such runs are marked in the listing, and the report takes scores and verdicts from them alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headstart.config.overrides import key_of
from headstart.errors import InputError
from headstart.sweep.grid import Line

AS_MANY = "as_many"
"""How many fresh seeds: as many as the comparison has."""
MOST = 1000


def number_asked(value: Any) -> int | None:
    """What `hydra.sweeper.fresh_seeds` asks for: a number, 0 for as many as the comparison has, `None` for none.

    Raises:
        InputError: for anything else.
    """
    if value is None or value == AS_MANY:
        return None if value is None else 0
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST:
        return value
    raise InputError(
        f"--fresh-seeds takes a number from 1 to {MOST}, as in --fresh-seeds=5, or none, but got {value!r}."
    )


def fresh_seeds(entries: Iterable[Mapping[str, Any]], number: int) -> list[int]:
    """Seeds that no entry of a listing used but for running anew, `number` of them or, of 0, as many as were used.

    They follow the largest seed used, so that the next call names the same ones and goes on with them.
    """
    used = {entry["seed"] for entry in entries if not entry.get("fresh")}
    first = max(used, default=-1) + 1
    return list(range(first, first + (number or len(used))))


def anew(selected: Iterable[Sequence[str]], seeds: Sequence[int]) -> list[Line]:
    """The runs of the settings selected, by the overrides of the runs that they were selected on, on other seeds."""
    settings = dict.fromkeys(tuple(word for word in line if not _is_seed(word)) for line in selected)
    return [(*line, f"seed={seed}") for line in settings for seed in seeds]


def _is_seed(word: str) -> bool:
    return key_of(word) == "seed"
