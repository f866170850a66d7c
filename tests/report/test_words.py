"""What the report says of sweeps whose truth is known: who is better, who is not, and what cannot be told."""

import csv
import json
import re

import numpy as np
import pytest

from headstart.report import figures
from headstart.report.analysis import analyse
from headstart.report.answer import answer
from headstart.report.build import build
from headstart.report.design import read_design
from headstart.report.exhibits import gather
from headstart.report.reading import read_sweeps
from headstart.report.reproducibility import controlled
from headstart.report.style import looks

FE, FT = "feature_extraction", "fine_tune"


@pytest.fixture
def said(write_sweep, tmp_path):
    """`said(runs)`: the headline, and the points by what they are about."""

    def say(runs, margin=None, **options):
        records = read_sweeps([write_sweep(tmp_path / "s", runs, **options)])
        analysis = analyse(read_design(records), margin)
        words = answer(analysis, records, gather(analysis))
        return words.headline, dict(words.points)

    return say


def noise(seed, scale=0.002):
    return np.random.default_rng(seed).normal(0, scale, 12)


def both(first, second, **more):
    """Runs of the two strategies with these scores, a seed each."""
    return [
        {"strategy": strategy, "seed": seed, "test": float(score), **more}
        for strategy, scores in ((FE, first), (FT, second)) for seed, score in enumerate(scores)
    ]  # fmt: skip


def test_a_contender_that_failed_where_it_is_hard_does_not_lead(said):
    hard = np.array([0.05] * 6 + [-0.05] * 6)
    runs = both(0.70 + hard + noise(0), 0.685 + hard + noise(1))
    for run in runs:
        if run["strategy"] == FT and run["seed"] >= 6:
            del run["test"]
    headline, points = said(runs)
    assert headline.startswith(f"{FE} is better than {FT} on d0: 1.5 points ahead in the 6 seeds that both have.")
    assert headline.endswith(
        f"{FT} has a score in 6 of 12 seeds (6 of 12 runs did not complete: DivergedError); it is compared in those "
        "alone, and cannot lead."
    )
    assert f"{FE} is 1.5 points ahead of {FT}, paired over 6 seeds." in points["How sure"]
    assert "p = 0.0312" in points["How sure"]


def test_one_seed_cannot_lead_whatever_it_scored(said):
    headline, points = said([*both([0.70, 0.69, 0.71], []), {"strategy": FT, "seed": 0, "test": 0.78}])
    assert headline == (
        f"It cannot be told whether {FE} or {FT} is better on d0: {FT} is 8.0 points ahead in the 1 seed that both "
        f"have. {FT} has a score in 1 of 3 seeds; it is compared in that one alone, and cannot lead."
    )
    assert "in one pair of runs: there is no interval and no test" in points["How sure"]


def test_a_contender_of_two_seeds_does_not_take_the_headline_from_ten(said):
    runs = both(0.70 + noise(0)[:10], 0.75 + noise(1)[:10])
    runs += [{"strategy": "lp_ft", "seed": seed, "test": 0.80} for seed in range(2)]
    headline, points = said(runs)
    assert headline.startswith(f"It cannot be told whether {FT} or lp_ft is better on d0: lp_ft is ")
    assert f"{FT} is better than {FE}." in headline
    assert "lp_ft has a score in 2 of 10 seeds" in headline
    assert "no difference between these two could reach 5%" in points["What these data cannot tell"]


def test_a_contender_without_any_score_is_named(said):
    runs = [*both([0.7] * 3, [0.7] * 3), *({"strategy": "lora", "seed": seed} for seed in range(3))]
    assert "lora has no score (3 of 3 runs did not complete: DivergedError)." in said(runs)[0]


def test_ties_of_counts_in_single_precision_stay_ties(said):
    counts = [324, 328, 325, 324, 323, 320, 323, 336], [342, 336, 321, 324, 334, 324, 334, 340]
    shares = [[float(np.float32(count) / np.float32(472)) for count in own] for own in counts]
    headline, points = said(both(*shares))
    assert headline.startswith("It cannot be told whether")
    assert "p = 0.0625" in points["How sure"]


