"""What docs/search.md says of the recorded curves, held against them."""

import importlib
import re
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from scipy.stats import spearmanr

ROOT = Path(__file__).parents[2]
WORDS = " ".join((ROOT / "docs" / "search.md").read_text(encoding="utf8").split())
PROBLEMS = ("pictures", "sounds", "texts")


@pytest.fixture
def tables() -> dict[str, list[Any]]:
    """Each problem's curves, as seen from each of its seeds."""
    table = importlib.import_module("benchmark_search").Table
    return {name: [table(name, first) for first in range(table(name).num_bases)] for name in PROBLEMS}


def told(pattern: str) -> list[float]:
    found = re.search(pattern, WORDS)
    assert found, pattern
    return [float(text) for text in found.groups()]


def test_sizes_and_scores(tables: dict[str, list[Any]]):
    settings, seeds = told(r"(\d+) settings on (\d) seeds each")
    for name, seen in tables.items():
        assert len(seen) == seeds
        assert len(seen[0].points) == settings
        size = sum((ROOT / "scripts" / "curves" / f"{name}.{kind}").stat().st_size for kind in ("csv", "json"))
        assert size / 1000 == pytest.approx(told(r"(\d+) KB each")[0], rel=0.05)
        best, default = told(rf"`{name}`, [^;.]*?\(best on val ([\d.]+)%, default ([\d.]+)%\)")
        assert 100 * fmean(table.best for table in seen) == pytest.approx(best, abs=0.051)
        assert 100 * fmean(table.curve(0)[-1] for table in seen) == pytest.approx(default, abs=0.051)


def test_what_an_epoch_tells_of_the_end(tables: dict[str, list[Any]]):
    said = dict(zip(PROBLEMS, told(r"([\d.]+) on `pictures`, ([\d.]+) on `sounds`, ([\d.]+) on `texts`"), strict=True))
    for name, seen in tables.items():
        ranks = []
        for table in seen:
            curves = [table.curve(number) for number in table.numbers]
            ranks.append(spearmanr([curve[0] for curve in curves], [curve[-1] for curve in curves])[0])
        assert fmean(ranks) == pytest.approx(said[name], abs=0.0051)
