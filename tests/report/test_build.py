"""Whole reports: what they say, what they hold, and what they do with runs that went wrong."""

import csv
import json
import os
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from headstart.errors import InputError
from headstart.report import style
from headstart.report.analysis import analyse
from headstart.report.build import build
from headstart.report.design import read_design
from headstart.report.exhibits import gather
from headstart.report.reading import read_sweeps
from latex_tables import rows_of, width_of

EVIL = '<script>alert(1)</script> & "quotes" $x$ {{7*7}} \\n|*_'


@pytest.fixture(scope="module")
def sweep(make_sweep, tmp_path_factory):
    return make_sweep(
        tmp_path_factory.mktemp("report") / "demo", runs=75, strategies=3, seeds=4, sizes=[5, 40], failed=0.05
    )


@pytest.fixture(scope="module")
def report(sweep):
    return build([sweep])


@pytest.fixture(scope="module")
def four_runs(make_sweep, tmp_path_factory):
    return make_sweep(tmp_path_factory.mktemp("four") / "s", runs=4, strategies=2, seeds=2)


@pytest.fixture
def small(four_runs, tmp_path):
    """A sweep of four runs, to be changed."""
    return shutil.copytree(four_runs, tmp_path / "s")


@pytest.fixture
def quick(monkeypatch):
    """Figures are painted but not written, where a test is not about them."""
    picture = '<svg role="img" aria-label="not drawn"></svg>'
    monkeypatch.setattr(style, "finish", lambda _, *words: style.Drawing(*words, picture, {"svg": b"", "pdf": b""}))


def edit(sweep, change):
    """Apply `change(result)` to every result of a copy."""
    for path in sweep.glob("*/result.json"):
        result = json.loads(path.read_text())
        change(result)
        path.write_text(json.dumps(result))


class Outline(HTMLParser):
    """Headings, ids, images and links of a page."""

    def __init__(self, text):
        super().__init__()
        self.levels, self.ids, self.bare, self.fetched, self.scripts, self.heads = [], [], [], [], 0, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if "id" in found:
            self.ids.append(found["id"])
        if (tag == "img" and not found.get("alt")) or (tag == "svg" and not found.get("aria-label")):
            self.bare.append(found)
        if tag == "th":
            self.heads.append(found.get("scope"))
        self.scripts += tag == "script"
        address = found.get("src") or (found.get("href") if tag != "use" else None) or ""
        if address and not address.startswith(("#", "data:")):
            self.fetched.append(address)


def test_the_page_is_one_file_with_an_outline_names_and_unique_ids(report):
    text = report.page.read_text()
    page = Outline(text)
    assert page.levels[0] == 1
    assert page.levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(page.levels, page.levels[1:], strict=False))
    assert len(page.ids) == len(set(page.ids))
    assert not page.bare
    assert not page.fetched
    assert set(page.heads) == {"col", "row"}
    assert page.scripts == 1
    assert "http" not in re.sub(r"http-equiv|http://www\.w3\.org/2000/svg", "", text)


def test_every_part_is_there_and_every_number_is_in_the_summary(report):
    summary = json.loads(report.summary.read_text())
    assert summary["counts"]["completed"] == report.counts["completed"]
    assert len(summary["conditions"]) == 2
    row = summary["conditions"][0]["contenders"][0]
    assert row["mean"] == pytest.approx(np.mean(list(row["scores"].values())))
    assert all((report.directory / name).is_file() for name in summary["files"])
    assert {path.suffix for path in report.tables} == {".csv", ".md", ".tex"}
    assert {path.suffix for path in report.figures} == {".svg", ".pdf"}
    assert {"scores", "differences", "low-data", "budgets", "shifts", "learning-curves", "thaw-plans", "confusion"} <= {
        path.stem for path in report.figures
    }


def test_fonts_are_embedded_and_figures_are_a_column_wide(report):
    pdf = next(path for path in report.figures if path.name == "scores.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    width = float(re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", pdf)[1])
    assert width == pytest.approx(85 / 25.4 * 72, abs=0.1)
    assert "<text" not in next(path for path in report.figures if path.name == "scores.svg").read_text()


def test_the_same_runs_give_the_same_report_wherever_they_lie(sweep, report, tmp_path):
    copy = shutil.copytree(sweep, tmp_path / sweep.name, ignore=shutil.ignore_patterns("report"))
    again = build([copy])
    for path in (report.page, report.summary, *report.figures, *report.tables):
        assert (again.directory / path.relative_to(report.directory)).read_bytes() == path.read_bytes(), path.name


def test_the_selected_setting_is_the_best_on_validation_never_on_test(sweep, report):
    runs = [json.loads(path.read_text()) for path in sweep.glob("*/result.json")]
    runs = [r for r in runs if r["status"] == "completed"]
    for condition in json.loads(report.summary.read_text())["conditions"]:
        for row in condition["contenders"]:
            cell = {}
            for r in runs:
                if (r["choices"]["strategy"], r["settings"]["split.n_per_class"]) == (
                    row["contender"],
                    condition["n_per_class"],
                ):
                    cell.setdefault(r["settings"]["optimizer.lr"], []).append(r["metrics"])
            most = max(len(found) for found in cell.values())
            means = {
                lr: np.mean([m["val/accuracy"] for m in found]) for lr, found in cell.items() if len(found) == most
            }
            best = max(means, key=means.get)
            assert row["mean"] == pytest.approx(np.mean([m["test/accuracy"] for m in cell[best]]))