def test_a_large_gap_that_is_not_shown_is_said_with_its_size_and_never_called_equal(said):
    headline, points = said(both([0.54, 0.60, 0.66], [0.68] * 3, secs=1))
    assert headline == f"It cannot be told whether {FT} or {FE} is better on d0: 68.0% against 60.0%, 8.0 points apart."
    text = " ".join(points.values())
    assert "not shown to be worse" not in text
    assert "equal" not in text
    assert "To show a true difference of 8.0 points (the one seen)" in points["What would settle it"]


def test_the_cheapest_is_said_to_be_behind_where_that_is_not_shown(said):
    runs = both([0.54, 0.60, 0.66], [0.68] * 3)
    for run in runs:
        run["secs"] = 60 if run["strategy"] == FT else 1
    cost = said(runs)[1]["At what cost"]
    assert f"The cheapest, {FE} takes 1 s (60 times less); it is 8.0 points behind, and whether it is worse" in cost


def test_what_lies_within_the_margin_is_practically_equal_and_only_within_it(said):
    runs = both(0.700 + noise(0), 0.700 + noise(1))
    headline, _ = said(runs)
    assert " are practically equal on d0 (within 1 point)" in headline
    assert said(runs, margin=0.0005)[0].startswith("It cannot be told whether")


@pytest.mark.parametrize("num_seeds", [3, 8])
def test_the_same_scores_on_a_few_examples_do_not_make_two_equal(said, num_seeds):
    """Two that differ on one example of ten mostly score the same on six."""
    sizes = {"train": 28, "val": 6, "test": 6}
    headline, points = said(both([5 / 6] * num_seeds, [5 / 6] * num_seeds, sizes=sizes))
    assert headline.startswith(f"It cannot be told whether {FE} or {FT} is better on d0: 83.3% against 83.3%")
    assert f"(mean of {num_seeds} seeds, all with this score)" in points["How good"]
    sure = points["How sure"]
    assert f"{FE} and {FT} score the same, paired over {num_seeds} seeds." in sure
    assert "On other seeds of these data: no interval, as all pairs differ by the same, p = 1" in sure
    assert "0.0 to 0.0" not in sure
    assert f"scored best in {num_seeds} of {num_seeds} seeds (in {num_seeds} of them no better than another)." in sure
    settle = points["What would settle it"]
    assert ("more test examples, not more seeds" if num_seeds == 8 else "With so few pairs nothing is known") in settle


def test_a_constant_gap_is_no_tie(said):
    """With more contenders it need not be told apart: it is no equality for all that."""
    dice = np.random.default_rng(3)
    runs = both([0.9] * 6, [0.88] * 6)
    for name in ("bss", "l2_sp", "delta", "lora"):
        runs += [{"strategy": name, "seed": seed, "test": 0.8 + float(dice.normal(0, 0.05))} for seed in range(6)]
    _, points = said(runs)
    assert "score the same" not in " ".join(points.values())
    assert points["What would settle it"].endswith("how many more seeds would show it cannot be told.")


def test_no_interval_goes_beyond_what_two_shares_can_differ_by(said):
    _, points = said(both([0.5, 0.75], [0.5, 0.5]))
    assert "On other seeds of these data: 95% interval −100.0 to +100.0" in points["How sure"]


def test_scores_in_small_units_are_not_the_same_for_it(said):
    scores = np.random.default_rng(0).normal(5e-7, 2e-8, (2, 4))
    _, points = said(both(*scores))
    assert "score the same" not in points["How sure"]
    assert "all with this score" not in points["How good"]


def test_a_difference_that_is_shown_and_small_is_said_to_be_small(said):
    headline, _ = said(both(0.700 + noise(0, 0.0005), 0.704 + noise(1, 0.0005)))
    assert headline.startswith(f"{FT} is better than {FE} on d0")
    assert headline.endswith("points ahead, less than the margin of 1 point.")


