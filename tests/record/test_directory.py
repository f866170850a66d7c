"""The names of a run's and of a comparison's files stand in one place, and lead where they always did."""

import ast
from collections.abc import Iterator
from pathlib import Path

from headstart.record.directory import RunDirectory, SweepDirectory, sweep_of

SOURCE = Path(__file__).parents[2] / "src" / "headstart"
NAMES = (
    "config.yaml", "result.json", "history.csv", "plan.json", "plan.svg", "predictions.npz", "log.txt", "best.ckpt",
    "last.ckpt", "plateau-", "folded.ckpt", "hardest.json", "attempts/", "sweep.json",
)  # fmt: skip


def texts(path: Path) -> Iterator[ast.Constant]:
    """The texts of a module that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf8"))
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node


def test_no_other_module_knows_the_name_of_a_file():
    elsewhere = [
        f"{path.relative_to(SOURCE)}:{node.lineno} {node.value!r}"
        for path in sorted(SOURCE.rglob("*.py"))
        if path != SOURCE / "record" / "directory.py"
        for node in texts(path)
        if any(name in str(node.value) for name in NAMES)
    ]
    assert not elsewhere, "\n".join(elsewhere)


def test_files_lie_where_they_always_did(tmp_path: Path):
    run = RunDirectory(tmp_path / "r")
    attributes = (
        "config", "result", "history", "plan", "drawing", "predictions", "log", "best", "last", "final",
        "hardest", "hardest_list", "adapter", "attempts", "reruns", "lock",
    )  # fmt: skip
    assert [getattr(run, name).relative_to(run.path).as_posix() for name in attributes] == [
        "config.yaml", "result.json", "history.csv", "plan.json", "plan.svg", "predictions.npz", "log.txt",
        "checkpoints/best.ckpt", "checkpoints/last.ckpt", "checkpoints/final.ckpt",
        "hardest", "hardest/hardest.json", "adapter", "attempts", "reruns", "claim",
    ]  # fmt: skip
    assert run.plateau(2) == run.path / "checkpoints" / "plateau-2.ckpt"
    sweep = SweepDirectory(tmp_path)
    assert (sweep.listing, sweep.report) == (tmp_path / "sweep.json", tmp_path / "report")
    assert sweep.run("r") == run


def test_a_run_belongs_to_the_comparison_around_it(tmp_path: Path):
    run = tmp_path / "r"
    assert sweep_of(run).path == run
    (tmp_path / "sweep.json").touch()
    assert sweep_of(run).path == tmp_path


def test_runs_are_told_from_other_folders(tmp_path: Path):
    for name, file in (("b", "result.json"), ("a", "config.yaml"), ("c", "notes.txt"), ("d", "history.csv")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    assert [run.path.name for run in SweepDirectory(tmp_path).runs()] == ["a", "b", "d"]
