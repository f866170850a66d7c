"""What was selected on val is run anew on seeds that selected nothing; only those count."""

import json
from pathlib import Path

import pytest

from headstart.cli import commands
from headstart.cli.main import main
from headstart.report.design import read_design
from headstart.report.reading import read_sweeps
from headstart.sweep.ledger import Ledger
from pictures import tiny, write_folder

WORDS = ("strategy=feature_extraction", "split.n_per_class=2,4", "strategy.lr=1e-5,1e-2", "seed=0,1")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"), per_class=8)


@pytest.fixture(autouse=True)
def home(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(commands, "finish_comparison", lambda *_: None)
    return at_home


def sweep(pictures: Path, *words: str) -> int:
    return main(["train", "-m", *tiny(pictures, "trainer.max_epochs=1", "name=s"), *words])


def listed(home: Path) -> list[dict]:
    return Ledger(home / "outputs" / "s").read()["runs"]


def fresh(home: Path) -> dict[tuple[int, int], float]:
    """The learning rates of the runs on fresh seeds, by size and seed."""
    return {
        (run["settings"].get("split.n_per_class"), run["seed"]): run["settings"]["strategy.lr"]
        for run in listed(home) if run.get("fresh")
    }  # fmt: skip


def scores(home: Path, part: str) -> dict[tuple[int, float, int], float]:
    found = {}
    for run in listed(home):
        result = json.loads((home / "outputs" / "s" / run["run_id"] / "result.json").read_text())
        key = run["settings"].get("split.n_per_class"), run["settings"]["strategy.lr"], run["seed"]
        found[key] = result["metrics"][f"{part}/accuracy"]
    return found


def test_what_was_selected_is_run_anew_on_seeds_that_selected_nothing(home: Path, pictures: Path, capsys):
    assert sweep(pictures, *WORDS, "--fresh-seeds") == 0
    assert "anew on fresh seeds 2, 3" in capsys.readouterr().err
    val, drawn = scores(home, "val"), fresh(home)
    for size in (2, 4):
        means = {lr: sum(val[size, lr, seed] for seed in (0, 1)) for lr in (1e-5, 1e-2)}
        best = max(means, key=lambda lr: means[lr])
        assert {seed: drawn[size, seed] for seed in (2, 3)} == {2: best, 3: best}
    assert len(drawn) == 4
    assert len(listed(home)) == 12

    # only these count, whatever those that it was selected on scored
    design = read_design(read_sweeps([home / "outputs" / "s"]))
    assert design.fresh
    test = scores(home, "test")
    for (_, scene), cell in design.cells.items():
        expected = [test[scene.n, drawn[scene.n, 2], seed] for seed in (2, 3)]
        assert list(cell.scores(design.metric).values()) == expected

    # a second call goes on, and draws no others; more are asked for by number
    assert sweep(pictures, *WORDS, "--fresh-seeds") == 0
    assert fresh(home) == drawn
    assert sweep(pictures, *WORDS, "--fresh-seeds=3") == 0
    assert {seed for _, seed in fresh(home)} == {2, 3, 4}
    capsys.readouterr()
    assert main(["status", str(home / "outputs" / "s")]) == 0
    assert "seed 2 (fresh)" in capsys.readouterr().out


def test_a_dry_run_shows_what_would_be_run_anew(home: Path, pictures: Path, capsys):
    words = ("strategy=feature_extraction", "strategy.lr=1e-5,1e-2", "seed=0")
    assert sweep(pictures, *words, "--dry-run", "--fresh-seeds=3") == 0
    expected = "Then what each contender has selected on val is run anew on fresh seeds 1, 2, 3."
    assert expected in capsys.readouterr().out
    assert not (home / "outputs").exists()
    assert sweep(pictures, *words) == 0
    before = listed(home)
    capsys.readouterr()
    assert sweep(pictures, *words, "--dry-run", "--fresh-seeds=3") == 0
    assert "3 runs, 0 done, 3 to do" in capsys.readouterr().out
    assert listed(home) == before


def test_a_seed_that_is_asked_for_otherwise_is_fresh_no_more(home: Path, pictures: Path):
    words = ("strategy=feature_extraction", "strategy.lr=1e-5,1e-2")
    assert sweep(pictures, *words, "seed=0", "--fresh-seeds") == 0
    assert {seed for _, seed in fresh(home)} == {1}
    assert sweep(pictures, *words, "seed=0,1") == 0
    assert not fresh(home)
    assert sweep(pictures, *words, "seed=0,1", "--fresh-seeds") == 0
    assert {seed for _, seed in fresh(home)} == {2, 3}


@pytest.mark.parametrize("word", ["--fresh-seeds=0", "--fresh-seeds=x", "--fresh-seeds=", "--fresh-seeds=1,2"])
def test_how_many_must_be_a_number(home: Path, pictures: Path, word: str, capsys):
    assert sweep(pictures, *WORDS, word) == 2
    assert "--fresh-seeds takes a number from 1 to 1000" in capsys.readouterr().err
    assert not (home / "outputs").exists()


def test_one_run_has_nothing_to_select(home: Path, pictures: Path, capsys):
    assert main(["train", *tiny(pictures), "--fresh-seeds"]) == 2
    assert "--fresh-seeds is for comparisons: add -m." in capsys.readouterr().err