def test_the_best_of_many_is_claimed_against_all_others(said):
    runs = [
        {"strategy": name, "seed": seed, "test": 0.7 + 0.02 * place + float(noise(place)[seed])}
        for place, name in enumerate(("a", "b", "c", "d")) for seed in range(8)
    ]  # fmt: skip
    headline, points = said(runs)
    assert headline.startswith("d is the best of 4 on d0: 75.9%, 1.")
    assert "ahead of c, the next." in headline
    assert "adjusted for all 6 comparisons" in points["How sure"]
    assert "Of the 3 others, worse: c, b and a." in points["How sure"]
    assert "d scored best in 8 of 8 seeds." in points["How sure"]


def test_those_that_cannot_be_told_from_the_leader_are_named(said):
    runs = both(0.60 + noise(0)[:8], 0.70 + noise(1, 0.02)[:8])
    runs += [{"strategy": "lp_ft", "seed": s, "test": 0.702 + float(noise(2, 0.02)[s])} for s in range(8)]
    headline, _ = said(runs)
    assert headline.startswith("It cannot be told whether ")
    assert FT in headline.split(" is better ")[0]
    assert "lp_ft" in headline.split(" is better ")[0]
    assert headline.endswith(f"is better than {FE}.")


def sized(gaps, seeds=8, scale=0.005):
    rng = np.random.default_rng(3)
    runs = []
    for n, gap in gaps.items():
        for seed in range(seeds):
            luck = rng.normal(0, 0.01)
            runs.append({"strategy": FE, "seed": seed, "test": 0.6 + luck, "n": n})
            runs.append({"strategy": FT, "seed": seed, "test": 0.6 + gap + luck + rng.normal(0, scale), "n": n})
    return runs


def test_sizes_at_which_one_is_ahead_are_said_though_it_is_behind_at_the_largest(said):
    headline, points = said(sized({5: -0.05, 10: 0.05, 20: 0.05, 40: -0.05}))
    assert headline.startswith(f"{FE} is better than {FT} on d0 with 40 examples a class")
    text = points["With less data"]
    assert f"{FT} against {FE}, by examples a class: better with 10 and 20; worse with 5 and 40." in text
    assert f"{FE} overtakes {FT} between 20 and 40 examples a class" in text
    assert f"{FT} overtakes" not in text


def test_without_a_difference_no_crossover_is_shown(said):
    text = said(sized(dict.fromkeys((5, 10, 20, 40, 80), 0.0), seeds=5, scale=0.012))[1]["With less data"]
    assert text == f"{FT} and {FE} cannot be told apart at any size. No crossover is shown."


def test_a_crossover_over_a_wide_step_has_no_place(said):
    text = said(sized({5: -0.05, 50: 0.05}))[1]["With less data"]
    assert "overtakes feature_extraction between 5 and 50 examples a class; sizes more than 4 times apart" in text
    assert "at about" not in text


def test_better_at_every_size_is_said_where_it_is_shown_at_every_size(said):
    text = said(sized({5: 0.05, 10: 0.05}))[1]["With less data"]
    assert text == f"{FT} is better than {FE} at every size measured. No crossover is shown."


def test_what_happened_on_each_data_set_is_the_answer(said):
    runs = [run for place in ("d0", "d1") for run in both(0.60 + noise(0)[:10], 0.75 + noise(1)[:10], data=place)]
    headline, points = said(runs)
    assert (
        headline == f"{FT} is better than {FE} on both data sets: 15.0 points ahead on d0 and 15.0 points ahead on d1."
    )
    assert points["On each data set"] == f"Of 2 data sets, {FT} is shown to be the best on 2."
    assert "nothing can be claimed for data sets in general" in points["What these data cannot tell"]
    assert "adjusted for all 2 comparisons in 2 tables" in points["How sure"]


