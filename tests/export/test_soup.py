"""The mean of several runs' weights, chosen on val."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from headstart.cli.main import main
from headstart.export import export as room
from headstart.export.soup import Averaging, job_of, soup, state_of
from headstart.run.averages import training_batches
from headstart.run.load import load
from pictures import tiny


@pytest.fixture(scope="module")
def sweep(place: Path, pictures: Path) -> Path:
    """Three runs from the same weights, on one split."""
    import timm

    torch.manual_seed(0)
    path, folder = place / "begin.safetensors", place / "sweep"
    save_file(timm.create_model("test_efficientnet").state_dict(), path)
    words = (f"backbone.weights={path}", "strategy=fine_tune", "optimizer.lr=0.003", "seed=0,1,2", "split.seed=0")
    assert main(["train", "-m", *tiny(pictures, *words), "name=sweep", f"hydra.sweep.dir={folder}"]) == 0
    return folder


def states(sweep: Path, ids: list[str]) -> list[dict[str, torch.Tensor]]:
    return [torch.load(sweep / one / "checkpoints/best.ckpt", weights_only=True)["state_dict"] for one in ids]


def test_a_uniform_soup_is_the_mean_of_all_runs(sweep: Path, pictures: Path, tmp_path: Path):
    ids = [path.parent.name for path in sweep.glob("*/result.json")]
    assert len(ids) == 3
    made = room.export(sweep, "safetensors", tmp_path / "out", mix="uniform")
    weights, all_states = load_file(tmp_path / "out" / "model.safetensors"), states(sweep, ids)
    for name in ("head.weight", "backbone.model.conv_stem.weight"):
        mean = torch.stack([state[name] for state in all_states]).mean(0)
        found = weights[name.replace("backbone.model.", "backbone.").replace("head.", "head.0.")]
        torch.testing.assert_close(found, mean, atol=1e-6, rtol=1e-5)
    card = (tmp_path / "out" / room.CARD).read_text(encoding="utf8")
    assert "the mean of the weights of 3 of 3 runs" in card
    assert made.difference < 1e-5


def test_norms_of_a_soup_are_those_of_the_training_examples(sweep: Path):
    """Against the definition: mean and variance of what enters the first norm, over batches of the training part."""

    runs = [load(path.parent) for path in sweep.glob("*/result.json")]
    averaging = Averaging(job_of(runs[0]), runs[0], "val/accuracy")
    model = averaging.mean([state_of(run) for run in runs])
    entering: list[torch.Tensor] = []
    hook = model.backbone.model.bn1.register_forward_pre_hook(lambda _, args: entering.append(args[0]))
    with torch.no_grad():
        for batch in training_batches(averaging.job):
            model(batch["inputs"])
    hook.remove()
    wanted = torch.stack([one.mean((0, 2, 3)) for one in entering]).mean(0)
    torch.testing.assert_close(model.backbone.model.bn1.running_mean, wanted, atol=1e-5, rtol=1e-4)
    assert not model.training


def test_norms_of_a_soup_that_kept_their_statistics_keep_them(sweep: Path):
    runs = [load(path.parent) for path in sweep.glob("*/result.json")]
    averaging = Averaging(job_of(runs[0]), runs[0], "val/accuracy")
    first = "backbone.model.bn1.running_mean"
    states = [{**state, first: torch.full_like(state[first], 0.25)} for state in map(state_of, runs)]
    model = averaging.mean(states)
    assert torch.equal(model.state_dict()[first], states[0][first])
    other = next(name for name in states[0] if name.endswith("running_mean") and name != first)
    assert not any(torch.equal(model.state_dict()[other], state[other]) for state in states)


def test_a_greedy_soup_is_no_worse_on_val_than_the_best_run(sweep: Path):
    made = soup(sweep, "greedy")
    vals = [json.loads(path.read_text())["metrics"]["val/accuracy"] for path in sweep.glob("*/result.json")]
    assert 1 <= len(made.members) <= 3
    assert made.run.result.metrics["val/accuracy"] >= max(vals) - 1e-6
    assert "test/accuracy" in made.run.result.metrics


def test_what_cannot_be_averaged_is_refused(sweep: Path, vision: Path, capsys: pytest.CaptureFixture):
    for place, words in ((vision, "not the directory of one"), (sweep, "Choices: greedy, uniform")):
        assert main(["export", str(place), "--to", "timm", "--soup", "thick"]) == 2
        assert words in capsys.readouterr().err