def test_the_answer_never_claims_what_the_seeds_cannot_show(report):
    assert report.answer[0].startswith("It cannot be told which of")
    assert any("smallest p that the exact test can give is 0.125" in sentence for sentence in report.answer)


def test_tables_for_papers_are_sound_latex_and_the_main_ones_narrow(report):
    tables = {path.stem: path.read_text() for path in report.tables if path.suffix == ".tex"}
    for name, text in tables.items():
        assert len(rows_of(text)) > 1, name
    for name in ("comparison", "differences", "examples"):
        assert rows_of(tables[name])[0] <= 5
        assert width_of(tables[name]) <= 85, "is shrunk to less than two thirds of its size"


@pytest.mark.parametrize("damage", [("\\%", "%"), ("\\_", "_"), (" & ", " "), ("}", ""), ("\\bottomrule", "\\oops")])
def test_unsound_latex_would_be_found(report, damage):
    text = next(path for path in report.tables if path.name == "comparison.tex").read_text()
    assert damage[0] in text
    head, joint, tail = text.rpartition(damage[0])
    with pytest.raises(AssertionError):
        rows_of(head + joint.replace(*damage) + tail)


@pytest.mark.usefixtures("quick")
def test_enough_seeds_make_a_winner(make_sweep, tmp_path):
    report = build([make_sweep(tmp_path / "s", runs=16, strategies=2, seeds=8)])
    assert " is better than " in report.answer[0]


@pytest.mark.usefixtures("quick")
def test_one_seed_gives_neither_interval_nor_test(make_sweep, tmp_path):
    report = build([make_sweep(tmp_path / "s", runs=3, seeds=1)])
    assert report.answer[0].startswith("It cannot be told which of")
    assert any("no interval" in sentence for sentence in report.answer)
    assert json.loads(report.summary.read_text())["conditions"][0]["contenders"][0]["ci95"] is None


def test_everything_from_configs_errors_and_data_is_escaped(make_sweep, tmp_path):
    sweep = make_sweep(tmp_path / "s", runs=12, failed=0.2)

    def poison(result):
        result["choices"]["strategy"] = result["choices"]["strategy"] + EVIL
        result["data"]["name"] = result["choices"]["data"] = EVIL
        result["weights"]["source"] = result["environment"]["cpu"] = EVIL
        result["rerun"] = f"headstart rerun {EVIL}"
        result["overrides"] = [f"x={EVIL}"]
        if result["error"]:
            result["error"] = {"type": EVIL, "message": EVIL, "traceback": EVIL}

    edit(sweep, poison)
    (sweep / "sweep.json").write_text(json.dumps({**json.loads((sweep / "sweep.json").read_text()), "name": EVIL}))
    for folder in sweep.glob("*/hardest"):
        example = {"id": EVIL, "label": EVIL, "predicted": EVIL, "text": EVIL, "probability": "x"}
        (folder / "hardest.json").write_text(json.dumps([{**example, "image": "../../secret.png"}]))
    report = build([sweep])
    page = report.page.read_text()
    assert "<script>alert" not in page
    assert "49" not in report.answer[0]
    assert page.count("<script>") == 1
    latex = next(path for path in report.tables if path.name == "comparison.tex").read_text()
    assert r"\$x\$ \{\{7*7\}\} \textbackslash{}n|*\_" in latex
    assert all(rows_of(path.read_text()) for path in report.tables if path.suffix == ".tex")
    with next(path for path in report.tables if path.name == "runs.csv").open() as file:
        assert any(EVIL in row["rerun"] for row in csv.DictReader(file))


@pytest.mark.parametrize(
    "name", ["history.csv", "plan.json", "predictions.npz", "hardest/hardest.json", "hardest/0.png"]
)
@pytest.mark.parametrize("content", [b"", b"\x00garbage{", b"[[1]]", None])
def test_a_broken_or_missing_file_of_a_run_is_a_note_or_a_gap_that_is_named(small, name, content):
    for run in small.glob("*/"):
        path = run / name
        if path.exists():
            path.unlink() if content is None else path.write_bytes(content)
    exhibits = gather(analyse(read_design(read_sweeps([small]))))
    kept = {"history.csv": exhibits.curves, "plan.json": exhibits.plans, "predictions.npz": exhibits.examples}
    if name in kept:
        assert not kept[name]
        assert (content is None) == (not exhibits.notes)
    if name == "hardest/0.png":
        assert [example.picture is None for example in exhibits.hardest[:2]] == [True, False]
    if name == "hardest/hardest.json":
        assert exhibits.hardest, "taken from the predictions instead"