def test_data_sets_on_which_the_order_turns_are_named(said):
    runs = both(0.60 + noise(0)[:8], 0.75 + noise(1)[:8], data="a")
    runs += both(0.75 + noise(2)[:8], 0.65 + noise(3)[:8], data="b")
    headline, points = said(runs)
    assert f"{FT} has the best mean over 2 data sets" in headline
    assert "Of the two it is better on a and worse on b." in headline
    assert f"The order turns with the data: {FT} is better than {FE} on a, worse on b." in points["On each data set"]


def test_a_claim_over_data_sets_needs_data_sets(said):
    runs = []
    for place in range(7):
        runs += both(0.60 + noise(place)[:3], 0.65 + noise(place + 50)[:3], data=f"d{place}")
    headline, points = said(runs)
    assert headline.startswith(f"{FT} is better than {FE} over 7 data sets")
    assert "p = 0.0156" in points["How sure"]


def test_sizes_and_shifts_of_several_data_sets_are_said_for_each(said):
    runs = []
    for place in ("a", "b"):
        for run in sized({5: 0.05, 10: 0.05}):
            gap = 0.2 if run["strategy"] == FE else 0.1
            runs.append({**run, "data": place, "metrics": {"shift/noise/accuracy": run["test"] - gap}})
    points = said(runs)[1]
    assert f"{FT} is better than {FE} at every size measured" in points["With less data: a"]
    assert points["Under shift: b"] == f"On noise, {FT} is better than the other."


def test_who_is_better_under_shift_is_tested(said):
    def runs(drop):
        return [
            {**run, "metrics": {"shift/noise/accuracy": run["test"] - drop * (run["strategy"] == FT)}}
            for run in both(0.70 + noise(0)[:8], 0.75 + noise(1)[:8])
        ]

    assert said(runs(0.1))[1]["Under shift"].startswith(f"On noise, {FE} (+5.")
    assert f"is better than {FT}" in said(runs(0.1))[1]["Under shift"]
    assert said(runs(0.05))[1]["Under shift"] == f"On noise, none is told apart from {FT}."


def test_own_and_shifted_test_sets_are_one_family_and_the_page_says_what_is_controlled(said, write_sweep, tmp_path):
    runs = [
        {**run, "metrics": {f"shift/{name}/accuracy": run["test"] - 0.1 for name in ("noise", "blur")}}
        for run in both(0.70 + noise(0)[:8], 0.75 + noise(1)[:8])
    ]
    assert "adjusted for all 3 comparisons in 3 tables" in said(runs)[1]["How sure"]
    found = analyse(read_design(read_sweeps([write_sweep(tmp_path / "t", runs)])))
    text = controlled(found)
    assert "over all 3 comparisons in 3 tables (of data, size and test set, shifted ones too), the chance that" in text
    assert "5% of their own: verdicts of practical equality." in text


def test_where_an_interval_leaves_out_zero_and_the_test_cannot_tell_the_words_say_which_counts(said):
    close = said(both(0.70 + noise(0, 0.001)[:4], 0.75 + noise(1, 0.001)[:4]))[1]["How sure"]
    assert close.count("Verdicts lean on the test, not on intervals") == 1
    assert f"the interval of {FT} against {FE} leaves out zero though p is above 5%." in close
    clear = said(both(0.70 + noise(0)[:8], 0.75 + noise(1)[:8]))[1]["How sure"]
    assert "Verdicts lean" not in clear


def errors(first, second, seeds=8, **more):
    """Runs of a regression with these mean RMSEs."""
    wave = 0.004 * np.cos(2 * np.pi * np.arange(seeds) / seeds)
    runs = both(first + wave, second - wave)
    for run in runs:
        names = {"rmse": run["test"], "mae": 0.8 * run["test"], "r2": 1 - run["test"] ** 2 / 10}
        metrics = {f"{part}/{name}": value for part in ("val", "test") for name, value in names.items()}
        run["metrics"] = {"val/accuracy": None, "test/accuracy": None, **metrics, "test/baseline_rmse": 3.0, **more}
        run["result"] = {"score": "rmse", "selection": {"metric": "val/rmse", "mode": "min", "value": run["test"]}}
    return runs


