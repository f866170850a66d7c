"""The rule that comes with the program, and the table in the docs, are what the script makes of the recorded runs."""

import csv
import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from headstart.advice import rule

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "scripts" / "comparisons"


@pytest.fixture(scope="module")
def judged():
    return importlib.import_module("judge_advice")


def test_the_rule_is_the_one_that_the_recorded_comparisons_give(judged, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(judged, "FILE", tmp_path / "rule.json")
    monkeypatch.setattr(sys, "argv", ["judge_advice.py", "--write"])
    judged.main()
    assert json.loads((tmp_path / "rule.json").read_text()) == json.loads(rule.FILE.read_text("utf-8"))
    printed = [line for line in capsys.readouterr().out.splitlines() if line.strip() and not line.startswith("Written")]
    page = (ROOT / "docs" / "advice.md").read_text(encoding="utf8")
    assert [line for line in printed if line not in page] == []


def test_no_comparison_is_judged_by_a_rule_that_saw_its_data(judged):
    comparisons = judged.read()
    seen = []

    def spy(one, others):
        seen.append(all(other.source != one.source for other in others))
        return dict.fromkeys(one.scores, 0.0)

    judged.regrets(spy, comparisons)
    assert len(seen) == len(comparisons)
    assert all(seen)


def test_the_way_for_a_data_set_is_chosen_on_the_others(judged, monkeypatch):
    """On the one where a way is best by far it does not speak for itself, nor do other labels of its examples."""
    comparisons, asked = judged.read(), []
    real = judged.best_way

    def spy(others):
        asked.append({one.source for one in others})
        return real(others)

    monkeypatch.setattr(judged, "best_way", spy)
    judged.regrets(judged.chosen, comparisons)
    assert asked == [{other.source for other in comparisons} - {one.source} for one in comparisons]
    assert len({one.source for one in comparisons}) < len({one.problem for one in comparisons})


def test_ways_that_are_judged_are_those_that_the_program_has(judged):
    """What is written gives the order of options that was judged."""
    comparisons, known = judged.read(), rule.read()
    way = judged.WAYS[known.record["way"]]
    assert (known.order.first, known.order.backbones) == (way.first, way.backbones)
    fitted = judged.rule_of(comparisons, way.shrinkage, way.by_modality, way.by_norm)
    assert known.order.prior.slope == pytest.approx(fitted.order.prior.slope, abs=1e-5)
    given = 20, 0.5, "text"
    assert known.gain("lora", *given).mean == pytest.approx(fitted.gain("lora", *given).mean, abs=1e-4)


def test_regret_and_chance_are_as_counted_by_hand(judged):
    measured = {"a": {"num_train": 40.0, "num_classes": 8.0, "num_parameters": 1.0}}
    scores, runs = {("a", "probe"): 0.5, ("a", "lora"): 0.62}, np.array([[0.5], [0.62]])
    costs = dict.fromkeys(scores, 2.0)
    one = judged.Comparison("emoji", 5, scores, measured, {"a": np.zeros(5)}, runs, runs[::-1], costs)
    assert one.seconds == 4
    assert one.selected(list(scores)) == ("a", "probe"), "which is best on val"
    assert one.regret(("a", "probe")) == pytest.approx(12)
    assert one.regret(("a", "lora")) == 0
    assert judged.by_chance([one]).regret == pytest.approx(6)
    assert judged.judge(judged.fixed("probe"), [one]).regret == pytest.approx(12)
    assert judged.judge(judged.fixed("lora"), [one]).tau == pytest.approx(1)


def test_what_is_selected_is_best_on_val_over_the_first_seeds_that_are_asked_for(judged):
    scores = {("a", "probe"): 0.1, ("a", "lora"): 0.2, ("b", "lora"): 0.3}
    vals = np.array([[0.9, 0.1], [0.8, 0.8], [0.1, np.nan]])  # the third lacks a seed: it is not the better for that
    one = judged.Comparison("emoji", 5, scores, {}, {}, vals, vals, {})
    assert one.selected(list(scores), 1) == ("a", "probe")
    assert one.selected(list(scores)) == ("a", "lora")
    assert one.selected([("b", "lora")]) == ("b", "lora")


def test_who_runs_the_printed_comparison_loses_less_than_who_takes_what_comes_first(judged):
    comparisons = judged.read()
    told = [float(number) for number in re.findall(r"(\d+\.\d\d)", judged.carried_out(comparisons))]
    assert told[0] < np.mean(judged.regrets(judged.chosen, comparisons))


def test_every_recorded_run_is_of_a_problem_and_a_contender_that_the_script_knows():
    with (RECORDED / "runs.csv").open(encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    assert len({(row["problem"], row["size"], row["backbone"], row["contender"], row["seed"]) for row in rows}) == len(
        rows
    )
    assert all(-5 < float(row["test"]) <= 1 for row in rows)


def test_parts_of_what_is_to_be_recorded_are_disjoint_and_make_the_whole():
    recording = importlib.import_module("record_comparisons")
    whole = list(recording.order())
    assert list(recording.Part().runs()) == whole
    assert [run for seed in recording.SEEDS for run in recording.Part(seeds=[seed]).runs()] == whole
    assert {run[3] for run in recording.Part(backbones=["minilm"]).runs()} == {"minilm"}
