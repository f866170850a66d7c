"""What was found while configs were checked, so that the runs of a comparison do not check the same thing again."""

import json
from collections.abc import Callable
from typing import Any

from headstart import notes

KEPT = 256
"""Of each kind, the latest that are kept; fewer of what is large."""
PREPARED, MOST_PREPARED = "prepared", 1024
"""Of a comparison's runs, by run id: the text of the config that lies in its directory, and the job that this makes."""


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
            _make_room(alike, kept)  # before: there may be no room for both
            value = make()
        alike[key] = value, heard.messages
        return value

    def keep(self, what: str, key: str, value: Any, kept: int = KEPT) -> None:
        """Keep a value for whoever looks it up; only the latest of each kind."""
        alike = self._kept.setdefault(what, {})
        _make_room(alike, kept)
        alike[key] = value, []

    def look_up(self, what: str, key: str) -> Any | None:
        """What was kept for this key, if it still is."""
        return self._kept.get(what, {}).get(key, (None, []))[0]


def _make_room(alike: dict[str, Any], kept: int) -> None:
    while len(alike) >= kept:
        del alike[next(iter(alike))]


def key_of(*values: Any) -> str:
    """A key that tells all of these values."""
    return json.dumps(values, sort_keys=True, default=str)
