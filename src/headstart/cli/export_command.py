"""`headstart export`: what it is asked, and what it prints."""

import sys
from collections.abc import Sequence
from pathlib import Path

from headstart.errors import InputError, unknown
from headstart.names import plain

VALUED = ("--to", "--out", "--push", "--soup")
FLAGS = ("--force",)
EXAMPLE = "headstart export outputs/demo --to timm"


def export(words: Sequence[str]) -> int:
    """`headstart export DIR --to FORMAT [--out DIR] [--force] [--push NAME] [--soup uniform|greedy]`."""
    places, options, flags = parsed(words)
    if len(places) != 1:
        raise InputError(f"Name one directory, of a run or a comparison, not {len(places)}, as in: {EXAMPLE}")
    if "--to" not in options:
        raise InputError(f"Say in which format (--to), as in: {EXAMPLE}. headstart export --help lists them.")
    place = Path(places[0]).expanduser()
    if not place.is_dir():
        raise InputError(f"{place} is not a directory.")
    from headstart.export import export as room
    from headstart.export.push import PushError, check_name, push

    if "--push" in options:
        check_name(options["--push"])
    out = Path(options["--out"]).expanduser() if "--out" in options else None
    made = room.export(place, options["--to"], out, "--force" in flags, options.get("--soup"))
    for line in (*(made.chosen.words if made.chosen else ()), *made.checked):
        print(plain(line))
    print(f"Written: {plain(str(made.folder))} (how to use it: {plain(str(made.folder / room.CARD))})")
    if "--push" in options:
        try:
            print(f"Uploaded: {plain(push(made.folder, options['--push']))}")
        except PushError as error:
            sys.stderr.write(f"headstart: {plain(str(error))}\n")
            return 1
    return 0


def parsed(words: Sequence[str]) -> tuple[list[str], dict[str, str], set[str]]:
    """Places, options with their values (`--to timm` or `--to=timm`), and flags."""
    places: list[str] = []
    options: dict[str, str] = {}
    flags: set[str] = set()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word in FLAGS:
            flags.add(word)
        elif name in VALUED:
            if not equals and (not rest or rest[0].startswith("-")):
                raise InputError(f"{name} needs a value, as in: {EXAMPLE}")
            options[name] = value if equals else rest.pop(0)
        elif word.startswith("-"):
            raise unknown("option", word, (*VALUED, *FLAGS))
        else:
            places.append(word)
    return places, options, flags
