"""`headstart export`: what it is asked, and what it prints."""

import sys
from collections.abc import Sequence
from pathlib import Path

from headstart.cli.options import given
from headstart.errors import InputError
from headstart.names import plain

VALUED = ("--to", "--out", "--push", "--soup")
FLAGS = ("--force",)
EXAMPLE = "headstart export outputs/demo --to timm"


def export(words: Sequence[str]) -> int:
    """`headstart export DIR --to FORMAT [--out DIR] [--force] [--push NAME] [--soup uniform|greedy]`."""
    typed = given(words, VALUED, FLAGS, EXAMPLE)
    options = typed.values
    if len(typed.names) != 1:
        raise InputError(f"Name one directory, of a run or a comparison, not {len(typed.names)}, as in: {EXAMPLE}")
    if "--to" not in options:
        raise InputError(f"Say in which format (--to), as in: {EXAMPLE}. headstart export --help lists them.")
    place = Path(typed.names[0]).expanduser()
    if not place.is_dir():
        raise InputError(f"{place} is not a directory.")
    from headstart.export import export as room
    from headstart.export.push import PushError, check_name, push

    if "--push" in options:
        check_name(options["--push"])
    out = Path(options["--out"]).expanduser() if "--out" in options else None
    made = room.export(place, options["--to"], out, "--force" in typed.flags, options.get("--soup"))
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
