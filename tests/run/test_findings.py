"""What is found once is not looked for again, as long as it is kept."""

from headstart.cli.main import main
from headstart.run.findings import Findings
from headstart.splits.holdout import Holdout
from pictures import tiny, write_folder


def test_the_latest_few_of_a_kind_are_kept():
    findings, made = Findings(), []

    def get(what: str, key: str) -> str:
        return findings.get(what, key, lambda: made.append(what + key) or what + key, kept=2)

    for key in "abab":
        assert get("split", key) == f"split{key}"
    assert get("source", "a") == "sourcea"
    assert made == ["splita", "splitb", "sourcea"]
    assert [get("split", key) for key in "cbabc"] == [f"split{key}" for key in "cbabc"]
    assert made[3:] == ["splitc", "splita", "splitb", "splitc"]  # what comes first is the first to go


def test_each_seed_of_a_large_grid_is_divided_once(at_home, monkeypatch):
    """Seeds vary fastest: more of them than are kept would be divided for each strategy anew."""
    seeds, split = [], Holdout.split

    def counted(self, pool, seed, columns):
        seeds.append(seed)
        return split(self, pool, seed, columns)

    monkeypatch.setattr(Holdout, "split", counted)
    words = tiny(
        write_folder(at_home / "pictures"),
        "strategy=feature_extraction,norm_only",
        "seed=range(90)",
        "hydra.sweeper.dry_run=true",
    )
    assert main(["train", "-m", *words]) == 0
    assert sorted(seeds) == list(range(90))
