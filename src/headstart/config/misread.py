"""Words of the command line that cannot be read as settings: what to type in their place."""

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress

from headstart.config import schema
from headstart.config.overrides import in_shell, values

SETTING = re.compile(r"[+~]{0,2}[\w./@$-]+", re.ASCII)
"""What a setting or group may be called on the command line."""
QUOTED_NAME = re.compile(r"""([{,]\s*)(['"])([^'"{},:]+)\2(?=\s*:)""")
"""A name in quotes before a colon, as JSON and Python write it; Hydra's grammar knows names without them."""


def how_to_write(line: str, overrides: Sequence[str]) -> str:
    """What to type for an override that Hydra's grammar does not take, such that a shell hands it on."""
    key, equals, text = line.partition("=")
    if joined := _torn(line, overrides):
        return joined
    if not equals or not SETTING.fullmatch(key):
        return "settings are KEY=VALUE, several values KEY=A,B with -m."
    if "{" in text and (unquoted := QUOTED_NAME.sub(r"\1\3", text)) != text:
        return f"names before a colon stand without quotes: write {shlex.quote(f'{key}={unquoted}')}."
    said = "a value that holds more than letters of the English alphabet, digits, blanks and -_./:%+@?*|$ needs quotes."
    if "${" in text:
        return f"{said[:-1]}, and what ${{ opens must be closed, as in ${{seed}}."
    said += f" For this very text, write {in_shell(key, text)}"
    with suppress(ValueError):
        if len(several := values(text)) > 1:
            said += f"; to compare {len(several)} values, use headstart train -m and write {in_shell(key, *several)}"
    kind = {"[": "a list is [A,B]", "{": "settings by name are {NAME: VALUE}"}.get(text[:1])
    return f"{said}; {kind}." if kind else f"{said}."


def _torn(line: str, overrides: Sequence[str]) -> str | None:
    """What to say if a shell cut a word at a blank that was meant to be in it: `A, B`, `my photos`, `KEY = VALUE`."""
    words = list(overrides)
    if line not in words:
        return None
    place = words.index(line)
    before, after = ["", *words][place], [*words, ""][place + 1]
    if "=" in (line, after):
        return "there must be no blanks around =: write KEY=VALUE."
    if line.endswith(",") and after and "=" not in after:
        compared = "" if "[" in line or "{" in line else "; headstart train -m compares the values"
        return f"there must be no blank after a comma: write {shlex.quote(line + after)}{compared}."
    if line in schema.SPINE and after and "=" not in after:
        return f"write {line}={after}."
    if "=" in before and re.fullmatch(r"[\w.-]+", line):
        both = shlex.quote(f"{before} {line}")
        return f"settings are KEY=VALUE. If it belongs to {before}, quotes must keep both together: {both}."
    return None
