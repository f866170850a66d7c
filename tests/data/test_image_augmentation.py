import pytest
import torch
from torch.nn.functional import one_hot

from headstart.compat import declare_torchvision_operators
from headstart.data.augmentation import NoAugmentation
from headstart.data.image_augmentation import Light, MixupCutmix, RandAugment, Standard, TrivialAugment


@pytest.fixture
def pixels():
    return torch.randint(0, 256, (6, 3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("augmentation", [Light(), TrivialAugment(), RandAugment(), MixupCutmix(), Standard()])
def test_example_keeps_size_and_type_and_follows_the_rng(augmentation, pixels):
    found = []
    for seed in (1, 1, 2, 3, 4):
        torch.manual_seed(seed)
        found.append(augmentation.example({"pixels": pixels[0]})["pixels"])
    assert found[0].shape == pixels[0].shape
    assert found[0].dtype == torch.uint8
    assert torch.equal(found[0], found[1])
    assert any(not torch.equal(found[0], other) for other in found[2:])


def test_augmentation_works_at_any_size_one_after_the_other():
    for size in (16, 32, 16):
        assert Light().example({"pixels": torch.zeros(3, size, size, dtype=torch.uint8)})["pixels"].shape[-1] == size


def test_light_mirrors_as_often_as_asked():
    def halves(flip):
        """Which side of black-and-white pictures is the brighter one, after augmentation."""
        torch.manual_seed(0)
        picture = torch.zeros(3, 20, 20, dtype=torch.uint8)
        picture[:, :, 10:] = 255
        found = [Light(flip=flip).example({"pixels": picture})["pixels"].float() for _ in range(20)]
        return [bool(one[:, :, :4].mean() > one[:, :, -4:].mean()) for one in found]

    assert all(halves(1.0))
    assert not any(halves(0.0))
    assert 4 <= sum(halves(0.5)) <= 16


def test_other_inputs_pass_through(pixels):
    mask = torch.ones(4)
    assert Light().example({"pixels": pixels[0], "mask": mask})["mask"] is mask


def test_mixing_agrees_with_torchvision_and_gives_shares_that_add_to_one(pixels):
    declare_torchvision_operators()
    from torchvision.transforms import v2

    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    augmentation = MixupCutmix(mixup_alpha=1.0)
    kinds = set()
    for seed in range(8):
        torch.manual_seed(seed)
        inputs, shares = augmentation.batch({"pixels": pixels}, one_hot(labels, 3).float())
        torch.manual_seed(seed)
        oracle = v2.RandomChoice([v2.MixUp(alpha=1.0, num_classes=3), v2.CutMix(alpha=1.0, num_classes=3)])
        expected, expected_shares = oracle(pixels.float(), labels)
        assert (inputs["pixels"].float() - expected).abs().max() <= 0.5
        assert torch.equal(shares, expected_shares)
        assert torch.allclose(shares.sum(1), torch.ones(6))
        kinds.add(bool((expected == expected.round()).all()))
    assert inputs["pixels"].dtype == torch.uint8
    assert kinds == {True, False}


def test_none_changes_nothing_and_says_so(pixels):
    none = NoAugmentation()
    assert none.modality == "any"
    assert not none.changes_examples
    assert not none.mixes
    assert none.example({"pixels": pixels})["pixels"] is pixels