def test_where_less_is_better_the_smaller_error_leads_and_every_word_says_so(said):
    runs = errors(1.62, 1.58)
    for run in runs:
        run["secs"] = 1 if run["strategy"] == FE else 60
        run["metrics"]["shift/noise/rmse"] = run["test"] + (0.2 if run["strategy"] == FT else 0.1)
    headline, points = said(runs)
    assert headline == f"{FT} is better than {FE} on d0: 1.580 against 1.620, 0.040 ahead."
    assert points["How good"].startswith(f"{FT} reaches 1.580 test RMSE (less is better; mean of 8 seeds; 95% interval")
    assert f"{FT} scored best in 8 of 8 seeds" in points["How sure"]
    assert f"The cheapest, {FE} takes 1 s (60 times less) and is 0.040 worse." in points["At what cost"]
    assert points["Under shift"] == f"On noise, {FE} (+0.060) is better than {FT}."
    assert points["The baseline"] == "One and the same answer, the best for training, would come to RMSE 3.000."
    text = " ".join([headline, *points.values()])
    assert not {"highest", "higher", "above", "majority"} & set(text.replace(",", "").split())


def test_who_is_no_better_than_a_constant_answer_is_named_where_less_is_better_too(said):
    points = said(errors(3.2, 1.58))[1]
    assert points["The baseline"].endswith(f"no better than that: {FE}.")


def test_numbers_of_one_measure_have_the_same_decimals_everywhere(write_sweep, tmp_path, quick_drawing):
    made = build([write_sweep(tmp_path / "s", errors(1.6201, 1.5804))])
    table = (made.directory / "tables" / "comparison.md").read_text()
    assert re.findall(r"\d\.\d+ ± \d\.\d+", table) == re.findall(r"\d\.\d{3} ± \d\.\d{3}\b", table)
    assert len(re.findall(r"\d\.\d{3} ± \d\.\d{3}\b", table)) == 2
    assert "less is better" in table.lower()


def test_tried_settings_and_places_over_seeds_stand_beside_the_score(write_sweep, tmp_path, quick_drawing):
    runs = [run for run in selected_anew() if not run.get("fresh")]
    folder = build([write_sweep(tmp_path / "s", runs)]).directory / "tables"
    head = (folder / "comparison.md").read_text().splitlines()[2]
    assert "Tried" in head
    assert head.count("|") == 6, "five columns"
    with (folder / "comparison.csv").open() as file:
        rows = {row["contender"]: row for row in csv.DictReader(file)}
    assert (rows[FT]["tried"], rows[FE]["tried"]) == ("3", "3")
    assert (rows[FT]["mean_rank"], rows[FE]["mean_rank"]) == ("1", "2")
    assert (rows[FT]["num_best"], rows[FE]["num_best"]) == ("6", "0")
    with (folder / "differences.csv").open() as file:
        row = next(csv.DictReader(file))
    gaps = 0.02 + noise(1)[:6] - noise(0)[:6]
    assert float(row["effect_size"]) == pytest.approx(gaps.mean() / gaps.std(ddof=1))


@pytest.mark.parametrize(("metric", "line"), [("balanced_accuracy", 12.5), ("auroc", 50.0)])
def test_chance_is_drawn_where_the_measure_alone_says_what_it_is(write_sweep, tmp_path, monkeypatch, metric, line):
    from matplotlib.axes import Axes

    drawn = []
    monkeypatch.setattr(Axes, "axvline", lambda self, x, **_: drawn.append(x))
    runs = both(0.70 + noise(0)[:3], 0.72 + noise(1)[:3])
    for run in runs:
        run["metrics"] = {f"{part}/{metric}": run["test"] for part in ("val", "test")}
        run["metrics"] |= {"val/accuracy": None, "test/accuracy": None}
    analysis = analyse(read_design(read_sweeps([write_sweep(tmp_path / "s", runs)])))
    figures.scores(analysis, analysis.focus, looks(analysis.design.contenders), "scores")
    assert set(drawn) == {line}


