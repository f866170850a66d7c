"""A result stands under the name of what was done: data and weights that change meanwhile are noticed, and said."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from headstart.backbones.timm import Timm
from headstart.cli import hydra_app
from headstart.cli.main import main
from headstart.errors import InputError
from headstart.run import experiment, rank
from pictures import tiny, write_folder

STRATEGIES = ("feature_extraction", "fine_tune")


@pytest.fixture
def home(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADSTART_CACHE", str(at_home / "cache"))
    hydra_app.findings.cache_clear()
    write_folder(at_home / "pictures", per_class=8)
    return at_home


def write_weights(path: Path, seed: int) -> None:
    import timm

    torch.manual_seed(seed)
    torch.save(timm.create_model("test_efficientnet").state_dict(), path)


def words(home: Path, strategy: str, *more: str) -> list[str]:
    return [
        "train",
        *tiny(home / "pictures", f"strategy={strategy}", "trainer.max_epochs=1", "hydra.run.dir=run", *more),
    ]


def after(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, act: Any) -> None:
    """Do something once `name` has been called for the first time."""
    real, done = getattr(where, name), []

    def call(*args: Any, **kwargs: Any) -> Any:
        found = real(*args, **kwargs)
        done.append(act()) if not done else None
        return found

    monkeypatch.setattr(where, name, call)


@pytest.mark.parametrize(
    ("strategy", "change"),
    [
        *itertools.product(STRATEGIES[:1], ("added", "shift")),
        *itertools.product(STRATEGIES[1:], ("changed", "gone")),
        *(pytest.param(STRATEGIES[0], change, marks=pytest.mark.slow) for change in ("changed", "gone")),
        *(pytest.param(STRATEGIES[1], change, marks=pytest.mark.slow) for change in ("added", "shift")),
    ],
)
def test_data_that_change_while_a_run_is_under_way_fail_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], strategy: str, change: str
):
    shutil.copytree(home / "pictures", home / "shifted")
    first, second = sorted((home / "pictures" / "circle").iterdir())[:2]
    acts = {
        "added": lambda: shutil.copy(first, first.with_name("another.png")),
        "changed": lambda: shutil.copy(second, first),
        "gone": first.unlink,
        "shift": lambda: shutil.copy(second, home / "shifted" / "circle" / first.name),
    }
    after(monkeypatch, experiment, "fitted_heads" if strategy == STRATEGIES[0] else "_fit", acts[change])
    assert main([*words(home, strategy), f"+data.shifts.s={home / 'shifted'}"]) == 1
    done = json.loads((home / "run" / "result.json").read_text())
    assert done["status"] == "failed"
    assert "has changed since it was checked" in done["error"]["message"]
    assert "Start the command again" in capsys.readouterr().err


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_weights_that_change_between_their_check_and_their_use_leave_no_result_and_no_features(
    home: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
):
    weights = home / "weights.pt"
    write_weights(weights, 0)
    real = Timm.build

    def build(self: Any, pretrained: bool) -> Any:
        if torch.get_default_device().type != "meta":
            write_weights(weights, 1)
        return real(self, pretrained)

    with monkeypatch.context() as patch:
        patch.setattr(Timm, "build", build)
        assert main([*words(home, strategy, f"backbone.weights={weights}")]) == 1
    done = json.loads((home / "run" / "result.json").read_text())
    assert "its weights have changed" in done["error"]["message"]
    assert not list((home / "cache").glob("features/[0-9a-f]*"))


def test_a_rank_that_finds_other_data_does_not_take_part(home: Path):
    assert main(words(home, "fine_tune")) == 0
    with pytest.raises(InputError, match="The first process does run 0123456789ab, but config, data and weights here"):
        rank.main(home / "run", "0123456789ab")


def test_features_are_not_made_of_a_damaged_cache(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    assert main(words(home, "feature_extraction")) == 0
    expected = json.loads((home / "run" / "result.json").read_text())["metrics"]
    shutil.rmtree(home / "run")
    shutil.rmtree(home / "cache" / "features")
    (kept,) = (home / "cache" / "pictures").iterdir()
    content = bytearray(kept.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    kept.write_bytes(content)
    with monkeypatch.context() as patch:  # as in one and the same command, which has mapped it
        patch.setattr(hydra_app.findings, "cache_clear", lambda: None)
        assert main(words(home, "feature_extraction")) == 1
    failed = json.loads((home / "run" / "result.json").read_text())
    assert "Decoded examples have changed while they were read" in failed["error"]["message"]
    assert not list((home / "cache").glob("features/[0-9a-f]*"))
    shutil.rmtree(home / "run")
    for _ in range(2):  # made of the repaired pictures, and from the store
        hydra_app.findings.cache_clear()  # as in another process
        assert main(words(home, "feature_extraction")) == 0
        done = json.loads((home / "run" / "result.json").read_text())
        assert done["metrics"] == expected
        shutil.rmtree(home / "run")
    assert "are damaged" in capsys.readouterr().err
