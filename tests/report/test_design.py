"""Which runs are repeats, which are settings to select among, and which are contenders."""

import pytest

from headstart.report.design import read_design
from headstart.report.reading import read_sweeps
from headstart.report.selected import selected


def test_heads_trained_and_heads_solved_for_are_two_contenders_and_settings_are_selected_in_each(write_sweep, tmp_path):
    runs = [
        {"strategy": "feature_extraction", "seed": seed, "lr": lr, "test": score, "val": score,
         "settings": {"head.solver": solver, "head.l2": l2}}
        for seed in (0, 1)
        for solver, l2, lr, score in [
            ("gradient", 1.0, 0.1, 0.5),
            ("gradient", 1.0, 0.01, 0.6),
            ("lbfgs", 1.0, 0.1, 0.7),
            ("lbfgs", 9.0, 0.1, 0.8),
        ]
    ]  # fmt: skip
    design = read_design(read_sweeps([write_sweep(tmp_path / "s", runs)]))
    found = {cell.contender.label: cell.selected for cell in design.cells.values()}
    assert {label: one.val for label, one in found.items()} == {"solver=gradient": 0.6, "solver=lbfgs": 0.8}
    assert found["solver=lbfgs"].label == "l2=9"


def test_a_head_that_knows_no_solver_is_a_setting_to_select(write_sweep, tmp_path):
    runs = [
        {"strategy": "fine_tune", "seed": seed, "test": score, "settings": settings, "choices": {"head": head}}
        for seed in (0, 1)
        for head, settings, score in [("linear", {"head.solver": "gradient"}, 0.5), ("mlp", {}, 0.6)]
    ]
    (cell,) = read_design(read_sweeps([write_sweep(tmp_path / "s", runs)])).cells.values()
    assert cell.selected.label == "head=mlp"


def test_neighbours_are_a_contender_and_their_number_is_selected(write_sweep, tmp_path):
    kept = {"head._target_": "headstart.training.neighbours.Neighbours"}
    heads = [("knn", {**kept, "head.k": 5}, 0.5), ("knn", {**kept, "head.k": 20}, 0.6), ("mlp", {}, 0.4)]
    runs = [
        {"strategy": "feature_extraction", "seed": seed, "test": score, "val": score, "settings": settings,
         "choices": {"head": head}}
        for seed in (0, 1)
        for head, settings, score in heads
    ]  # fmt: skip
    design = read_design(read_sweeps([write_sweep(tmp_path / "s", runs)]))
    found = {cell.contender.label: cell.selected for cell in design.cells.values()}
    assert {label: one.val for label, one in found.items()} == {"solver=gradient": 0.4, "solver=neighbours": 0.6}


def test_a_setting_that_is_called_like_a_choice_is_told_with_its_group(write_sweep, tmp_path):
    runs = [
        {
            "strategy": "fine_tune",
            "seed": seed,
            "test": 0.5,
            "settings": {"trainer.strategy": how, "trainer.devices": 2},
        }
        for seed in (0, 1)
        for how in ("auto", "fsdp2")
    ]
    design = read_design(read_sweeps([write_sweep(tmp_path / "s", runs)]))
    labels = {cell.contender.label for cell in design.cells.values()}
    assert labels == {"trainer.strategy=auto", "trainer.strategy=fsdp2"}


@pytest.mark.parametrize(
    ("others", "told"),
    [([0.5, 0.4], "(so has 1 other: the first is taken)"), ([0.5, 0.5], "(so have 2 others: the first is taken)"),
     ([0.4, 0.3], "over 1 run. Its best")],
)  # fmt: skip
def test_a_tie_on_val_is_told(write_sweep, tmp_path, others, told):
    runs = [
        {"strategy": strategy, "seed": 0, "test": 0.5, "val": val}
        for strategy, val in zip(("fine_tune", "lora", "lp_ft"), [0.5, *others], strict=True)
    ]
    assert told in selected(write_sweep(tmp_path / "s", runs)).words
