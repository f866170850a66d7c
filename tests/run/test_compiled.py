"""Training through torch's compiler: every strategy trains as without it, and what cannot be compiled is said."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_runs
from headstart.cli.main import main
from headstart.training import compiled
from pictures import tiny, write_folder

FEW = ("gradual_unfreeze",)
MORE = (
    "fine_tune",
    "partial",
    "lora",
    "lp_ft",
    "sam",
    "l2_sp",
    "bss",
    "stochnorm",
    "surgical_auto",
    "norm_only",
    "discriminative",
)
HOW = [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler takes code apart and puts it together as it was: the same bits, in no time."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


def num_compiled() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def trained(home: Path, into: str, *words: str) -> tuple[dict, np.ndarray]:
    assert main(["train", *words, f"hydra.run.dir={into}"]) == 0
    table = np.genfromtxt(home / into / "history.csv", delimiter=",", names=True)
    result = json.loads((home / into / "result.json").read_text())
    return result, np.stack([table[name] for name in table.dtype.names if name != "seconds"])


@pytest.mark.parametrize("strategy", HOW)
def test_a_compiled_run_has_the_numbers_of_one_that_is_not(at_home, pictures, as_written, strategy):
    """Also the work, which is counted while nothing is compiled: what was called meanwhile is compiled all the same."""
    words = tiny(pictures, f"strategy={strategy}", "trainer.max_epochs=4")
    plain, rows = trained(at_home, "plain", *words)
    assert not num_compiled()
    done, compiled_rows = trained(at_home, "compiled", *words, "trainer.compile=true")
    assert num_compiled()
    np.testing.assert_array_equal(compiled_rows, rows)
    assert done["metrics"] == plain["metrics"]
    assert done["cost"]["train_flops"] == plain["cost"]["train_flops"]
    assert done["run_id"] != plain["run_id"]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "gpt2", "wav2vec2"])
def test_models_of_text_and_sound_are_compiled_too(at_home, as_written, family):
    words = tiny_runs.words_for(family, tiny_runs.make_places(at_home / "places"))
    _, rows = trained(at_home, "plain", *words)
    _, compiled_rows = trained(at_home, "compiled", *words, "trainer.compile=true")
    assert num_compiled()
    np.testing.assert_allclose(compiled_rows, rows, rtol=1e-4)


@pytest.mark.slow
def test_torchs_own_compiler_trains_to_about_the_same_numbers(at_home, pictures):
    torch._dynamo.reset()
    words = tiny(pictures, "strategy=fine_tune", "trainer.max_epochs=3")
    _, rows = trained(at_home, "plain", *words)
    _, compiled_rows = trained(at_home, "compiled", *words, "trainer.compile=true")
    np.testing.assert_allclose(compiled_rows, rows, rtol=2e-2, atol=1e-3)


def test_a_compiler_that_is_not_there_is_said_beforehand(at_home, pictures, monkeypatch, capsys):
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    assert main(["train", *tiny(pictures, "strategy=fine_tune", "trainer.compile=true")]) == 2
    assert "needs a C++ compiler" in capsys.readouterr().err


def test_where_features_are_computed_once_nothing_is_compiled_and_that_is_said(at_home, pictures, capsys):
    assert main(["train", *tiny(pictures, "strategy=feature_extraction", "trainer.compile=true")]) == 0
    assert "trainer.compile does nothing" in capsys.readouterr().err


def test_penalties_that_look_inside_the_backbone_are_not_compiled(at_home, pictures, capsys):
    assert main(["train", *tiny(pictures, "strategy=delta", "trainer.compile=true")]) == 2
    assert "trainer.compile must be false" in capsys.readouterr().err
