"""The page of findings says what a report says, and what the heads of the experiments say."""

import importlib
import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from headstart.cli.main import main

HOME = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def findings() -> ModuleType:
    return importlib.import_module("findings")


def test_a_table_holds_what_the_runs_scored(findings, make_sweep, tmp_path, capsys):
    sweep = make_sweep(tmp_path / "sweep", runs=24, strategies=2, seeds=4, sizes=[5, 20])
    assert main(["report", str(sweep)]) == 0
    summary = json.loads((sweep / "report" / "summary.json").read_text())
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in findings.table(summary)[2:]]
    assert len(rows) == sum(len(one["contenders"]) for one in summary["conditions"]) > 2
    for condition in summary["conditions"]:
        here = [row for row in rows if row[0] == f"{condition['n_per_class']:g}"]
        best = {int(seed): score for seed, score in by_seed(condition["contenders"][0])}
        for row, told in zip(here, condition["contenders"], strict=True):
            scores = np.array([score for _, score in by_seed(told)])
            assert float(row[2].split(" ± ")[0]) == pytest.approx(100 * scores.mean(), abs=0.051)
            assert int(row[5]) == len(scores)
            if told is not condition["contenders"][0]:
                gap = np.mean([score - best[int(seed)] for seed, score in by_seed(told) if int(seed) in best])
                assert float(row[3].split(" ")[0]) == pytest.approx(100 * gap, abs=0.051)
                low, high = map(float, re.findall(r"[+-][\d.]+", row[3])[1:])
                assert low <= 100 * gap + 0.1
                assert high >= 100 * gap - 0.1


def test_scores_under_shift_have_a_table_of_their_own(findings):
    one = {"n_per_class": 5.0, "contender": "lora", "shift": "night", "mean": 0.29718, "ci95": [0.28118, 0.31318]}
    other = {**one, "shift": "rain", "mean": 0.5, "ci95": None}
    said = findings.shifts({"metric": {"name": "r2", "unit": None}, "shifts": [one, other]})
    assert said[0] == "| under shift | contender | night | rain |"
    assert said[2] == "| 5 | lora | 0.297 ± 0.016 | 0.500 |"
    assert findings.shifts({"metric": {"name": "accuracy", "unit": "%"}, "shifts": [other]})[2].endswith("| 50.0 |")
    assert findings.shifts({"shifts": []}) == []


def by_seed(row):
    return [(re.sub(r"\D", "", name), score) for name, score in row["scores"].items()]


def test_heads_of_experiments_on_real_data_are_whole(findings):
    known = [findings.Finding.read(path) for path in sorted((HOME / "conf" / "experiment").glob("*.yaml"))]
    found = [one for one in known if one is not None]
    assert len(found) >= 7
    for one in found:
        assert {"Source", "Data", "Expect", "Chosen", "Time", "Measured"} <= one.parts.keys(), one.name
        assert one.question.endswith((".", "?")), one.name
        text = (HOME / "conf" / "experiment" / f"{one.name}.yaml").read_text("utf-8")
        assert f"#   {one.command}\n" in text
        assert f"\nname: {one.name}\n" in text


def test_parts_of_experiments_that_did_not_run_now_stay(findings):
    page = findings.OPENING + "\n| a |\n\n## one_of\n\nQuestion?\n\n**So it is.**\n\n## other\n\nText\n"
    assert findings.sections_of(page) == {
        "one_of": "## one_of\n\nQuestion?\n\n**So it is.**\n",
        "other": "## other\n\nText\n",
    }
