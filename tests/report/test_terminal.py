"""The table at the end of a comparison leaves nothing out, however narrow the terminal is."""

import pytest

from headstart.report.build import build
from headstart.report.terminal import show


@pytest.mark.parametrize("columns", [20, 80, 200])
def test_names_and_numbers_of_the_table_are_whole(write_sweep, tmp_path, monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    cost = {"trainable_parameters": 108_902_024, "train_seconds": 123_456.7, "feature_seconds": 98_765.4}
    names = ("discriminative_with_a_long_name", "gradual_unfreezing_with_a_long_name")
    runs = [
        {"strategy": name, "seed": seed, "test": 0.61 + seed / 100, "cost": cost} for seed in range(3) for name in names
    ]
    directory = write_sweep(tmp_path / "a folder whose name is long enough to be broken", runs)
    show(build([directory], directory / "report"))
    shown = capsys.readouterr().out
    table = shown[: shown.index("\n\n")]
    assert "…" not in table
    for words in (*names, "108,902,024", "123,456.7", "98,765.4"):
        assert table.count(words) == (1 if words in names else 2)
    assert str(directory) in shown
