"""What was found while configs were checked, so that the runs of a comparison do not check the same thing again."""

import json
from collections.abc import Callable
from typing import Any

from headstart import notes

KEPT = 256
"""Of each kind, the latest that are kept; fewer of what is large."""


class Findings:
    """Keeps what was made for a key, with what was said on the way, which is said again.

    Whoever checks several configs makes one and hands it on: a comparison, or the process that carries out its runs.
    Keys name settings, not the files that they lead to; `unchanged` sees to it that these are still what they were.
    """

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, tuple[Any, list[str]]]] = {}

    def get(self, what: str, key: str, make: Callable[[], Any], kept: int = KEPT) -> Any:
        """What `make` gave the last time for this key; only the latest few of each kind are kept."""
        alike = self._kept.setdefault(what, {})
        if key in alike:
            value, said = alike[key]
            notes.say_again(said)
            return value
        with notes.listening() as heard:
            while len(alike) >= kept:  # before: there may be no room for both
                del alike[next(iter(alike))]
            value = make()
        alike[key] = value, heard.messages
        return value


def key_of(*values: Any) -> str:
    """A key that tells all of these values."""
    return json.dumps(values, sort_keys=True, default=str)
