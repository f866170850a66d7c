"""Sweeps as they are found on disks: whole, truncated, foreign, empty."""

import json
import shutil

import pytest

from headstart.errors import InputError
from headstart.report.reading import read_sweeps


@pytest.fixture
def sweep(make_sweep, tmp_path):
    return make_sweep(tmp_path / "sweep")


def statuses(records):
    return sorted({run.status for run in records.runs})


def first(sweep):
    return next(path for path in sorted(sweep.iterdir()) if path.is_dir())


def test_every_listed_run_is_read(sweep):
    records = read_sweeps([sweep])
    assert (len(records.runs), statuses(records), records.notes) == (12, ["completed"], [])
    assert records.runs[0].metrics["test/accuracy"] > 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"), ('{"schema": 1, "status"', "not whole JSON"), ("[1, 2]", "not a JSON object"),
        ('{"schema": 9, "status": "completed"}', "schema"), ('{"schema": 1, "status": "fine"}', "status"),
        ('{"schema": 1, "status": "completed"}', "lacks what every completed run"), ("[" * 100_000, "not whole JSON"),
        ('{"schema": 1, "status": "completed", "run_id": "other", "choices": {}, "settings": {}, "overrides": [], '
         '"metrics": {"test/accuracy": 0.5}, "cost": {}, "data": {}}', "another run"),
        ('{"schema": 1, "metrics": {"test/accuracy": 1e400}}', "1e400, which is no number"),
        ("\x00\x01", "not whole JSON"),
    ],
)  # fmt: skip
def test_a_result_that_cannot_be_used_makes_its_run_unreadable_and_says_why(sweep, content, words):
    run = first(sweep)
    (run / "result.json").write_text(content)
    records = read_sweeps([sweep])
    found = next(r for r in records.runs if r.run_id == run.name)
    assert found.status == "unreadable"
    assert words in found.error[1]
    assert found.choices, "what it was asked to do is still known, from sweep.json"


@pytest.mark.parametrize(
    "changes",
    [{"metrics": {"test/accuracy": "high"}}, {"metrics": {"test/accuracy": True}}, {"cost": [1]}, {"choices": None},
     {"settings": "none"}, {"data": 3}, {"overrides": {"a": 1}}],
)  # fmt: skip
def test_a_result_with_values_of_the_wrong_kind_cannot_be_used(sweep, changes):
    path = first(sweep) / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    run = next(r for r in read_sweeps([sweep]).runs if r.run_id == path.parent.name)
    assert run.status == "unreadable"
    assert not run.metrics


def test_what_is_not_known_of_a_run_may_be_of_any_kind(sweep):
    path = first(sweep) / "result.json"
    changes = {"weights": [], "git": "x", "environment": 3, "metrics": {"test/accuracy": 0.5, "test/loss": None}}
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    run = next(r for r in read_sweeps([sweep]).runs if r.run_id == path.parent.name)
    assert (run.status, dict(run.metrics)) == ("completed", {"test/accuracy": 0.5})


def test_missing_and_unfinished_runs_are_told_apart(sweep):
    runs = [path for path in sorted(sweep.iterdir()) if path.is_dir()]
    shutil.rmtree(runs[0])
    (runs[1] / "result.json").unlink()
    records = read_sweeps([sweep])
    by_id = {run.run_id: run.status for run in records.runs}
    assert (by_id[runs[0].name], by_id[runs[1].name]) == ("missing", "unfinished")


def test_runs_that_are_not_listed_are_left_out_and_named(sweep):
    shutil.copytree(first(sweep), sweep / "stranger")
    records = read_sweeps([sweep])
    assert len(records.runs) == 12
    assert "stranger" in records.notes[0]


@pytest.mark.parametrize("content", [None, "", "{", '{"runs": 3}'])
def test_without_a_usable_listing_the_directories_are_taken_and_a_note_says_so(sweep, content):
    path = sweep / "sweep.json"
    path.unlink() if content is None else path.write_text(content)
    records = read_sweeps([sweep])
    assert len(records.runs) == 12
    assert "sweep.json" in records.notes[0]


def test_a_listing_cannot_lead_out_of_its_directory(sweep, tmp_path):
    shutil.copytree(first(sweep), tmp_path / "outside")
    (sweep / "sweep.json").write_text(
        json.dumps({"schema": 1, "runs": [{"run_id": "../outside"}, {"run_id": ".."}, 7]})
    )
    with pytest.raises(InputError, match="holds no run"):
        read_sweeps([sweep])


def test_the_same_run_in_two_directories_counts_once(sweep, tmp_path):
    shutil.copytree(sweep, tmp_path / "copy")
    records = read_sweeps([sweep, tmp_path / "copy"])
    assert len(records.runs) == 12
    assert any("more than one" in note for note in records.notes)


def test_a_run_that_was_copied_and_renamed_is_read_alone_and_beside_others(sweep, tmp_path):
    copies = tmp_path / "my copies"
    shutil.copytree(first(sweep), copies / "winner")
    for place in (copies, copies / "winner"):
        (run,) = read_sweeps([place]).runs
        assert (run.run_id, run.status) == (first(sweep).name, "completed")


def test_a_listed_run_whose_folder_was_renamed_is_read_and_a_copy_of_one_is_not(sweep):
    run = first(sweep)
    shutil.copytree(run, sweep / "copy")
    records = read_sweeps([sweep])
    assert (len(records.runs), statuses(records)) == (12, ["completed"])
    assert any("left out: copy" in note for note in records.notes)
    shutil.rmtree(run)
    records = read_sweeps([sweep])
    assert (len(records.runs), statuses(records), records.notes) == (12, ["completed"], [])


def test_a_run_of_its_own_is_read_though_hydra_left_a_config_in_it(sweep, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(first(sweep), alone)
    (alone / ".hydra").mkdir()
    (alone / ".hydra" / "config.yaml").write_text("seed: 0\n")
    (run,) = read_sweeps([alone]).runs
    assert (run.run_id, run.status) == (first(sweep).name, "completed")


def test_earlier_attempts_count_in_what_the_sweep_cost(sweep):
    attempt = first(sweep) / "attempts" / "1"
    attempt.mkdir(parents=True)
    (attempt / "result.json").write_text('{"cost": {"total_seconds": 12.5}}')
    run = next(r for r in read_sweeps([sweep]).runs if r.run_id == first(sweep).name)
    assert (run.attempts, run.attempt_seconds) == (1, 12.5)


def test_directories_without_runs_are_refused_all_together(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as error:
        read_sweeps([tmp_path / "empty", tmp_path / "nowhere"])
    assert len(error.value.messages) == 2
