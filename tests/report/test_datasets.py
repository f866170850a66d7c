"""What the report calls the data: by its name, told apart by its contents."""

import json
import shutil

import pytest

from headstart.report.analysis import analyse
from headstart.report.build import build
from headstart.report.datasets import read_data
from headstart.report.design import read_design
from headstart.report.reading import Run, read_sweeps


def run(name, fingerprint, root="", choice="image_folder"):
    overrides = [f"data.root={root}"] if root else []
    return Run(
        fingerprint, None, "s", choices={"data": choice}, overrides=overrides, dataset=name, fingerprint=fingerprint
    )


def test_two_roots_of_one_name_are_told_apart():
    found = read_data(
        [run("photos", "f1", "/a/old/photos"), run("photos", "f2", "'/a/new/photos'"), run("birds", "f3")]
    )
    assert found.names == ["old/photos", "new/photos", "birds"]
    assert found.notes == ["old/photos and new/photos are different data of the same name."]
    assert found.versions == {}


def test_data_that_changed_in_its_place_is_shown_by_its_contents():
    found = read_data([run("photos", "1234567", "p/photos"), run("photos", "abcdefg", "p/photos")])
    assert found.names == ["photos 123456", "photos abcdef"]
    assert "was not the same data in all runs" in found.notes[0]
    assert set(found.versions.values()) == {"photos"}


def test_the_same_contents_are_one_data_set_whatever_they_are_called():
    found = read_data([run("photos", "f1", "a/photos"), run("pictures", "f1", "b/pictures")])
    assert found.names == ["photos", "photos"]
    assert found.notes == ["photos and pictures are the same data, and shown as photos."]


def test_a_run_that_told_nothing_has_the_data_of_the_others():
    assert read_data([run("photos", "f1"), run("", "")]).names == ["photos", "photos"]
    assert read_data([run("photos", "f1"), run("birds", "f2"), run("", "")]).names == [
        "photos",
        "birds",
        "image_folder",
    ]
    assert read_data([run("", "")]).names == ["image_folder"]


def test_versions_of_one_data_set_are_not_averaged_over(make_sweep, tmp_path):
    sweep = make_sweep(tmp_path / "s", runs=24, datasets=2)
    for path in sweep.glob("*/result.json"):
        result = json.loads(path.read_text())
        result["data"]["name"] = "photos"
        path.write_text(json.dumps(result))
    found = analyse(read_design(read_sweeps([sweep])))
    assert len(found.design.conditions) == 2
    assert found.across is None


def test_missing_runs_are_counted_with_their_data(make_sweep, tmp_path):
    sweep = make_sweep(tmp_path / "s", runs=12)
    for path in sweep.glob("*/result.json"):
        result = json.loads(path.read_text())
        result["data"]["name"], result["choices"]["data"] = "photos", "image_folder"
        path.write_text(json.dumps(result))
    listing = json.loads((sweep / "sweep.json").read_text())
    for entry in listing["runs"]:
        entry["choices"]["data"] = "image_folder"
    (sweep / "sweep.json").write_text(json.dumps(listing))
    shutil.rmtree(next(path for path in sweep.iterdir() if path.is_dir()))
    assert {condition.dataset for condition in read_design(read_sweeps([sweep])).conditions} == {"photos"}


@pytest.mark.usefixtures("quick_drawing")
def test_what_the_runs_said_is_in_the_report_with_how_many_said_it(make_sweep, tmp_path):
    sweep = make_sweep(tmp_path / "s", runs=12)
    for number, path in enumerate(sorted(sweep.glob("*/result.json"))):
        result = json.loads(path.read_text())
        result["notes"] = ["3 of 10 <files> are not read."] + ["half is guessed", "half is guessed"] * (number < 4)
        path.write_text(json.dumps(result))
    made = build([sweep])
    rows = (made.directory / "tables" / "notes.csv").read_text().splitlines()
    assert rows[1:] == ["3 of 10 <files> are not read.,12", "half is guessed,4"]
    page = made.page.read_text()
    assert "3 of 10 &lt;files&gt; are not read." in page
    assert "12 of 12 runs said something, 2 notes in all" in page
    assert json.loads(made.summary.read_text())["run_notes"]["half is guessed"] == 4
    for path in sweep.glob("*/result.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "notes": {"a": 1}}))
    made = build([sweep])
    assert "no run has a note" in made.page.read_text()
    assert not (made.directory / "tables" / "notes.csv").exists()