def test_a_split_that_is_the_same_in_all_runs_is_said_to_be(said):
    _, points = said(both(0.70 + noise(0)[:8], 0.72 + noise(1)[:8], split="same"))
    text = " ".join(points.values())
    assert "The split is the same in all runs" in points["What these data cannot tell"]
    assert "new splits" not in text
    assert "all on one split" in points["What scores vary with"]


def test_what_seeds_draw_is_told_apart_from_what_splits_draw(said):
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 0.03, 6)
    runs = []
    for seed in range(12):
        for strategy in (FE, FT):
            score = 0.7 + luck[seed % 6] + rng.normal(0, 0.003)
            runs.append({"strategy": strategy, "seed": seed, "test": score, "split": f"s{seed % 6}"})
    text = said(runs)[1]["What scores vary with"]
    between, within = (float(text.split(" points " + words)[0].split()[-1]) for words in ("from split", "within"))
    assert between == pytest.approx(100 * luck.std(ddof=1), rel=0.3)
    assert within == pytest.approx(0.3, rel=0.5)


def test_unequal_search_is_warned_of_and_what_selection_does_is_said(said):
    runs = both(0.70 + noise(0)[:6], 0.72 + noise(1)[:6])
    for place in range(1, 6):
        runs += [{**run, "lr": 0.001 * 2**place, "test": run["test"] - 0.01, "val": run["test"] - 0.01}
                 for run in runs[:12] if run["strategy"] == FT]  # fmt: skip
    text = said(runs)[1]["Selection"]
    assert f"{FT} tried 6, {FE} 1: whoever tries more finds better settings, and luckier ones" in text
    assert "the best of several contenders is partly the luckiest" in text


def selected_anew(**more):
    """Two strategies at three rates and 6 seeds, and what was selected on 6 fresh seeds, on which it is worse."""
    runs = []
    for place, lr in enumerate((0.1, 0.01, 0.001)):
        runs += [{**run, "lr": lr, "test": run["test"] - 0.01 * place, "val": run["test"] - 0.01 * place}
                 for run in both(0.70 + noise(0)[:6], 0.72 + noise(1)[:6])]  # fmt: skip
    for run in both(0.68 + noise(2)[:6], 0.71 + noise(3)[:6]):
        runs.append({**run, "seed": 6 + run["seed"], "lr": 0.1, "fresh": True, **more})
    return runs


def test_scores_and_verdicts_are_of_fresh_seeds_alone_where_there_are_any(said):
    headline, points = said(selected_anew())
    assert headline.startswith(f"{FT} is better than {FE} on d0: 71.")
    assert "mean of 6 seeds" in points["How good"]
    assert "of 3 tried" in points["Selection"]
    assert "are of fresh seeds alone, on which no setting was selected" in points["Selection"]
    assert "--fresh-seeds" not in points["Selection"]


def test_runs_anew_of_what_is_no_longer_selected_are_left_out_and_counted(write_sweep, tmp_path):
    design = read_design(read_sweeps([write_sweep(tmp_path / "s", selected_anew(lr=0.01))]))
    assert not design.fresh
    assert any(
        "12 runs on fresh seeds are of settings that are not those selected now" in note for note in design.notes
    )


def test_more_fresh_seeds_are_what_would_settle_it_where_those_count(said):
    command = "headstart train -m strategy=a,b seed=range(6) --fresh-seeds"
    runs = selected_anew()
    for run in runs:
        if run.get("fresh"):
            run["test"] = (
                0.70 + 0.01 * ((run["seed"] * 7 + 3 * (run["strategy"] == FT)) % 6) + 0.004 * (run["strategy"] == FT)
            )
    text = said(runs, command=command)[1]["What would settle it"]
    assert re.search(r"'seed=range\(6\)' --fresh-seeds=\d+$", text)


