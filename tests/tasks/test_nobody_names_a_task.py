"""What trains, compares and reports asks the task: it names none, and none of their metrics."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from headstart.tasks.multiclass import Multiclass
from headstart.tasks.multilabel import Multilabel
from headstart.tasks.regression import Regression

SOURCE = Path(__file__).parents[2] / "src" / "headstart"
NAMES = {
    *(task.name for task in (Multiclass, Multilabel, Regression)),
    *(name for task in (Multiclass, Multilabel, Regression) for name in task.metrics),
} - {"loss"}
OF_THE_RECORD = {"accuracy"}
"""In the report: the table by class has a column of that name, filled from what such runs keep."""


def texts(path: Path) -> Iterator[str]:
    """Texts in the code of a file that could be compared with; words for people and docstrings hold blanks."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w/]+", node.value):
            yield node.value


@pytest.mark.parametrize("room", ["training", "sweep", "report"])
def test_no_task_and_no_metric_of_one_is_named(room: str):
    allowed = OF_THE_RECORD if room == "report" else set()
    found = [
        f"{path.name}: {text}"
        for path in sorted((SOURCE / room).rglob("*.py"))
        for text in texts(path)
        if set(text.split("/")) & (NAMES - allowed)
    ]
    assert not found
