"""Pictures kept in 16 bits: what is read of files of every depth, resized, kept, augmented and said."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.data.deep_pictures import colour_values, kept_planes
from headstart.data.image_augmentation import Light, MixupCutmix, RandAugment, Standard, TrivialAugment
from headstart.data.images import ImageFolder
from headstart.data.picture_files import opened
from headstart.data.sizing import Sizing, fit_planes
from headstart.data.unlabelled import PictureReader
from headstart.errors import InputError

DICE = np.random.default_rng(0)


def png(values: np.ndarray, kind: int) -> bytes:
    """A PNG of 16 bits (colour type 2, 4 or 6), each row by another of the five filters."""
    height, width, channels = values.shape
    raw = values.astype(">u2").reshape(height, -1).view(np.uint8).astype(int)
    rows, above = b"", np.zeros(raw.shape[1], int)
    for number, row in enumerate(raw):
        left, corner = (np.concatenate([np.zeros(2 * channels, int), line[: -2 * channels]]) for line in (row, above))
        guess = left + above - corner
        a, b, c = abs(guess - left), abs(guess - above), abs(guess - corner)
        paeth = np.where((a <= b) & (a <= c), left, np.where(b <= c, above, corner))
        predicted = (0, left, above, (left + above) // 2, paeth)[number % 5]
        rows += bytes([number % 5]) + ((row - predicted) % 256).astype(np.uint8).tobytes()
        above = row
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(
    values: np.ndarray, photometric: int, order: str = "<", extra: int | None = None, packed: bool = False
) -> bytes:
    """A TIFF `(H, W, C)` of 16 bits, in one strip."""
    height, width, channels = values.shape
    data = values.astype(order + "u2").tobytes()
    data = zlib.compress(data) if packed else data
    tags = {256: width, 257: height, 259: 8 if packed else 1, 262: photometric, 277: channels, 278: height}
    tags |= {} if extra is None else {338: extra}
    begin = 8 + 2 + 12 * (len(tags) + 3) + 4
    entries = {tag: struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items()}
    entries[258] = struct.pack(order + "HHII", 258, 3, channels, begin)
    entries[273] = struct.pack(order + "HHII", 273, 4, 1, begin + 2 * channels)
    entries[279] = struct.pack(order + "HHII", 279, 4, 1, len(data))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    bits = struct.pack(order + "H" * channels, *[16] * channels)
    return head + b"".join(entries[tag] for tag in sorted(entries)) + b"\0\0\0\0" + bits + data


def read(content: bytes, channels: int = 3, scales=None) -> np.ndarray:
    with opened(content) as image:
        return np.stack([np.asarray(plane) for plane in kept_planes(image, scales, channels, 16)])


def saved(values: np.ndarray, form: str = "PNG", **how) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, form, **how)
    return file.getvalue()


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "channels", "order"), [(2, 3, "RGB"), (6, 4, "RGBA"), (4, 2, "LA")])
def test_all_16_bits_of_a_colour_are_read_from_png(kind: int, channels: int, order: str):
    values = DICE.integers(0, 65_536, (13, 9, channels), dtype=np.uint16)
    with opened(png(values, kind)) as image:
        found, said, _ = colour_values(image)
    np.testing.assert_array_equal(found, values)
    assert said == order


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_all_16_bits_of_a_colour_are_read_from_tiff(order: str, packed: bool):
    values = DICE.integers(0, 65_536, (13, 9, 4), dtype=np.uint16)
    for photometric, extra, channels in ((2, None, 3), (2, 2, 4), (2, 0, 3), (5, None, 4)):
        content = tiff(values[..., : channels if extra != 0 else 4], photometric, order, extra, packed)
        with opened(content) as image:
            np.testing.assert_array_equal(colour_values(image)[0], values[..., :channels])
    opacity = values[..., 3:].astype(float) / 65_535
    with opened(
        tiff(np.rint(values * [[[1, 1, 1, 0]]] * opacity + values * [[[0, 0, 0, 1]]]), 2, order, 1, packed)
    ) as image:
        found, _, _ = colour_values(image)  # which were multiplied by their opacity
    assert (abs(found[..., :3] - values[..., :3].astype(float)) <= 0.5 / np.maximum(opacity, 1e-9) + 0.51).all()


def test_ppm_and_sgi_are_read_whole():
    values = DICE.integers(0, 60_001, (13, 9, 3), dtype=np.uint16)
    with opened(b"P6 9 13 60000\n" + values.astype(">u2").tobytes()) as image:
        np.testing.assert_array_equal(colour_values(image)[0], np.rint(values / 60_000 * 65_535))
    eight = DICE.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    content = bytearray(saved(eight, "SGI", bpc=2))
    content[-1] = 77  # the lower byte of the top right corner, in blue
    with opened(bytes(content)) as image:
        found = colour_values(image)[0]
    np.testing.assert_array_equal(found // 256, eight)
    assert found[0, -1, 2] % 256 == 77


def test_planes_are_on_one_scale_whatever_the_file_holds():
    grey = DICE.integers(0, 65_536, (6, 7), dtype=np.uint16)
    full = {"integer": (0.0, 65_535.0), "float": (0.0, 1.0), "colour": (0.0, 65_535.0)}
    np.testing.assert_array_equal(read(saved(grey), 3, full), np.stack([grey] * 3))
    np.testing.assert_array_equal(read(saved(grey), 1, full), grey[None])
    halved = read(saved(grey // 16), 1, {"integer": (0.0, 4095.0)})
    np.testing.assert_allclose(halved[0], grey // 16 / 4095 * 65_535, rtol=1e-6)
    parts = DICE.random((6, 7), dtype=np.float32)
    np.testing.assert_allclose(read(saved(parts, "TIFF"), 1, full)[0], parts * 65_535, rtol=1e-6)
    eight = DICE.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(read(saved(eight)), eight.transpose(2, 0, 1) * 257.0)
    brightness = eight @ np.array([0.299, 0.587, 0.114]) * 257
    np.testing.assert_allclose(read(saved(eight), 1)[0], brightness, rtol=1e-6)
    clear = DICE.integers(0, 65_536, (6, 7, 4), dtype=np.uint16)
    opacity = clear[..., 3:] / 65_535
    over_white = clear[..., :3] * opacity + 65_535 * (1 - opacity)
    np.testing.assert_allclose(read(png(clear, 6), 3, full), over_white.transpose(2, 0, 1), rtol=1e-5)
    np.testing.assert_array_equal(read(png(clear, 6), 4, full), clear.transpose(2, 0, 1))
    ink = clear.astype(float)
    printed = (65_535 - ink[..., :3]) * (65_535 - ink[..., 3:]) / 65_535
    np.testing.assert_allclose(read(tiff(clear, 5), 3, full), printed.transpose(2, 0, 1), rtol=1e-5, atol=0.02)


def test_pictures_are_turned_upright_in_16_bits_too():
    values = DICE.integers(0, 65_536, (5, 8, 3), dtype=np.uint16)
    content = png(values, 2)
    turn = b"eXIfII*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    chunk = struct.pack(">I", len(turn) - 4) + turn + struct.pack(">I", zlib.crc32(turn))
    found = read(content[:33] + chunk + content[33:], 3, {"colour": (0.0, 65_535.0)})
    np.testing.assert_array_equal(found, np.rot90(values, -1).transpose(2, 0, 1))


# --- resized ---------------------------------------------------------------------------------------------------------


def weights(length: int, size: int) -> np.ndarray:
    """Keys' cubic kernel (a = -0.5), as wide as what is resized is smaller, `(size, length)`."""
    scale = length / size
    wide = max(scale, 1)
    apart = abs((np.arange(length) + 0.5)[None] - (np.arange(size)[:, None] + 0.5) * scale) / wide
    near, far = 1.5 * apart**3 - 2.5 * apart**2 + 1, -0.5 * apart**3 + 2.5 * apart**2 - 4 * apart + 2
    kernel = np.where(apart < 1, near, np.where(apart < 2, far, 0))
    return kernel / kernel.sum(1, keepdims=True)


