import io

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.compat import mend_torchvision
from headstart.data import array_cache
from headstart.data.pictures import Pictures, fit, read_picture


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("shape", [(300, 200), (201, 333), (64, 64), (40, 90)])
@pytest.mark.parametrize(("size", "crop_pct"), [(64, 0.875), (96, 1.0), (33, 0.9)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_sizing_equals_timms_evaluation_transform(shape, size, crop_pct, interpolation):
    mend_torchvision()
    from timm.data import create_transform

    dice = np.random.default_rng(0)
    image = Image.fromarray(dice.integers(0, 256, (shape[1], shape[0], 3), dtype=np.uint8))
    oracle = create_transform(
        size, interpolation=interpolation, crop_pct=crop_pct, mean=(0, 0, 0), std=(1, 1, 1), crop_mode="center"
    )
    expected = (oracle(image) * 255).round().to(torch.uint8).numpy()
    assert np.array_equal(fit(image, size, interpolation, crop_pct), expected)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "LA", "I;16"])
def test_every_mode_becomes_rgb(mode):
    grey = Image.new("L", (4, 4), 200)
    image = Image.fromarray(np.full((4, 4), 200 * 257, np.uint16)) if mode == "I;16" else grey.convert(mode)
    found = np.asarray(read_picture(encoded(image, "TIFF" if mode == "CMYK" else "PNG")))
    assert found.tolist() == np.full((4, 4, 3), 200).tolist()


def test_transparency_lies_over_white():
    image = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert np.asarray(read_picture(encoded(image))).tolist() == np.full((2, 2, 3), 255).tolist()
    palette = Image.new("P", (2, 2), 0)
    assert np.asarray(read_picture(encoded(palette, transparency=0))).min() == 255


def test_exif_orientation_turns_the_picture_upright():
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    found = np.asarray(read_picture(encoded(Image.fromarray(pixels), exif=exif)))
    assert found.shape == (16, 8, 3)
    assert found[:8].min() == 255
    assert found[8:].max() == 0


def test_kept_on_disk_in_memory_and_on_demand_are_the_same(folder, monkeypatch):
    paths = sorted(folder.rglob("*.png"))
    on_disk = Pictures(paths, "x", 8)
    monkeypatch.setattr(array_cache, "_free_disk", lambda folder: 0)
    in_memory = Pictures(paths, "y", 8)
    on_demand = Pictures(paths, "y", 8, cache_bytes=1)
    assert isinstance(on_disk._array, np.memmap)
    assert not isinstance(in_memory._array, np.memmap)
    assert on_demand._array is None
    batches = [one.batch([5, 0, 5])["pixels"] for one in (on_disk, in_memory, on_demand)]
    assert batches[0].shape == (3, 3, 8, 8)
    assert batches[0].dtype == torch.uint8
    assert torch.equal(batches[0], batches[1])
    assert torch.equal(batches[0], batches[2])


def test_decoded_pictures_are_found_again_and_a_damaged_file_is_made_anew(folder, own_cache, monkeypatch):
    paths = sorted(folder.rglob("*.png"))
    first = Pictures(paths, "x", 8).batch([3])["pixels"]
    with monkeypatch.context() as patch:
        patch.setattr(Pictures, "_decode", lambda *_: pytest.fail("decoded again"))
        assert torch.equal(Pictures(paths, "x", 8).batch([3])["pixels"], first)
    (kept,) = (own_cache / "pictures").glob("*.npy")
    kept.write_bytes(b"\x93NUMPY nonsense")
    assert torch.equal(Pictures(paths, "x", 8).batch([3])["pixels"], first)


def test_other_sizing_is_kept_apart(folder):
    paths = sorted(folder.rglob("*.png"))
    one, other = Pictures(paths, "x", 8, crop_pct=1.0), Pictures(paths, "x", 8, crop_pct=0.5)
    assert not torch.equal(one.batch([0])["pixels"], other.batch([0])["pixels"])


def test_unused_arrays_are_forgotten_after_a_month(folder, own_cache):
    import os
    import time

    paths = sorted(folder.rglob("*.png"))
    Pictures(paths, "x", 8)
    (kept,) = (own_cache / "pictures").glob("*.npy")
    os.utime(kept, (time.time() - 40 * 86_400,) * 2)
    Pictures(paths, "other", 8)
    assert not kept.exists()
