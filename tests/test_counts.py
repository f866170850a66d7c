"""Counts in messages: no "1 runs"."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from headstart.names import plural

SOURCE = Path(__file__).parents[1] / "src" / "headstart"
NOUNS = ("runs", "examples", "files", "rows", "columns", "entries", "settings", "trials", "seeds", "folds", "epochs",
         "steps", "groups", "pictures", "sounds", "texts", "others", "thaws", "heads")  # fmt: skip
MANY = {"len(members)", "len(others)", "1 + len(others)", "len(behind)", "len(drawn)", "len(cells)"}
"""What is never one where it stands before such a word."""
COUNT = re.compile(rf"(?<!of )«([^»]*)» (?:more |other )?({'|'.join(NOUNS)})\b")


def counted(path: Path) -> Iterator[tuple[str, str]]:
    """What is counted in f-strings, and the plural that follows it whatever the count."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.JoinedStr):
            parts = [
                one.value if isinstance(one, ast.Constant) else f"«{ast.unparse(one.value)}»"
                for one in node.values
                if isinstance(one, ast.Constant | ast.FormattedValue)
            ]
            yield from COUNT.findall("".join(map(str, parts)))


def test_the_noun_after_a_count_follows_it():
    found = [
        f"{path.name}: {count} {noun}"
        for path in sorted(SOURCE.rglob("*.py"))
        for count, noun in counted(path)
        if re.search(r"\blen\(|^(num_\w+|count|done|gaps|total|begins|nameless|more)$", count) and count not in MANY
    ]
    assert not found


@pytest.mark.parametrize(("count", "said"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs"), (1200, "1,200 runs")])
def test_a_count_is_said_with_its_noun(count, said):
    assert plural(count, "run") == said


def test_a_plural_of_its_own():
    assert (plural(1, "entry", "entries"), plural(2, "entry", "entries")) == ("1 entry", "2 entries")