def test_resizing_keeps_what_lies_between_the_levels_of_8_bits():
    grey = np.clip(np.cumsum(DICE.normal(0, 300, (50, 70)), axis=1) + 30_000, 0, 65_535).astype(np.uint16)
    sizing = Sizing((24, 32), "bicubic", 1.0, "squash")
    with opened(saved(grey)) as image:
        found = fit_planes(kept_planes(image, {"integer": (0.0, 65_535.0)}, 1, 16), sizing)
    expected = weights(50, 24) @ grey.astype(float) @ weights(70, 32).T
    assert (found.shape, found.dtype) == ((1, 24, 32), np.uint16)
    assert abs(found[0] - expected).max() <= 0.6
    with opened(saved(grey)) as image:
        letters = fit_planes(
            kept_planes(image, {"integer": (0.0, 65_535.0)}, 3, 16),
            Sizing(32, "bilinear", 1.0, "border", (124, 116, 104)),
        )
    assert letters[:, 0, 0].tolist() == [124 * 257, 116 * 257, 104 * 257]


# --- kept and given --------------------------------------------------------------------------------------------------


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    for number in range(24):
        folder = tmp_path / "deep" / ("ant", "bee")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        # classes differ by what 8 bits cannot hold
        values = 30_000 + (DICE.integers(0, 40, (24, 24)) + 60 * (number % 2))
        values[0, :2] = 0, 65_535
        (folder / f"{number:02}.png").write_bytes(saved(values.astype(np.uint16)))
    return tmp_path / "deep"


