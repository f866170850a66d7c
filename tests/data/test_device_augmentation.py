"""Batches changed on their device: by the dice of each picture alone, and as torchvision changes it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from headstart.cli.main import main
from headstart.data.augmentation import Augmentation
from headstart.data.batches import Draw
from headstart.data.image_augmentation import Light, Standard
from headstart.data.images import ImageFolder
from headstart.data.loading import BatchDataset, on_device
from headstart.errors import InputError
from pictures import tiny, write_folder


def pictures(channels: int = 3, size: tuple[int, int] = (40, 56)) -> Tensor:
    """Smooth ones, as resampling noise shows nothing but its own rounding."""
    coarse = torch.rand((24, channels, 7, 9), generator=torch.Generator().manual_seed(0))
    return (255 * torch.nn.functional.interpolate(coarse, size, mode="bicubic")).clamp(0, 255).round().byte()


def both(augmentation: Augmentation, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Each alone, and all in one batch."""
    size = (int(pixels.shape[2]), int(pixels.shape[3]))
    alone, dice = [], []
    for seed, picture in enumerate(pixels):
        torch.manual_seed(seed)
        alone.append(augmentation.example({"pixels": picture})["pixels"])
        torch.manual_seed(seed)
        dice.append(augmentation.thrown(picture.shape, size))
    return torch.stack(alone), augmentation.finished(pixels, torch.stack(dice), size)


KINDS = [
    Light(place="device"),
    Light(min_scale=1, flip=1, place="device"),
    Standard(place="device"),
    Standard(erase=0.6, place="device"),
    Standard(jitter=0.4, erase=0.5, place="device"),
]


@pytest.mark.parametrize("augmentation", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_changed_as_each_picture_is_alone(augmentation: Augmentation, channels: int):
    alone, together = both(augmentation, pictures(channels))
    apart = (alone.float() - together.float()).abs()
    assert together.dtype == torch.uint8
    assert apart.max() <= (5 if augmentation.of_colours else 1)  # bytes are rounded after each of four steps
    assert apart.mean() < (0.6 if augmentation.of_colours else 0.3)
    alone, together = both(augmentation, pictures(channels).float() / 255)
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-5)


def test_many_channels_are_cut_and_erased_too():
    alone, together = both(Standard(erase=1, place="device"), pictures(5).float() / 255)
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-5)


def test_neither_batch_nor_order_changes_a_picture(tmp_path: Path):
    source = ImageFolder(str(write_folder(tmp_path / "pictures", size=40)))
    examples = source.examples(size=24, crop_pct=0.8)
    labels = np.zeros(len(examples), np.int64)
    augmentation = Standard(jitter=0.3, erase=0.5, place="device")
    data = BatchDataset(examples, labels, augmentation, seed=5)
    first = on_device(data[Draw(3, np.arange(12), 12)], augmentation)["inputs"]["pixels"]
    order = np.array([7, 2, 30, 11])
    other = on_device(data[Draw(3, order, 4)], augmentation)["inputs"]["pixels"]
    assert torch.equal(other[[0, 1, 3]], first[order[[0, 1, 3]]])
    assert first.shape == (12, 3, 24, 24)
    alone = BatchDataset(examples, labels, Standard(jitter=0.3, erase=0.5), seed=5)[Draw(3, np.arange(12), 12)]
    assert (alone["inputs"]["pixels"].float() - first.float()).abs().mean() < 1  # cut out of the same whole pictures
    assert not torch.equal(on_device(data[Draw(4, np.arange(12), 12)], augmentation)["inputs"]["pixels"], first)


def test_recipes_that_are_not_offered_are_refused():
    with pytest.raises(InputError, match=r"has TrivialAugmentWide too: use augmentation.place=workers"):
        Standard(policy="trivial_augment", place="device")
    assert not Standard(policy="trivial_augment").on_device


def test_a_run_is_the_same_for_any_number_of_workers(at_home: Path, capsys):
    root = write_folder(at_home / "pictures")
    found = []
    for name, words in {
        "none": ["augmentation.place=device"],
        "two": ["augmentation.place=device", "trainer.num_workers=2"],
        "usual": [],
    }.items():
        own = [f"hydra.run.dir={name}", "augmentation=mixup_cutmix", "strategy=partial", "strategy.last_k=1", *words]
        assert main(["train", *tiny(root, *own)]) == 0
        record = json.loads(Path(name, "result.json").read_text())
        found.append((record["run_id"], record["metrics"]["test/loss"]))
    assert found[0] == found[1]
    assert found[0][0] != found[2][0]
    assert found[0][1] == pytest.approx(found[2][1], abs=0.02)
    assert main(["train", *tiny(root, "augmentation=three_augment", "augmentation.place=device")]) == 2
    assert "augmentation.place=device is for crops" in capsys.readouterr().err
