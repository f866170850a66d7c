"""Words that others chose (classes, files, settings, errors), made safe for each place where they are shown.

A terminal obeys escape codes, an XML parser refuses control characters, a spreadsheet runs what begins like a formula,
and text that turns its direction around shows another name than the one that is there.
"""

import re
import shlex
from collections.abc import Sequence
from html import escape

_SPACES = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
_UNSHOWN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"  # control characters; spaces are seen to before
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # turn the direction of text
    "\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f"  # are seen by machines alone
    "\ud800-\udfff]"  # halves of characters, as stand for bytes of file names that are not UTF-8
)
_LINE_ENDS = re.compile(r"\r\n?|[\v\f\x85\u2028\u2029]")
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    '"': r"''", "−": r"$-$", "≤": r"$\leq$", "≥": r"$\geq$", "×": r"$\times$", "±": r"$\pm$", "→": r"$\to$",
    "·": r"$\cdot$", "–": "--", "…": r"\dots{}", "✓": r"$\checkmark$",
}  # fmt: skip


_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "µ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho",
    "σ": "sigma", "ς": "varsigma", "τ": "tau", "υ": "upsilon", "φ": "varphi", "χ": "chi", "ψ": "psi", "ω": "omega",
    "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Υ": "Upsilon",
    "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
_OF_ONE = {"have": "has", "are": "is", "hold": "holds", "them": "it"}
_VERBS = re.compile(rf"\b({'|'.join(_OF_ONE)})\b")
_LATEX |= {letter: rf"$\{name}$" for letter, name in _GREEK.items()}


def listed(items: Sequence[str], most: int = 20) -> str:
    """Comma-separated, cut after `most` with the count of all."""
    return ", ".join(items[:most]) + (f", … ({len(items)} in all)" if len(items) > most else "")


def listed_or(items: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return " or ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def plural(count: int, noun: str, many: str | None = None) -> str:
    """`1 run`, `3 runs`."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def agreeing(count: int, words: str) -> str:
    """Words said of so many things: of one, `are more` is `is more`, and `have` is `has`."""
    return _VERBS.sub(lambda found: _OF_ONE[found[0]], words) if count == 1 else words


def plain(text: str) -> str:
    """One line that shows what it holds: for a terminal, and for whatever draws text."""
    return _UNSHOWN.sub("\ufffd", _SPACES.sub(" ", text))


def plain_lines(text: str) -> str:
    """The same for a text of several lines, which stay."""
    lines = _LINE_ENDS.sub("\n", text).replace("\t", "    ").split("\n")
    return "\n".join(_UNSHOWN.sub("\ufffd", line) for line in lines)


def in_console(text: str) -> str:
    """Within what Rich prints: brackets are brackets."""
    from rich.markup import escape as escape_markup

    return escape_markup(plain(text))


def in_markup(text: str) -> str:
    """Within XML, SVG or HTML, between tags or in a quoted attribute."""
    return escape(plain(text))


def in_markdown(text: str) -> str:
    """Within a line or a cell of a Markdown table."""
    return re.sub(r"([\\|`*_<>\[\]#&~!$])", r"\\\1", plain(text))


def in_latex(text: str) -> str:
    """Within LaTeX's text."""
    return "".join(_LATEX.get(character, character) for character in plain(text))


def safe_command(text: object, *beginning: str) -> str:
    """The command that a file says to type, if it begins so, quoted such that a shell runs nothing else; else empty."""
    try:
        words = shlex.split(plain(str(text)))
    except ValueError:
        return ""
    return shlex.join(words) if tuple(words[: len(beginning)]) == beginning else ""


def in_csv(text: str) -> str:
    """In a cell of a table that a spreadsheet may open: one that would be run as a formula begins with an apostrophe.

    Numbers stay numbers.
    """
    text = plain(text)
    if not text.lstrip().startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
