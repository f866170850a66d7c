"""The code lies as CONTRIBUTING.md says: a room imports only from floors below it, no two files import each other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "headstart"
MOST_LOOSE_FILES = 9
"""In the root of the package."""


def floors() -> dict[str, int]:
    """The floor of every room and loose file, as CONTRIBUTING.md draws it."""
    plan, floor = {}, 0
    for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf8").splitlines():
        found = re.match(r"    (?:(\d)|   )?\s+((?:\w+(?:/|\.py)\s*)+)", line)
        if found:
            floor = floor if found[1] is None else int(found[1])
            plan |= {name.strip("/").removesuffix(".py"): floor for name in found[2].split()}
    return plan


def module(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imports(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports, within functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "headstart":
            base = node.module.partition(".")[2]
            for name in node.names:
                full = f"{base}.{name.name}".strip(".")
                yield full if full in MODULES else base
        elif isinstance(node, ast.Import):
            yield from (n.name.partition(".")[2] for n in node.names if n.name.startswith("headstart."))


def room(name: str) -> str:
    return name.partition(".")[0]


def test_every_room_has_its_floor():
    rooms = {room(name) for name in MODULES} - {"__init__", "__main__"}
    assert floors().keys() == rooms


def test_a_room_imports_only_from_floors_below():
    plan = floors()
    wrong = [
        f"{name} imports {other}"
        for name, path in MODULES.items()
        for other in imports(path)
        if other
        and name not in ("__main__", "__init__")
        and room(other) != room(name)
        and plan[room(other)] >= plan[room(name)]
        and plan[room(name)] > 0
    ]
    assert not wrong, "\n".join(wrong)


def test_no_file_imports_one_that_imports_it():
    reached = {name: {other for other in imports(path) if other in MODULES} for name, path in MODULES.items()}
    changed = True
    while changed:
        changed = False
        for others in reached.values():
            more = set().union(*(reached[other] for other in others)) - others
            others |= more
            changed |= bool(more)
    assert not [name for name, others in reached.items() if name in others]


def test_few_files_lie_loose():
    assert len(list(SOURCE.glob("*.py"))) <= MOST_LOOSE_FILES
