"""What stands behind a command: names, options with a value, and flags."""

from collections.abc import Sequence
from dataclasses import dataclass

from headstart.errors import InputError, unknown


@dataclass(frozen=True)
class Given:
    """What was typed."""

    names: list[str]
    """Directories, files and the like, in order."""
    values: dict[str, str]
    """By option; the last of several."""
    flags: set[str]


def given(words: Sequence[str], valued: Sequence[str], flags: Sequence[str], example: str) -> Given:
    """Tell `--out FILE` or `--out=FILE`, `--force` and names apart; `-` is a name, and so is all that follows `--`.

    Raises:
        InputError: for an option that is not among `valued` and `flags`, or has no value.
    """
    found, rest = Given([], {}, set()), list(words)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if word == "--":
            found.names.extend(rest)
            break
        if option in valued:
            if not equals and (not rest or rest[0].startswith("--")):
                raise InputError(f"{option} needs a value, as in: {example}")
            found.values[option] = value if equals else rest.pop(0)
        elif word in flags:
            found.flags.add(word)
        elif word.startswith("-") and word != "-":
            raise unknown("option", option, [*valued, *flags])
        else:
            found.names.append(word)
    return found
