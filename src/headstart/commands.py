"""The commands beside `train` and `plan`: what they print, and their exit status."""

from collections.abc import Sequence
from pathlib import Path

from headstart.errors import InputError, unknown


def report(words: list[str]) -> int:
    """`headstart report DIR... [--open]`."""
    from headstart.report.build import build

    folders = _folders(words, ("--open",))
    made = build(folders)
    for sentence in made.answer:
        print(sentence)
    print(made.page)
    if "--open" in words:
        import webbrowser

        webbrowser.open(made.page.absolute().as_uri())
    return 0


def status(words: list[str]) -> int:
    """`headstart status DIR`."""
    raise InputError("not yet")


def rerun(words: list[str]) -> int:
    """`headstart rerun RUN_DIR [--check]`."""
    raise InputError("not yet")


def store(words: list[str]) -> int:
    """`headstart store [list | prune]`."""
    raise InputError("not yet")


def _folders(words: Sequence[str], flags: Sequence[str]) -> list[Path]:
    for word in words:
        if word.startswith("-") and word not in flags:
            raise unknown("option", word, flags)
    folders = [Path(word) for word in words if not word.startswith("-")]
    if not folders:
        raise InputError("Name at least one directory, such as outputs/demo.")
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise InputError(*(f"{folder} is not a directory." for folder in missing))
    return folders
