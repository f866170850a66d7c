"""Pictures reach a timm model as timm's own evaluation transform would bring them, for every pretrained config."""

import io
from collections import defaultdict
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn

from headstart.backbones import timm as timm_backbone
from headstart.backbones.backbone import WeightsRecord
from headstart.backbones.timm import Timm
from headstart.backbones.timm_model import TimmBackbone
from headstart.compat import declare_torchvision_operators
from headstart.data.picture_files import read_picture
from headstart.data.sizing import Sizing, fit
from headstart.errors import InputError

declare_torchvision_operators()

import timm  # noqa: E402
from timm.data import create_transform, resolve_data_config  # noqa: E402


@cache
def files() -> dict[str, bytes]:
    """Pictures of odd shapes and modes, as files."""
    rng = np.random.default_rng(0)

    def noise(width, height):
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))

    turned = Image.Exif()
    turned[0x0112] = 6
    found = {
        "tall": (noise(50, 130), "PNG", {}),
        "wide": (noise(150, 41), "JPEG", {}),
        "small": (noise(6, 5), "PNG", {}),
        "one pixel wide": (noise(1, 23), "PNG", {}),
        "one pixel high": (noise(17, 1), "PNG", {}),
        "grey": (noise(70, 61).convert("L"), "PNG", {}),
        "palette": (noise(33, 90).convert("P"), "PNG", {}),
        "transparent": (noise(64, 48).convert("RGBA"), "PNG", {}),
        "for print": (noise(48, 64).convert("CMYK"), "JPEG", {}),
        "turned": (noise(80, 40), "JPEG", {"exif": turned}),
    }
    encoded = {}
    for name, (image, form, options) in found.items():
        if name == "transparent":
            image.putalpha(Image.fromarray(rng.integers(0, 256, (48, 64), dtype=np.uint8)))
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        encoded[name] = buffer.getvalue()
    return encoded


def as_seen(content: bytes) -> Image.Image:
    """What timm is given: upright, in RGB, over white."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if image.mode == "RGBA":
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def ours(factory: Timm, content: bytes) -> torch.Tensor:
    pixels = fit(read_picture(content), Sizing(**factory.reading().arguments))
    backbone = TimmBackbone(nn.Linear(1, 1), 1, factory.preprocessing, WeightsRecord("none"))
    return backbone.normalised(torch.from_numpy(pixels.copy())[None])[0]


def timms(name: str, size: int, content: bytes) -> torch.Tensor:
    config = resolve_data_config({"img_size": size}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    return create_transform(**config)(as_seen(content))


def groups(*facts: str) -> list[str]:
    """One name for each combination of facts that timm's pretrained configs have."""
    found: dict[tuple, str] = {}
    for name in timm.list_models(pretrained=True):
        config = timm.get_pretrained_cfg(name)
        found.setdefault(tuple(getattr(config, fact) for fact in facts), name)
    return sorted(found.values())


def test_every_pretrained_config_is_sized_and_normalised_as_timm_does_it():
    """All combinations that matter, at one small size; every picture for each way of sizing, one for each other."""
    names = groups("crop_mode", "crop_pct", "interpolation", "mean", "std")
    assert len(names) > 40
    ways, checked = defaultdict(int), 0
    contents = list(files().items())
    for name in names:
        factory = Timm(name, weights="none", size=40)
        way = factory.preprocessing.crop_mode, factory.preprocessing.interpolation
        ways[way] += 1
        chosen = contents if ways[way] == 1 else [contents[sum(ways.values()) % len(contents)]]
        for what, content in chosen:
            expected = timms(name, 40, content)
            assert torch.allclose(ours(factory, content), expected, atol=1e-5), (name, what)
            checked += 1
    assert {mode for mode, _ in ways} == {"center", "squash", "border"}
    assert checked > len(names)


def test_at_the_weights_own_size_too():
    for name in groups("crop_mode", "crop_pct", "interpolation"):
        config = timm.get_pretrained_cfg(name)
        size = config.input_size[-1]
        square = config.input_size[1] == size
        factory = Timm(name, weights="none") if square else Timm(name, weights="none", size=size)
        content = files()["wide"]
        assert torch.allclose(ours(factory, content), timms(name, size, content), atol=1e-5), name


def test_most_models_say_nothing_of_the_way_of_cropping_so_that_what_was_done_before_is_found_again():
    assert Timm("resnet18").reading().arguments == {"size": 224, "interpolation": "bicubic", "crop_pct": 0.95}
    squashed = Timm("dm_nfnet_f0").reading().arguments
    assert squashed["crop_mode"] == "squash"
    assert "fill" not in squashed
    assert "crop_mode" not in Timm("resnet18").identity(False)
    assert Timm("dm_nfnet_f0").identity(False)["crop_mode"] == "squash"


def test_the_way_of_cropping_can_be_chosen():
    chosen = Timm("resnet18", crop_mode="border", mean=[0.0, 0.5, 1.0])
    assert chosen.reading().arguments["fill"] == [0, 128, 255]
    assert chosen.identity(False) != Timm("resnet18", mean=[0.0, 0.5, 1.0]).identity(False)


def test_a_model_of_pictures_that_are_not_square_reads_them():
    factory = Timm("vit_base_patch16_sapiens2", weights="none")
    assert factory.reading().arguments["size"] == (1024, 768)
    factory.check(False)


def test_an_interpolation_that_is_none_is_refused(monkeypatch):
    import dataclasses

    config = dataclasses.replace(timm.get_pretrained_cfg("test_vit"), interpolation="random")
    monkeypatch.setattr(timm_backbone, "_weights_config", lambda name: config)
    with pytest.raises(InputError, match="say 'random': choose one"):
        Timm("test_vit", weights="none").check(False)
    Timm("test_vit", weights="none", interpolation="bilinear").check(False)
