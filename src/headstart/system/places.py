"""Names that become folders, and places that are written to: looked at before anything is written."""

import os
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from headstart.errors import InputError

LONGEST_NAME = 200
"""Bytes of a folder's name; most file systems take 255, and names beside it get endings."""
WITH_LINKS = "wandb"
"""Folder in a run's directory in which W&B makes links of its own."""
TAKEN_NAMES = ("runs",)
"""Folders below outputs/ that are not a comparison's."""


def check_name(name: str, setting: str) -> None:
    """Raise `InputError` if `name` cannot be the name of one folder beside others."""
    size = len(name.encode(errors="surrogateescape"))
    reasons = {
        "it is empty": not name.strip(),
        "that stands for another folder": name in (".", ".."),
        "that is where runs outside of comparisons lie": name in TAKEN_NAMES,
        "it holds / or \\": "/" in name or "\\" in name,
        "it holds characters that cannot be shown": not name.isprintable(),
        f"it has {size} bytes": size > LONGEST_NAME,
    }
    wrong = next((reason for reason, holds in reasons.items() if holds), None)
    if wrong:
        shown = name if len(name) <= 80 else f"{name[:60]}…"
        raise InputError(
            f"{setting} must be the name of one folder, of at most {LONGEST_NAME} bytes, but is {shown!r}: {wrong}. "
            f"Give another, as in {setting}=flowers."
        )


def writable(text: str, setting: str) -> Path:
    """The folder that `text` names, which can be made or is there and can be written to.

    Nothing is left behind: what is there already is tried with a file that has no name.

    Raises:
        InputError: if it cannot.
    """
    if text.startswith("~"):
        raise InputError(f"{setting}={text} would be a folder called ~: write $HOME, which the shell fills in.")
    place = Path(text)
    check_folder(text, setting)
    if reason := closed(place):
        raise InputError(_refusal(place, setting, f"it cannot be written ({reason})"))
    return place


def closed(place: Path) -> str:
    """Why nothing can be written to a folder that is there or could be made; empty where it can."""
    present = place.absolute()
    try:
        while not present.exists():
            present = present.parent
        with tempfile.TemporaryFile(dir=present):
            return ""
    except OSError as error:
        return error.strerror or type(error).__name__


def check_folder(text: str, setting: str) -> Path:
    """The folder nearest to the one that `text` names that is there; nothing in the way keeps the rest from being made.

    Raises:
        InputError: if something does, such as a file.
    """
    if not text.strip():
        raise InputError(f"{setting} must name a folder, but is {text!r}.")
    place = Path(text)
    present = place.absolute()
    try:
        missing = []
        while not present.exists():
            missing.append(present.name)
            present = present.parent
        longest = os.pathconf(present, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
        if any(len(os.fsencode(name)) > longest for name in missing):
            raise InputError(_refusal(place, setting, f"one of its names has more than {longest} bytes"))
        if not present.is_dir():
            raise InputError(_refusal(place, setting, f"{present} is no folder"))
        return present
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(_refusal(place, setting, f"it cannot be written ({reason})")) from error


def check_no_links(directory: Path) -> None:
    """Raise `InputError` if a run's directory, or anything in it, is a link, through which one would write.

    What W&B keeps there is its own, links among it; in attempts that were set aside nothing is written any more.
    """
    links = list(islice(_links_in(directory), 1))
    if links:
        raise InputError(
            f"A run's directory must hold what it holds itself, but {links[0]} is a link to {os.readlink(links[0])}. "
            "Name the folder that is meant, or remove the link."
        )


def _links_in(directory: Path) -> Iterator[Path]:
    if directory.is_symlink():
        yield directory
        return
    for folder, folders, files in os.walk(directory):
        place = Path(folder)
        yield from (place / name for name in (*folders, *files) if (place / name).is_symlink())
        set_aside = place.parent == directory and place.name == "attempts"
        folders[:] = [] if set_aside else [name for name in folders if place != directory or name != WITH_LINKS]


def _refusal(place: Path, setting: str, why: str) -> str:
    shown = str(place) if len(str(place)) <= 120 else f"{str(place)[:100]}…"
    return f"{setting} must be a folder that can be made or written to, but is {shown}: {why}. Choose another place."