def test_what_selection_does_and_its_remedy_are_said(said):
    runs = [run for run in selected_anew() if not run.get("fresh")]
    assert "the comparison's command with --fresh-seeds runs what was selected anew" in said(runs)[1]["Selection"]


def test_more_seeds_come_with_their_time_and_command(said):
    runs = both(0.700 + noise(0, 0.01)[:5], 0.705 + noise(1, 0.01)[:5], secs=3600)
    command = "headstart train -m strategy=feature_extraction,fine_tune 'seed=range(5)'"
    text = said(runs, command=command)[1]["What would settle it"]
    needed = int(text.split("takes about ")[1].split()[0])
    assert f"{needed - 5} more. They take about" in text
    assert f"headstart train -m strategy=feature_extraction,fine_tune 'seed=range({needed})'" in text


@pytest.mark.usefixtures("quick_drawing")
def test_many_contenders_are_tested_as_all_pairs_though_few_are_shown(write_sweep, tmp_path):
    rng = np.random.default_rng(0)
    runs = [{"strategy": f"s{i:02}", "seed": s, "test": 0.7 + rng.normal(0, 0.01)} for i in range(20) for s in range(6)]
    made = build([write_sweep(tmp_path / "s", runs)])
    condition = json.loads(made.summary.read_text())["conditions"][0]
    assert len(condition["differences"]) == 19
    assert {d["num_comparisons"] for d in condition["differences"]} == {190}


