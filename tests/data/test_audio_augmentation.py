"""Augmentations of sounds follow their rng and leave what they should alone."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch.nn.functional import one_hot

from headstart.config.schema import SPACE
from headstart.data.audio_augmentation import AudioMixup, SpecAugment, Waveform
from headstart.data.audio_clips import Clips
from headstart.data.loading import BatchDataset, Batches
from headstart.errors import InputError

CONF = Path(__file__).parents[2] / "conf"
FILES = [
    *(f"data/{name}" for name in ("audio_folder", "audio_csv", "synthetic_audio")),
    *(f"augmentation/{name}" for name in ("spec_augment", "waveform", "audio_mixup")),
]


def sound(length=800, padded=1000):
    waveform = torch.zeros(padded)
    waveform[:length] = torch.randn(length, generator=torch.Generator().manual_seed(5))
    return {"waveform": waveform, "lengths": torch.tensor(length)}


def augmented(augmentation, inputs, seed=0):
    torch.manual_seed(seed)
    return augmentation.example(inputs)


@pytest.mark.parametrize("augmentation", [SpecAugment(), Waveform(), AudioMixup()])
def test_example_follows_the_rng_and_leaves_its_input_alone(augmentation):
    inputs = sound()
    before = inputs["waveform"].clone()
    found = [augmented(augmentation, inputs, seed) for seed in (1, 1, 2, 3)]
    assert augmentation.modality == "audio"
    assert torch.equal(inputs["waveform"], before)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert any(not torch.equal(found[0][name], found[2][name]) for name in found[0])


@pytest.mark.parametrize("augmentation", [SpecAugment(), Waveform(noise=1.0)])
def test_padding_changes_nothing_and_stays_silent(augmentation):
    for seed in range(5):
        short, long = (augmented(augmentation, sound(padded=padded), seed) for padded in (800, 1200))
        assert torch.equal(short["waveform"], long["waveform"][:800])
        assert not long["waveform"][800:].any()


def test_a_shift_moves_the_sound_and_brings_silence():
    only_shift = Waveform(max_shift=0.25, max_gain_db=0.0, noise=0.0)
    seen = set()
    for seed in range(40):
        inputs = sound()
        found = augmented(only_shift, inputs, seed)["waveform"]
        moves = [by for by in range(-200, 201) if _agree(found[:800], inputs["waveform"][:800], by)]
        assert len(moves) == 1
        seen.add(moves[0])
    assert min(seen) < -100
    assert max(seen) > 100


def _agree(found, original, by):
    expected = torch.zeros_like(original)
    if by >= 0:
        expected[by:] = original[: len(original) - by]
    else:
        expected[:by] = original[-by:]
    return torch.allclose(found, expected)


def test_gain_and_noise_are_as_strong_as_asked():
    inputs = sound(8000, 8000)
    gains, snrs = [], []
    for seed in range(60):
        louder = augmented(Waveform(0.0, 6.0, 0.0), inputs, seed)["waveform"]
        gains.append(20 * float(torch.log10(louder.norm() / inputs["waveform"].norm())))
        noise = augmented(Waveform(0.0, 0.0, 1.0, 10.0, 20.0), inputs, seed)["waveform"] - inputs["waveform"]
        snrs.append(20 * float(torch.log10(inputs["waveform"].norm() / noise.norm())))
    assert -6.01 <= min(gains) < -4.5
    assert 4.5 < max(gains) <= 6.01
    assert 9.5 <= min(snrs) < 12
    assert 18 < max(snrs) <= 20.5


def test_noise_comes_as_often_as_asked():
    inputs = sound()
    changed = [
        not torch.equal(augmented(Waveform(0.0, 0.0, 0.3), inputs, seed)["waveform"], inputs["waveform"])
        for seed in range(200)
    ]
    assert 40 <= sum(changed) <= 80


def test_noise_ranges_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match=r"min_snr_db <= augmentation.max_snr_db must hold"):
        Waveform(min_snr_db=30.0, max_snr_db=20.0)


def test_masks_are_shares_of_at_most_what_was_asked():
    found = [augmented(SpecAugment(2, 0.2, 3, 0.1), sound(), seed) for seed in range(100)]
    for name, number, most in (("time_masks", 2, 0.2), ("band_masks", 3, 0.1)):
        masks = torch.stack([one[name] for one in found])
        assert masks.shape == (100, number, 2)
        widths = masks[..., 1] - masks[..., 0]
        assert (masks >= 0).all()
        assert (masks <= 1).all()
        assert (widths <= most + 1e-6).all()
        assert widths.max() > 0.9 * most
        assert masks[..., 1].max() > 0.95


def test_masks_travel_with_their_example_through_the_loader():
    data = torch.randn(4, 1000).numpy()
    examples = Clips(lambda place: data[place], 4, "loader", 1000, 1.0, "fixed")
    dataset = BatchDataset(examples, torch.zeros(4, dtype=torch.long).numpy(), SpecAugment(), seed=3)
    batch = next(dataset[draw] for draw in Batches(torch.arange(4).numpy(), 4, None))
    again = [dataset[draw] for draw in Batches(torch.arange(4).numpy(), 1, None)]
    assert batch["inputs"]["time_masks"].shape == (4, 2, 2)
    assert batch["inputs"]["lengths"].tolist() == [1000] * 4
    for name, values in batch["inputs"].items():
        assert torch.equal(values, torch.cat([one["inputs"][name] for one in again])), name


def test_mixing_is_a_weighted_mean_of_sounds_and_of_labels():
    waveform = torch.randn(6, 500)
    lengths = torch.tensor([500, 100, 200, 300, 400, 50])
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    torch.manual_seed(0)
    inputs, shares = AudioMixup(alpha=1.0).batch({"waveform": waveform, "lengths": lengths}, one_hot(labels, 3).float())
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    assert inputs["lengths"].tolist() == [500, 500, 200, 300, 400, 400]
    for place in range(6):
        own, other = int(labels[place]), int(labels[place - 1])
        assert own != other
        share = shares[place, own]
        torch.testing.assert_close(
            inputs["waveform"][place], share * waveform[place] + (1 - share) * waveform[place - 1]
        )
        torch.testing.assert_close(shares[place, other], 1 - share)
    assert len({round(float(share), 4) for share in shares.max(1).values}) > 3
    torch.manual_seed(0)
    again, _ = AudioMixup(alpha=1.0).batch({"waveform": waveform, "lengths": lengths}, one_hot(labels, 3).float())
    assert torch.equal(again["waveform"], inputs["waveform"])


@pytest.mark.parametrize("name", FILES)
def test_config_lists_every_setting_of_its_constructor_with_its_default(name):
    node = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    node.pop(SPACE, None)  # is no setting of a run
    module, _, kind = node.pop("_target_").rpartition(".")
    parameters = inspect.signature(getattr(import_module(module), kind)).parameters
    assert set(node) == set(parameters)
    for key, value in node.items():
        if value != "???" and key not in ("views", "shifts"):
            assert value == parameters[key].default, key


@pytest.mark.parametrize("name", FILES)
def test_every_key_is_explained(name):
    lines = (CONF / f"{name}.yaml").read_text().partition(f"\n{SPACE}:")[0].splitlines()
    assert all("# " in line for line in lines if not line.startswith("_target_"))