@pytest.mark.usefixtures("quick")
def test_a_report_of_runs_with_every_other_file_broken_names_what_is_not_there(small):
    sweep = small
    for path in sweep.glob("*/*"):
        if path.name in ("history.csv", "plan.json", "predictions.npz"):
            path.write_bytes(b"\x00{")
    shutil.rmtree(next(sweep.glob("*/hardest")))
    report = build([sweep])
    assert "kept no histories and no thaw plans" in report.page.read_text()
    assert any("predictions.npz" in note for note in report.notes)


@pytest.mark.usefixtures("quick")
def test_everything_failed_is_a_report_that_says_so(make_sweep, tmp_path):
    report = build([make_sweep(tmp_path / "s", runs=6, failed=1.0)])
    assert report.answer[0] == "None of 6 runs completed, so there is nothing to compare."
    assert "OutOfMemoryError" in report.page.read_text()


@pytest.mark.usefixtures("quick")
def test_runs_of_mixed_measures_are_compared_by_the_one_most_have_and_a_note_says_so(make_sweep, tmp_path):
    sweep = make_sweep(tmp_path / "s", runs=12)

    def change(result):
        if result["seed"] == 3:
            result["metrics"] = {"val/mae": 1.0, "test/mae": 1.1}

    edit(sweep, change)
    report = build([sweep])
    assert "do not share one measure" in report.notes[0]
    assert json.loads(report.summary.read_text())["conditions"][0]["contenders"][0]["n"] == 3


@pytest.mark.usefixtures("quick")
def test_less_is_better_where_the_measure_is_a_loss(make_sweep, tmp_path):
    sweep = make_sweep(tmp_path / "s", runs=12)
    edit(sweep, lambda r: r.update(metrics={k: v for k, v in r["metrics"].items() if k.endswith("/loss")}))
    rows = json.loads(build([sweep]).summary.read_text())["conditions"][0]
    best = min(rows["contenders"], key=lambda row: row["mean"])["contender"]
    assert rows["differences"][0]["first"] == best
    assert rows["differences"][0]["difference"] > 0


@pytest.mark.usefixtures("quick")
def test_runs_on_different_splits_are_not_paired(make_sweep, tmp_path):
    sweep = make_sweep(tmp_path / "s", runs=8, strategies=2)
    edit(sweep, lambda r: r["data"].update(split_sha256=r["run_id"]))
    report = build([sweep])
    assert any("different splits" in sentence for sentence in report.answer)


@pytest.mark.usefixtures("quick")
def test_several_data_sets_are_ranked_and_compared_on_their_means(make_sweep, tmp_path):
    report = build([make_sweep(tmp_path / "s", runs=24, strategies=3, seeds=2, datasets=4)])
    across = json.loads(report.summary.read_text())["across_data"]
    assert across["friedman"]["mean_ranks"]
    assert any(path.stem == "ranks" for path in report.figures)
    assert "4 data sets" in report.answer[0]


@pytest.mark.usefixtures("quick")
def test_figures_that_are_no_longer_made_are_removed_and_nothing_else(make_sweep, tmp_path):
    sweep = make_sweep(tmp_path / "s", runs=12)
    out = build([sweep]).directory
    (out / "mine.txt").write_text("kept")
    edit(sweep, lambda r: r.update(cost={}))
    build([sweep])
    assert not (out / "figures" / "cost-seconds.svg").exists()
    assert (out / "mine.txt").read_text() == "kept"


@pytest.mark.usefixtures("quick")
def test_a_place_that_cannot_be_written_is_an_input_error(sweep, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        build([sweep], tmp_path / "file")
    with pytest.raises(InputError, match="at least one"):
        build([])


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["report", "report/tables", "report/figures"])
def test_a_report_neither_writes_nor_removes_through_a_link(small, tmp_path, name):
    sweep, outside = small, tmp_path / "outside"
    (outside / "tables").mkdir(parents=True)
    for folder in (outside, outside / "tables"):
        (folder / "mine.csv").write_text("mine")
    (outside / "summary.json").write_text('{"files": ["tables/mine.csv"]}')
    if "/" in name:
        (sweep / "report").mkdir()
        (sweep / "report" / "summary.json").write_text('{"files": ["tables/mine.csv", "figures/mine.svg"]}')
    (sweep / name).symlink_to(outside)
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="not written through links"):
        build([sweep])
    assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["pipe", "device", "bomb"])
def test_a_report_of_pipes_devices_and_bombs_ends_and_names_them(small, kind):
    sweep = small
    last = sorted(sweep.glob("*/result.json"))[-1]
    files = ("history.csv", "plan.json", "predictions.npz", "hardest/hardest.json", "hardest/0.png")
    for path in [last, *(path for name in files for path in sweep.glob(f"*/{name}"))]:
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            path.write_bytes(b"[" * 1_000_000)
    report = build([sweep])
    assert report.counts["unreadable"] == 1
    said = " ".join(report.notes)
    assert "predictions.npz" in said or kind in ("pipe", "device")
    assert report.page.stat().st_size > 10_000
