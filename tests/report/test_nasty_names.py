"""The set of nasty names through all that a report writes and a status shows."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from headstart.cli.main import main
from nasty import NASTY, is_safe


def test_a_report_and_a_status_of_nasty_names_are_made_and_safe(
    make_sweep: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    sweep = make_sweep(tmp_path / "s", runs=6, strategies=2, seeds=3)
    dirty = [name for name in NASTY if len(name) < 200]
    listing = json.loads((sweep / "sweep.json").read_text())
    listing |= {"name": "".join(dirty), "command": "headstart train -m " + dirty[0]}
    for entry in listing["runs"]:
        entry["choices"]["strategy"] += dirty[0] + dirty[7] + dirty[10]
        entry["overrides"] = [f"{word}{dirty[1]}" for word in entry["overrides"]]
    (sweep / "sweep.json").write_text(json.dumps(listing))
    for path in sweep.glob("*/result.json"):
        record = json.loads(path.read_text())
        record["choices"]["strategy"] += dirty[0] + dirty[7] + dirty[10]
        record["data"]["name"] = "".join(dirty)
        classes = [f"{name}{place}" for place, name in enumerate(dirty[: len(record["data"]["classes"])])]
        if record["details"].get("classes"):
            record["details"]["classes"] = classes
        record["details"].pop("per_class_accuracy", None)
        record["error"] = None
        path.write_text(json.dumps(record))
    for path in sweep.glob("*/hardest/hardest.json"):
        entries = [{"id": name, "label": name, "predicted": name, "text": name, "probability": 0.1} for name in dirty]
        path.write_text(json.dumps(entries))
    assert main(["status", str(sweep)]) == 0
    assert main(["report", str(sweep)]) == 0
    said = capsys.readouterr()
    assert is_safe(said.out, "\n")
    assert is_safe(said.err, "\n")
    made = sweep / "report"
    page = (made / "report.html").read_text()
    assert is_safe(page, "\n")
    assert page.count("<script>") == 1
    for path in made.glob("figures/*.svg"):
        ElementTree.fromstring(path.read_text())
    for path in made.glob("tables/*"):
        assert is_safe(path.read_text(), "\n")
    assert list(made.glob("figures/*.svg"))
