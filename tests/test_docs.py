"""What the pages under docs/ say to copy and run works as written."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from headstart.cli.main import main

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_examples_of_adding_run_as_written(
    at_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    blocks = BLOCK.findall((DOCS / "adding.md").read_text(encoding="utf8"))
    for kind, text in blocks:
        if kind in ("yaml", "python"):
            path = at_home / text.splitlines()[0].removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf8")
    commands = [shlex.split(text) for kind, text in blocks if kind == "sh"]
    assert commands[0] == ["export", "HEADSTART_ALLOW=lab", "PYTHONPATH=."]
    monkeypatch.setenv("HEADSTART_ALLOW", "lab")
    monkeypatch.syspath_prepend(at_home)
    assert len(commands) == 5
    for program, *words in commands[1:]:
        assert program == "headstart"
        assert main(words) == 0, (words, capsys.readouterr().err)
    for name in [name for name in sys.modules if name == "lab" or name.startswith("lab.")]:
        del sys.modules[name]


@pytest.mark.parametrize("page", ["../README.md", *(path.name for path in sorted(DOCS.glob("*.md")))])
def test_links_to_files_lead_somewhere(page: str):
    place = (DOCS / page).resolve()
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", place.read_text(encoding="utf8"))
    assert [link for link in links if not (place.parent / link).exists()] == []
