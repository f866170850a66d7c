"""Every strategy on tiny transformers by the command line: what is frozen keeps every bit, what trains moves."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from headstart.cli.hydra_app import compose_config
from headstart.cli.main import main
from headstart.cli.plan import forecast
from headstart.compat import declare_torchvision_operators
from headstart.config.composer import conf_dir
from headstart.run.prepare import draft, job_config
from headstart.training.module import TransferModule
from headstart.training.probe_loop import ProbeLoop
from pictures import tiny, write_folder
from tiny_runs import AUDIO, TEXT, words_for

declare_torchvision_operators()

OF_EACH_KIND = ["bert", "gpt2", "wav2vec2", "whisper"]
"""An encoder, a decoder, an encoder over convolutions, and half of an encoder-decoder: the rest are slow tests."""
STRATEGIES = sorted({path.stem for path in (conf_dir() / "strategy").glob("*.yaml")} - {"stochnorm", "cotuning"})
"""All but those that are for batch norms, or a classifier of the pretraining, which these have not."""
WORDS = {
    "gradual_unfreeze": ["unfreeze.num_groups=3", "trainer.max_epochs=4"],
    "lora": ["strategy.adapter.r=2"],
    "partial": ["strategy.last_k=1"],
}


def families(quick: list[str], among: list[str]) -> list:
    """All families, those of `quick` in the quick tests."""
    return [family if family in quick else pytest.param(family, marks=pytest.mark.slow) for family in among]


def pairs() -> list:
    """Families with strategies; in the quick tests all strategies on one family, and one on each other kind."""
    few = ("fine_tune", "gradual_unfreeze", "lora")
    return [
        pytest.param(family, strategy, marks=[] if quick else [pytest.mark.slow])
        for family in (*TEXT, *AUDIO)
        for strategy in STRATEGIES
        for quick in [family == "bert" or (family in OF_EACH_KIND and strategy == few[OF_EACH_KIND.index(family) - 1])]
    ]


@pytest.mark.parametrize("kind", ["bert", *families([], ["wav2vec2"]), "pictures"])
def test_every_strategy_reads_the_same_batches_at_a_seed(at_home, places, monkeypatch, kind):
    """Which examples make up each batch of every epoch, as the steps of training are given them."""
    read: list[list[int]] = []
    gather, step = ProbeLoop._gather, TransferModule.training_step

    def gathering(self, everything, orders):
        (order,) = orders
        read.append(order.tolist())
        return gather(self, everything, orders)

    def stepping(self, batch, batch_idx):
        read.append(batch["index"].tolist())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ProbeLoop, "_gather", gathering)
    monkeypatch.setattr(TransferModule, "training_step", stepping)
    words = tiny(write_folder(at_home / "pictures")) if kind == "pictures" else words_for(kind, places)
    batches = {}
    for strategy in ("feature_extraction", "fine_tune", "lora", "lp_ft", "from_scratch"):
        read.clear()
        more = [*WORDS.get(strategy, []), "trainer.max_epochs=2", "trainer.batch_size=6", "seed=3"]
        assert main(["train", *words, f"strategy={strategy}", *more, f"hydra.run.dir={strategy}"]) == 0
        batches[strategy] = list(read)
    first = batches["feature_extraction"]
    assert first[: len(first) // 2] != first[len(first) // 2 :], "each epoch has an order of its own"
    for strategy, found in batches.items():
        assert found == first, strategy


@pytest.mark.parametrize("command", ["train", "plan"])
@pytest.mark.parametrize(
    "words",
    [
        ["strategy=lora", "strategy.adapter.r=2"],
        ["strategy=bias_only"],
        ["strategy=partial", "strategy.last_k=null", "strategy.groups=['blocks.1']"],
    ],
)
def test_a_weighting_of_layers_that_would_never_train_is_refused(at_home, places, capsys, command, words):
    weighted = [*words_for("wav2vec2", places), "backbone.layers=weighted"]
    assert main([command, *weighted, *words]) == 2
    said = capsys.readouterr().err
    assert "backbone.layers=weighted brings parameters of its own (kind weight, in the group tail)" in said
    assert "strategy.groups=[tail]" in said
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    "words", [["strategy=partial", "strategy.last_k=null", "strategy.groups=[tail]"], ["strategy=lp_ft"]]
)
def test_a_weighting_of_layers_trains_where_it_can(at_home, places, words):
    weighted = [*words_for("wav2vec2", places), "backbone.layers=weighted", *words, "trainer.monitor=val/loss"]
    assert main(["train", *weighted, "hydra.run.dir=run"]) == 0
    state = torch.load(at_home / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    done = json.loads((at_home / "run" / "result.json").read_text())
    phases = done["phases"]
    assert bool(state["state_dict"]["backbone.mix.weights"].any()) == (not phases["head_only"][phases["best"]])


@pytest.mark.parametrize("strategy", ["bias_only", "from_scratch", *families([], ["feature_extraction", "fine_tune"])])
def test_frozen_parts_with_random_weights_are_said_with_their_size(at_home, strategy):
    words = tiny(write_folder(at_home / "pictures"), f"strategy={strategy}", "trainer.max_epochs=1")
    assert main(["train", *words, "hydra.run.dir=run"]) == 0
    done = json.loads((at_home / "run" / "result.json").read_text())
    cost, said = done["cost"], [note for note in done["notes"] if note.startswith("The backbone's weights are random")]
    if strategy in ("fine_tune", "from_scratch"):
        assert not said
    else:
        assert f" and {cost['total_parameters'] - cost['trainable_parameters']:,} of its " in said[0]


def tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Bits by name; an adapted layer's own weights under the name that they had without the adapter."""
    return {name.replace(".base_layer", ""): tensor for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(("family", "strategy"), pairs())
def test_what_is_frozen_keeps_every_bit_and_what_trains_moves(at_home, places, family, strategy):
    words = [*words_for(family, places), f"strategy={strategy}", *WORDS.get(strategy, []), "hydra.run.dir=run"]
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
    from headstart.config.recorded import load
    from headstart.run.prepare import prepare
    from headstart.training.rows import rows

    factory, phase = prepare(load(Path("run/config.yaml"))).factory, done["metrics"]["best_epoch"]
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
    assert bool(adapters) == (strategy in ("lora", "peft"))
    assert all(ends[name].any() for name in adapters if ".lora_B" in name)


@pytest.mark.parametrize("family", families(["bert", "wavlm", "whisper"], [*TEXT, *AUDIO]))
def test_what_stays_frozen_is_computed_once_and_gives_the_same_training(at_home, places, family):
    """Against the same run with a budget that has no room for activations, and as the plan foretells it."""
    words = [*words_for(family, places), "strategy=partial", "strategy.last_k=1", "trainer.max_epochs=5"]
    assert main(["train", *words, "hydra.run.dir=kept"]) == 0
    assert main(["train", *words, "hydra.run.dir=live", "features.budget_gb=1e-6"]) == 0
    results = {name: json.loads(Path(name, "result.json").read_text()) for name in ("kept", "live")}
    start = {"0": "stem" if family == "wavlm" else "blocks.2"}  # later layers of WavLM need the first one's positions
    assert results["kept"]["reading"]["kept"] == start
    assert results["live"]["reading"]["kept"] == {}
    assert results["kept"]["cost"]["train_flops"] < 0.95 * results["live"]["cost"]["train_flops"]
    (foretold,) = forecast(draft(job_config(compose_config(words))))["phases"]
    assert foretold["starts_after"] == start["0"]
    assert foretold["flops_per_example"] > 0
    histories = [list(csv.DictReader(Path(name, "history.csv").read_text().splitlines())) for name in ("kept", "live")]
    for row, other in zip(*histories, strict=True):
        for name in ("train/loss", "val/loss"):
            assert float(row[name]) == pytest.approx(float(other[name]), rel=1e-3)


@pytest.mark.parametrize("family", families(["wav2vec2"], AUDIO))
def test_spec_augment_hides_what_every_family_reads(at_home, places, family):
    """In views that are stored, and anew in every epoch."""
    augmented = ["augmentation=spec_augment", "augmentation.views=2", "trainer.max_epochs=6"]
    words = [*words_for(family, places), "strategy=partial", "strategy.last_k=1", *augmented]
    losses = {}
    for name, own in {
        "stored": ["trainer.reuse_views=true"],
        "live": ["trainer.reuse_views=true", "features.budget_gb=1e-6"],
        "fresh": [],
        "plain": ["augmentation=none"],
    }.items():
        assert main(["train", *words, *own, f"hydra.run.dir={name}"]) == 0
        kept = json.loads(Path(name, "result.json").read_text())["reading"]["kept"]
        assert bool(kept) == (name in ("stored", "plain"))
        rows = csv.DictReader(Path(name, "history.csv").read_text().splitlines())
        losses[name] = [float(row["train/loss"]) for row in rows]
    assert losses["stored"] == pytest.approx(losses["live"], rel=1e-3)
    assert losses["fresh"] != pytest.approx(losses["live"], rel=1e-5)
    assert losses["plain"] != pytest.approx(losses["fresh"], rel=1e-5)


@pytest.mark.parametrize("family", families(["bert", "whisper"], [*TEXT, *AUDIO]))
@pytest.mark.parametrize("strategy", [*families([], ["fine_tune"]), "norm_only"])
def test_the_work_is_foretold(at_home, places, family, strategy):
    """On texts and sounds all cut to one length, which a plan takes the longest to have."""
    shorter = "data.max_length=4" if family in TEXT else "data.seconds=0.1"
    words = [*words_for(family, places), f"strategy={strategy}", "trainer.max_epochs=1", shorter, "hydra.run.dir=run"]
    assert main(["train", *words]) == 0
    result = json.loads(Path("run/result.json").read_text())
    (phase,) = forecast(draft(job_config(compose_config(words))))["phases"]
    counted = result["cost"]["train_flops"] / result["data"]["sizes"]["train"]
    assert phase["flops_per_example"] == pytest.approx(counted, rel=0.02)


def test_no_more_of_a_sound_is_asked_for_than_the_model_reads_and_what_is_not_read_is_said(places, at_home, capsys):
    """The tiny spectrogram transformer has positions for 0.655 s; half of the sounds are longer."""
    soundfile = pytest.importorskip("soundfile")
    rng = np.random.default_rng(1)
    for number in range(32):
        (at_home / "long" / f"class{number % 2}").mkdir(parents=True, exist_ok=True)
        sound = 0.1 * rng.standard_normal(24_000 if number % 4 < 2 else 8000)
        soundfile.write(at_home / "long" / f"class{number % 2}" / f"{number}.wav", sound, 16_000)
    words = ["train", "backbone=huggingface_audio", f"backbone.model={places['ast']}", "data=audio_folder"]
    words += ["data.root=long", "strategy=feature_extraction", "trainer.max_epochs=1", "logger=none"]
    assert main([*words, "data.seconds=0.7"]) == 2
    assert "data.seconds must be at most 0.655 for this backbone, but is 0.7" in capsys.readouterr().err
    assert not (at_home / "outputs").exists()
    seen = {}
    for part in ("middle", "last", "middle"):  # the third run is the first one, the features of the others are kept
        place = at_home / part
        assert main([*words, f"data.part={part}", f"hydra.run.dir={place}", "features.root=store"]) == 0
        done = json.loads((place / "result.json").read_text())
        seen[part] = done["run_id"]
        facts = {name: done["reading"][name] for name in ("max_seconds", "part", "num_truncated", "truncation_rate")}
        assert facts == {"max_seconds": 0.655, "part": part, "num_truncated": 16, "truncation_rate": 0.5}
        said = f"long: 16 of 32 sounds are longer than what is read of them (the longest has 1.5 s): the {part} 0.655 s"
        assert any(note.startswith(said) for note in done["notes"])
    settings = json.loads((at_home / "middle" / "result.json").read_text())["settings"]
    assert "data.part" not in settings  # a run's name is what it was before there was a choice
    assert seen["middle"] != seen["last"]