def test_what_is_kept_is_found_again_and_given_in_floats(deep: Path):
    source = ImageFolder(str(deep))
    assert (source.bits, source.own_reading) == (16, {"depth": 16})
    examples = source.examples(size=24, **source.own_reading)
    pixels = examples.batch([0, 1])["pixels"]
    first = np.asarray(Image.open(deep / "ant" / "00.png"))
    np.testing.assert_array_equal(pixels[0, 1].numpy(), first.astype(np.float32) / np.float32(65_535))
    whole = examples.uncut(True)
    assert whole is not None
    assert torch.equal(whole[0], pixels[0])
    again = ImageFolder(str(deep)).examples(size=24, depth=16)
    assert again.identity == examples.identity
    assert again.identity != source.examples(size=24).identity
    assert ImageFolder(str(deep), depth=8).own_reading == {}
    assert examples.preview(0)[:4] == b"\x89PNG"
    reader = PictureReader(source.scales, 24, depth=16)
    assert torch.equal(reader.batch([reader.read(deep / "ant" / "00.png")])["pixels"], pixels[:1])
    grey = np.stack([first] * 3, 2)
    assert torch.equal(reader.batch([reader.read(grey)])["pixels"], pixels[:1])
    with pytest.raises(ValueError, match=r"must be \(H, W, 3\) uint8, but"):
        PictureReader(source.scales, 24).read(grey)


def test_the_depth_is_said_and_a_shift_has_that_of_its_origin(deep: Path, tmp_path: Path, caplog):
    for name in ("ant", "bee"):
        (tmp_path / "plain" / name).mkdir(parents=True)
        (tmp_path / "plain" / name / "1.png").write_bytes(saved(np.full((24, 24, 3), 9, np.uint8)))
    source = ImageFolder(str(deep), shifts={"plain": str(tmp_path / "plain")})
    source.encode = lambda cells, *_: cells
    assert source.shifts["plain"].bits == 16
    assert "in 65,536 levels (data.depth=8 keeps 256)" in source._remarks()[0]
    assert "in 256 levels (data.depth=16 keeps 65,536)" in ImageFolder(str(deep), depth=8)._remarks()[0]
    (remark,) = ImageFolder(str(tmp_path / "plain"), depth=16)._remarks()
    assert remark.startswith("No picture in")
    (deep / "ant" / "low.png").write_bytes(png(np.full((24, 24, 3), 4000, np.uint16), 2))
    said = ImageFolder(str(deep))._remarks()
    assert "colours below 4,096. For all of them alike, 0 is read as black and 4,095 as white" in said[1]
    with pytest.raises(InputError, match=r"hold nothing above 4,095 of 65,535.*or leave data.depth out"):
        ImageFolder(str(deep), depth=8).findings  # noqa: B018


# --- augmented -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "augmentation",
    [
        Light(),
        Standard(jitter=0.4, erase=1.0),
        Standard(policy="three_augment"),
        TrivialAugment(fill=99),
        RandAugment(),
    ],
)
def test_floats_are_changed_as_bytes_are(augmentation):
    pixels = torch.from_numpy(DICE.integers(0, 256, (3, 24, 40), dtype=np.uint8))
    smooth = torch.nn.functional.interpolate(pixels[None, :, :6, :10].float(), (24, 40), mode="bilinear")[0].byte()
    apart = []
    for seed in range(16):
        both = []
        for given in (smooth, smooth.float() / 255):
            torch.manual_seed(seed)
            both.append(augmentation.example({"pixels": given})["pixels"])
        assert both[1].dtype == torch.float32
        assert 0 <= both[1].min() <= both[1].max() <= 1
        apart.append((255 * both[1] - both[0].float()).abs().quantile(0.9).item())
    assert np.median(apart) <= 2.5, apart  # after three steps that round bytes


def test_mixing_keeps_floats():
    given = torch.rand(4, 3, 8, 8)
    torch.manual_seed(3)
    mixed, shares = MixupCutmix().batch({"pixels": given}, torch.eye(4))
    share = shares[0, 0]
    blended = share * given + (1 - share) * given.roll(1, 0)
    is_cut = torch.isin(mixed["pixels"], given).all()
    assert is_cut or torch.allclose(mixed["pixels"], blended, atol=1e-6)
