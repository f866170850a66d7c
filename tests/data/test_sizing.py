"""Pictures are sized as timm's evaluation transform sizes them, within bounded memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.compat import declare_torchvision_operators
from headstart.config.sides import height_width
from headstart.data import sizing
from headstart.data.sizing import Sizing, fit
from headstart.errors import InputError

SHAPES = [(300, 200), (201, 333), (64, 64), (40, 90), (7, 5), (1, 1), (1, 9), (9, 1), (500, 3), (2, 400)]


def picture(width, height, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def timms(image, size, crop_pct, crop_mode, interpolation, mean=(0.2, 0.4, 0.6)):
    """The picture as timm sizes it, before scaling."""
    declare_torchvision_operators()
    from timm.data import create_transform

    how = {"interpolation": interpolation, "crop_pct": crop_pct, "crop_mode": crop_mode, "mean": mean}
    oracle = create_transform(size, **how, std=(1, 1, 1))
    pixels = oracle(image) + torch.tensor(mean).reshape(3, 1, 1)
    return (pixels * 255).round().to(torch.uint8).numpy()


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize(
    ("size", "crop_pct"), [(64, 0.875), (96, 1.0), (33, 0.9), (40, 1.2), ((48, 80), 0.9), ((70, 31), 1.0)]
)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest", "lanczos", "box", "hamming"])
def test_sizing_equals_timms_evaluation_transform(size, crop_pct, crop_mode, interpolation):
    fill = tuple(round(255 * value) for value in (0.2, 0.4, 0.6))
    ours = Sizing(size, interpolation, crop_pct, crop_mode, fill)
    for shape in SHAPES:
        image = picture(*shape)
        sides = height_width(size)
        if crop_mode == "border" and max(shape) > 2 * int(min(sides) / crop_pct) * min(shape):
            assert fit(image, ours).shape == (3, *sides)  # timm itself fails: it rounds the short side to nothing
            continue
        assert np.array_equal(fit(image, ours), timms(image, size, crop_pct, crop_mode, interpolation)), shape


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("shape", [(3, 900), (700, 4), (31, 2000)])
def test_resizing_only_what_is_needed_gives_the_same_picture(crop_mode, shape, monkeypatch):
    how = Sizing(48, "bicubic", 0.9, crop_mode)
    image = picture(*shape).point(lambda value: 80 + value * 95 // 255)  # so that no filter overshoots
    whole = fit(image, how).astype(int)
    monkeypatch.setattr(sizing, "_MOST_PIXELS", 1000)
    assert np.abs(fit(image, how) - whole).max() <= 2


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("shape", ["4, 200_000", "200_000, 4"])
def test_a_long_picture_takes_little_memory(crop_mode, shape):
    script = f"""
import resource
from PIL import Image
from headstart.data.sizing import Sizing, fit
image = Image.new("RGB", ({shape}), (10, 200, 30))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert fit(image, Sizing(224, "bicubic", 0.9, {crop_mode!r}, (10, 200, 30))).reshape(3, -1).std(1).max() == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 300 << 20


def test_what_is_no_way_of_sizing_is_refused():
    with pytest.raises(InputError, match=r"interpolation must be one of nearest, .*, not 'random'"):
        Sizing(8, "random")
    with pytest.raises(InputError, match="crop_mode must be one of center, squash, border, not 'stretch'"):
        Sizing(8, crop_mode="stretch")
