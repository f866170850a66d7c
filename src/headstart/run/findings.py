"""What was found while configs were checked, so that the runs of a comparison do not check the same thing again."""

import json
from collections.abc import Callable
from typing import Any

from headstart import notes

KEPT = 16
"""Of each kind, the latest that are kept."""


class Findings:
    """Keeps what was made for a key, with what was said on the way, which is said again.

    Whoever checks several configs makes one and hands it on: a comparison, or the process that carries out its runs.
    Keys name settings, not the files that they lead to; `unchanged` sees to it that these are still what they were.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[Any, list[str]]] = {}

    def get(self, what: str, key: str, make: Callable[[], Any], kept: int = KEPT) -> Any:
        """What `make` gave the last time for this key; only the latest few of each kind are kept."""
        if (what, key) in self._kept:
            value, said = self._kept[what, key]
            notes.say_again(said)
            return value
        with notes.listening() as heard:
            alike = [entry for entry in self._kept if entry[0] == what]
            for old in alike[: max(0, len(alike) - kept + 1)]:
                del self._kept[old]
            value = make()
        self._kept[what, key] = value, heard.messages
        return value


def key_of(*values: Any) -> str:
    """A key that tells all of these values."""
    return json.dumps(values, sort_keys=True, default=str)
