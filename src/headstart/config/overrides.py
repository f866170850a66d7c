"""Overrides as people type them: cut into words and values, and quoted so that a value arrives as it was meant.

Two languages meet here. A shell takes the outer quotes off a word; what is left is Hydra's, which reads a value with
quotes of its own as text, and one without as a number, a list, several values or, if it is plain enough, a text.
"""

import re
import shlex
from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf

BRACKETS = {"(": ")", "[": "]", "{": "}"}
QUOTES = "'\""


def words(line: str) -> list[str]:
    """The overrides of a line, apart by blanks that are neither in quotes nor in brackets.

    A word that begins with a quote, or whose value is in two kinds of quotes, is as a shell would have it, so a command
    can be copied into a config; the quotes of any other are Hydra's.

    Raises:
        ValueError: if a quote or bracket is not closed.
    """
    return [_as_from_shell(word) for word in pieces(line, str.isspace, is_shell=True) if word]


def values(text: str) -> list[str]:
    """What stands between the commas of `a,b`, each as it was typed.

    Raises:
        ValueError: if a quote or bracket is not closed.
    """
    return [piece.strip() for piece in pieces(text, ",".__eq__)]


def pieces(text: str, is_gap: Callable[[str], bool], is_shell: bool = False) -> list[str]:
    """`text` cut where `is_gap` says so, but not within quotes or brackets, nor after a backslash.

    With `is_shell`, a piece that begins with a quote is quoted for a shell, where a backslash between ' and ' is one.

    Raises:
        ValueError: if a quote or bracket is not closed.
    """
    found, quote, closing, is_escaped = [""], "", "", False
    for letter in text:
        if is_escaped:
            is_escaped = False
        elif letter == "\\" and not (is_shell and quote == "'" and found[-1][0] in QUOTES):
            is_escaped = True
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in QUOTES:
            quote = letter
        elif letter in BRACKETS:
            closing = BRACKETS[letter] + closing
        elif letter == closing[:1]:
            closing = closing[1:]
        elif not closing and is_gap(letter):
            found.append("")
            continue
        found[-1] += letter
    if quote or closing:
        raise ValueError(f"{quote or closing[0]} is missing")
    return found


def _as_from_shell(word: str) -> str:
    key, equals, value = word.partition("=")
    outer = value[:1]
    is_wrapped = len(value) > 3 and value[1] in QUOTES and value[-2:] == value[1::-1] and outer != value[1]
    if word[0] in QUOTES:
        return "".join(shlex.split(word))
    return key + equals + value[1:-1] if outer in QUOTES and is_wrapped else word


def key_of(word: str) -> str:
    """What an override sets, without the signs of adding and taking away: `strategy.lr` of `++strategy.lr=0.1`."""
    return word.lstrip("+~").partition("=")[0]


def in_shell(key: str, *texts: str) -> str:
    """`'data.root="my photos"'`: a word for a shell that gives `key` these texts (several: to compare them)."""
    from hydra.core.override_parser.types import Quote, QuotedString

    quoted = (QuotedString(text, Quote.double).with_quotes() for text in texts)
    return shlex.quote(f"{key}={','.join(quoted)}")


def as_written(node: Any) -> Any:
    """The plain content of a config's list or mapping, with interpolations as they stand there."""
    return OmegaConf.to_container(node, resolve=False)


def literal(value: Any) -> Any:
    r"""Texts such that OmegaConf reads them as they are, not as interpolations: `${seed}` as `\${seed}`."""
    if isinstance(value, dict):
        return {key: literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [literal(item) for item in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value
