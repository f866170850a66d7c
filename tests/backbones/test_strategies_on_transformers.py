"""Every strategy on tiny transformers by the command line: what is frozen keeps every bit, what trains moves."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from headstart.cli import main
from headstart.compat import mend_torchvision
from headstart.composition import conf_dir

mend_torchvision()

TEXT = ["bert", "roberta", "distilbert", "electra", "deberta", "gpt2", "llama"]
AUDIO = ["wav2vec2", "hubert", "wavlm", "ast", "whisper"]
STRATEGIES = sorted(path.stem for path in (conf_dir() / "strategy").glob("*.yaml"))
WORDS = {
    "gradual_unfreeze": ["unfreeze.num_groups=3", "trainer.max_epochs=4"],
    "lora": ["strategy.adapter.r=2"],
    "partial": ["strategy.last_k=1"],
}


@pytest.fixture(scope="module")
def places(tmp_path_factory, tiny_models) -> dict[str, Path]:
    """Models in the hub's layout by family, a table of sentences, and a folder of sounds."""
    root = tmp_path_factory.mktemp("transformers")
    made = {family: tiny_models.save_text(root / family, family) for family in TEXT}
    made |= {family: tiny_models.save_audio(root / family, family) for family in AUDIO}
    dice = np.random.default_rng(0)
    made["table"] = root / "sentences.csv"
    with made["table"].open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        words = tiny_models.WORDS.split()
        rows.writerows([" ".join(dice.choice(words, dice.integers(2, 8))), f"class{n % 2}"] for n in range(32))
    made["sounds"] = root / "sounds"
    _write_sounds(made["sounds"], dice)
    return made


def _write_sounds(folder: Path, dice: np.random.Generator) -> None:
    soundfile = pytest.importorskip("soundfile")
    for number in range(32):
        (folder / f"class{number % 2}").mkdir(parents=True, exist_ok=True)
        sound = 0.1 * dice.standard_normal(int(dice.integers(2000, 6000)))
        soundfile.write(folder / f"class{number % 2}" / f"{number}.wav", sound, 16_000)


def tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Bits by name; an adapted layer's own weights under the name that they had without the adapter."""
    return {name.replace(".base_layer", ""): tensor for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("family", [*TEXT, *AUDIO])
def test_what_is_frozen_keeps_every_bit_and_what_trains_moves(at_home, places, family, strategy):
    kind = "text" if family in TEXT else "audio"
    data = ["data=text_csv", f"data.path={places['table']}", "data.text_column=text", "data.label_column=label"]
    if kind == "audio":
        data = ["data=audio_folder", f"data.root={places['sounds']}", "data.seconds=0.4"]
    words = [f"backbone=huggingface_{kind}", f"backbone.model={places[family]}", *data, f"strategy={strategy}",
             "trainer.max_epochs=2", *WORDS.get(strategy, []), "trainer.batch_size=8", "trainer.threads=1",
             "optimizer.lr=0.01", "logger=none", "hydra.run.dir=run"]  # fmt: skip
    if (family, strategy) == ("llama", "bias_only"):  # it has no biases, and that is said
        assert main(["train", *words]) == 2
        return
    assert main(["train", *words]) == 0
    done = json.loads(Path("run/result.json").read_text())
    assert done["status"] == "completed"
    plan = json.loads(Path("run/plan.json").read_text())
    state = torch.load("run/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    trained = {name: tensor for name, tensor in state.items() if name.startswith("backbone.")}
    if strategy == "feature_extraction":
        assert not trained  # the head alone is kept
        return
    from headstart.config import load
    from headstart.preparation import prepare
    from headstart.training.rows import rows

    factory, phase = prepare(load(Path("run"))).factory, done["metrics"]["best_epoch"]
    with open("run/history.csv", newline="") as file:
        phase = int(list(csv.DictReader(file))[phase]["phase"])
    backbone = factory.build(strategy != "from_scratch")
    if strategy == "from_scratch":
        return
    start = tensors(backbone)
    ends = {name.removeprefix("backbone.").replace(".base_layer", ""): t for name, t in trained.items()}
    moving = {
        name: row[0]
        for row, named in rows(backbone.groups(plan["granularity"]), backbone).items()
        for name in named
        if any(one["rates"][row[0]].get(row[1], 0) > 0 for one in plan["phases"][: phase + 1])
    }
    moved = {name for name, tensor in start.items() if not torch.equal(tensor, ends[name])}
    assert moved <= moving.keys()
    assert {moving[name] for name in moved} == {*moving.values()}  # something in every group that trains
    adapters = [name for name in ends if ".lora_" in name]
    assert bool(adapters) == (strategy == "lora")
    assert all(ends[name].any() for name in adapters if ".lora_B" in name)
