"""Augmentations that cut their part out of the whole picture: evaluation stays, training sees the rims."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.cli.main import main
from headstart.config.composer import conf_dir
from headstart.data import array_cache
from headstart.data.batches import Draw
from headstart.data.image_augmentation import Light, MixupCutmix, Standard, TrivialAugment
from headstart.data.images import ImageFolder
from headstart.data.loading import BatchDataset
from headstart.data.parallel import map_threads
from headstart.training.epochs import EpochRows
from pictures import tiny, write_weights


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Path:
    """Pictures of two classes, 96 × 32: red in the left third and blue in the right one, cut off in evaluation."""
    root = tmp_path_factory.mktemp("wide")
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (root / name).mkdir()
        for number in range(6):
            picture = rng.integers(90, 110, (32, 96, 3)).astype(np.uint8)
            picture[:, :32], picture[:, 64:] = (250, 0, 0), (0, 0, 250)
            Image.fromarray(picture).save(root / name / f"{number}.png")
    return root


def examples(root, **settings):
    source = ImageFolder(str(root), **settings)
    source.check()
    return source.examples(size=16)


def batch(found, augmentation, epoch=0):
    return BatchDataset(found, np.zeros(len(found), int), augmentation)[Draw(epoch, np.arange(len(found)), 0)]["inputs"]


def shows_red(pixels):
    return bool(((pixels[:, 0] > 200) & (pixels[:, 1] < 50) & (pixels[:, 2] < 50)).any())


@pytest.mark.parametrize(
    "augmentation", [Light(), Standard(), MixupCutmix()], ids=["light", "standard", "mixup_cutmix"]
)
def test_crops_see_the_rims_that_evaluation_does_not(wide, augmentation):
    found = examples(wide, cache_side=48)
    assert not shows_red(batch(found, None)["pixels"])
    changed = batch(found, augmentation)
    assert changed.keys() == {"pixels"}
    assert changed["pixels"].shape == (12, 3, 16, 16)
    assert shows_red(changed["pixels"])
    assert found.statistics() == {"cut_from": 48}


def test_without_the_setting_only_augmentations_that_need_whole_pictures_get_them(wide):
    assert not shows_red(batch(examples(wide), Light())["pixels"])
    found = examples(wide)
    assert shows_red(batch(found, Standard())["pixels"])
    assert found.statistics() == {"cut_from": 32}
    other = examples(wide, cache_side=48)
    batch(other, TrivialAugment())
    assert other.statistics() == {}


def test_evaluation_reads_the_same_bits(wide):
    assert torch.equal(batch(examples(wide), None)["pixels"], batch(examples(wide, cache_side=48), None)["pixels"])


def test_whole_pictures_keep_their_shape_and_small_ones_their_size(wide):
    assert examples(wide, cache_side=48).uncut(False)[0].shape == (3, 16, 48)
    whole = examples(wide, cache_side=200).uncut(False)
    with Image.open(wide / "ant" / "0.png") as image:
        assert torch.equal(whole[0], torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy()))


def test_what_is_not_kept_is_decoded_to_the_same(wide, monkeypatch):
    kept = examples(wide, cache_side=40).uncut(False)
    monkeypatch.setattr(array_cache, "decoded", None)
    monkeypatch.setattr("headstart.data.decoded.decoded", lambda *_: None)
    found = examples(wide, cache_side=40).uncut(False)
    assert found._kept is None
    assert all(torch.equal(one, other) for one, other in zip(map_threads(kept.__getitem__, range(12), ""), found))  # noqa: B905


def test_damage_of_what_is_kept_is_found(wide):
    from headstart.errors import InputError

    found = examples(wide, cache_side=44)
    found.verify()
    whole = found.uncut(False)
    found.verify()
    changed = whole._kept.array.copy()
    changed[0, 20] ^= 1
    object.__setattr__(whole._kept, "array", changed)
    with pytest.raises(InputError, match="have changed while they were read"):
        found.verify()


@pytest.mark.parametrize(
    "augmentation",
    [Standard(), Standard(0.35, 0.0, 0.4), *(Standard(policy=name, erase=0.5) for name in
     ("trivial_augment", "rand_augment", "three_augment"))],
    ids=["standard", "jitter", "trivial", "rand", "three"],
)  # fmt: skip
def test_what_is_drawn_follows_seed_epoch_and_example_alone(wide, augmentation):
    found = examples(wide)
    first = batch(found, augmentation)["pixels"]
    assert first.dtype == torch.uint8
    assert torch.equal(first, batch(found, augmentation)["pixels"])
    assert not torch.equal(first, batch(found, augmentation, epoch=1)["pixels"])
    dataset = BatchDataset(found, np.zeros(12, int), augmentation)
    assert torch.equal(dataset[Draw(0, np.array([7]), 0)]["inputs"]["pixels"][0], first[7])


def run(home, *words, into="run"):
    assert main(["train", *words, f"hydra.run.dir={into}"]) == 0
    return json.loads((home / into / "result.json").read_text())


@pytest.mark.parametrize("strategy", ["feature_extraction", "lp_ft", "partial"])
def test_runs_say_what_their_crops_were_cut_from_and_views_are_kept_apart(at_home, wide, strategy):
    words = tiny(wide, f"strategy={strategy}", "augmentation=light", "data.size=16")
    plain = run(at_home, *words, into="plain")
    whole = run(at_home, *words, "data.cache_side=48", into="whole")
    assert plain["run_id"] != whole["run_id"]
    assert "data.cache_side" not in plain["settings"]
    assert "cut_from" not in plain["reading"]
    assert whole["reading"]["cut_from"] == 48
    losses = [np.genfromtxt(at_home / into / "history.csv", delimiter=",", names=True)["trainloss"] for into in
              ("plain", "whole")]  # fmt: skip
    assert losses[0][1] != losses[1][1]  # in the first epoch a frozen backbone's examples are as they are


STRATEGIES = sorted(path.stem for path in (conf_dir() / "strategy").glob("*.yaml"))
OTHERS = [pytest.param(name, "standard", marks=pytest.mark.slow) for name in STRATEGIES if name != "feature_extraction"]
WORDS = {
    "gradual_unfreeze": ["unfreeze.num_groups=7"],
    "lp_ft": ["unfreeze.epochs=1"],
    "lora": ["strategy.adapter.r=2"],
    "partial": ["strategy.last_k=1"],
}


@pytest.mark.parametrize(("strategy", "augmentation"), [("fine_tune", "three_augment"), *OTHERS])
def test_a_run_that_was_cut_off_goes_on_to_the_same_numbers(at_home, wide, monkeypatch, strategy, augmentation):
    words = tiny(wide, f"strategy={strategy}", f"augmentation={augmentation}", "data.size=16", "trainer.max_epochs=3")
    words += WORDS.get(strategy, [])
    words += [f"backbone.weights={write_weights(at_home / 'weights' / 'w.pth')}"] * (strategy == "cotuning")
    whole = run(at_home, *words, into="whole")
    real, seen = EpochRows.on_train_epoch_start, []

    def once(self, trainer, module):
        seen.append(trainer.current_epoch)
        if seen == [0, 1]:
            raise KeyboardInterrupt
        real(self, trainer, module)

    monkeypatch.setattr(EpochRows, "on_train_epoch_start", once)
    assert main(["train", *words, "hydra.run.dir=cut"]) != 0
    again = run(at_home, *words, into="cut")
    assert seen == [0, 1, 1, 2]
    assert again["metrics"] == whole["metrics"]
    assert main(["rerun", "whole", "--check"]) == 0


def test_a_setting_that_nothing_reads_is_said(at_home, wide):
    done = run(at_home, *tiny(wide, "strategy=fine_tune", "data.cache_side=48", "data.size=16", "trainer.max_epochs=1"))
    assert any("data.cache_side does nothing" in note for note in done["notes"])