@pytest.mark.usefixtures("quick_drawing")
def test_tables_are_narrow_and_their_files_hold_all_with_units(write_sweep, tmp_path):
    made = build([write_sweep(tmp_path / "s", both(0.70 + noise(0)[:8], 0.72 + noise(1)[:8]))])
    folder = made.directory / "tables"
    for name in ("comparison", "differences"):
        heads = (folder / f"{name}.md").read_text().splitlines()[2]
        assert heads.count("|") == 6, "five columns"
    with (folder / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == ["best", "worse"]
    assert float(rows[0]["mean_percent"]) == pytest.approx(72, abs=0.2)
    assert rows[0]["n_per_class"] == "all"
    assert float(rows[0]["ci95_high_percent"]) == pytest.approx(
        float(rows[0]["mean_percent"]) + float(rows[0]["half_width_percent"])
    )
    with (folder / "differences.csv").open() as file:
        row = next(csv.DictReader(file))
    assert (row["better"], row["verdict"], row["other"]) == (FT, "better than", FE)
    assert float(row["difference_points"]) == pytest.approx(2, abs=0.2)
    assert float(row["examples_low_points"]) < float(row["ci95_low_points"])


@pytest.mark.usefixtures("quick_drawing")
def test_each_contender_has_its_settings_in_a_row(write_sweep, tmp_path):
    runs = both([0.7] * 3, [0.72] * 3)
    for run in runs:
        run["lr"] = 0.01 if run["strategy"] == FE else 0.001
        run["settings"] = {"strategy.frozen_norm": "eval" if run["strategy"] == FE else "train"}
    made = build([write_sweep(tmp_path / "s", runs)])
    with (made.directory / "tables" / "settings.csv").open() as file:
        rows = {row["contender"]: row for row in csv.DictReader(file)}
    assert float(rows[FE]["optimizer.lr"]) == 0.01
    assert (rows[FT]["trainer.max_epochs"], rows[FT]["strategy.frozen_norm"]) == ("8", "train")
    assert rows[FT]["train_examples"] == "800"


def test_probes_that_were_trained_together_share_their_time(said):
    runs = [{**run, "secs": 40, "cost": {"train_seconds": 10, "fused_with": 3}} for run in both([0.7] * 4, [0.71] * 4)]
    assert "all its runs here, whatever their settings, took 40 s" in said(runs)[1]["At what cost"]


@pytest.mark.usefixtures("quick_drawing")
def test_sections_without_data_are_folded_away(write_sweep, tmp_path):
    page = build([write_sweep(tmp_path / "s", both([0.7] * 3, [0.72] * 3))]).page.read_text()
    assert '<section id="shifts"' not in page
    assert page.index("What this comparison does not have") > page.index('<section id="reproducibility"')


def test_a_margin_may_be_given_and_must_be_a_number(write_sweep, tmp_path, capsys):
    from headstart.cli.commands import report
    from headstart.errors import InputError

    sweep = write_sweep(tmp_path / "s", both(0.700 + noise(0), 0.700 + noise(1)))
    for word in ("0", "x", "nan", "-1", "inf"):
        with pytest.raises(InputError, match="A margin is"):
            report([str(sweep), f"--margin={word}"])
    assert report([str(sweep), "--margin=0.05"]) == 0
    assert capsys.readouterr().out.startswith("It cannot be told whether")


def keep(sweep, predictions):
    """Write `predictions(strategy, seed)` beside every result."""
    for path in sweep.glob("*/result.json"):
        run = json.loads(path.read_text())
        arrays = predictions(run["choices"]["strategy"], run["seed"])
        np.savez(path.with_name("predictions.npz"), **{f"test/{name}": array for name, array in arrays.items()})


def test_the_class_decided_for_counts_not_what_halves_would_decide(write_sweep, tmp_path):
    probability = np.full((40, 2), 0.5, dtype=np.float16)  # ties once they are halves
    labels = np.ones(40, dtype=np.int64)

    def predictions(strategy, seed):
        arrays = {"id": np.arange(40).astype(str), "label": labels, "probability": probability}
        return {**arrays, "predicted": labels * (strategy == FT) * (np.arange(40) < 30)}

    sweep = write_sweep(tmp_path / "s", both([0.0] * 3, [0.75] * 3, split="same"))
    keep(sweep, predictions)
    found = gather(analyse(read_design(read_sweeps([sweep]))))
    assert [(test.only_first, test.only_second) for test in found.examples.values()] == [(30, 0)] * 3


def test_one_test_set_has_an_interval_for_other_examples_from_the_predictions(write_sweep, tmp_path):
    rng = np.random.default_rng(0)
    right = {FE: rng.random((8, 343)) < 0.70, FT: rng.random((8, 343)) < 0.74}

    def predictions(strategy, seed):
        own = right[strategy][seed]
        arrays = {"id": np.arange(343).astype(str), "label": np.ones(343, dtype=np.int64)}
        return {**arrays, "predicted": own.astype(np.int64), "probability": np.full((343, 2), 0.5, np.float16)}

    sweep = write_sweep(tmp_path / "s", both(*(right[name].mean(1) for name in (FE, FT)), split="same"))
    keep(sweep, predictions)
    records = read_sweeps([sweep])
    analysis = analyse(read_design(records))
    exhibits = gather(analysis)
    assert exhibits.crossed.mean == pytest.approx(right[FT].mean() - right[FE].mean())
    text = dict(answer(analysis, records, exhibits).points)["How sure"]
    assert "On other examples like these: 95% interval" in text


@pytest.mark.usefixtures("quick_drawing")
def test_a_measure_that_is_no_share_has_no_margin_unless_one_is_given(write_sweep, tmp_path):
    runs = both(0.700 + noise(0), 0.700 + noise(1))
    for run in runs:
        run["metrics"] = {
            "val/accuracy": None,
            "test/accuracy": None,
            "val/loss": run["test"],
            "test/loss": run["test"],
        }
    sweep = write_sweep(tmp_path / "s", runs)
    made = build([sweep])
    assert made.answer[0].startswith("It cannot be told whether")
    assert "nothing is called practically equal" in made.page.read_text()
    assert "are practically equal on d0 (within 0.01)" in build([sweep], margin=0.01).answer[0]
