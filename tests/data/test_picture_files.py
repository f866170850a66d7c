"""Every kind of picture becomes red, green and blue as it is meant; deeper ones on one scale for the whole data set."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL import __version__ as pillow_version

from headstart.data import contents, file_check
from headstart.data.images import ImageFolder
from headstart.data.picture_files import inspect_picture, read_picture
from headstart.data.picture_values import scale_of
from headstart.errors import InputError
from headstart.notes import listening

RAMP = np.arange(64).reshape(8, 8)


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(values, colour):
    """A PNG of 16 bits a channel; `colour` is the type that its header says."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(values, bits, number_format=1, photometric=1):
    """A grey TIFF of one strip; `number_format` 1 is unsigned, 2 signed, 3 float."""
    data, (height, width) = values.tobytes(), values.shape
    start = 8 + 2 + 12 * 9 + 4
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: start, 278: height, 279: len(data)}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in {**tags, 339: number_format}.items()]
    return b"II" + struct.pack("<HIH", 42, 8, len(entries)) + b"".join(entries) + struct.pack("<I", 0) + data


def grey(content, scales=None):
    """The one channel of a picture that is grey."""
    array = np.asarray(read_picture(content, scales))
    assert (array[..., :1] == array).all()
    return array[..., 0]


def checked(source):
    with listening() as heard:
        source.check()
    return source, heard.messages


# --- eight bits and less --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "RGBA", "LA", "I;16"])
@pytest.mark.parametrize("level", [0, 255])
def test_every_mode_becomes_rgb(mode, level):
    if mode == "YCbCr" and int(pillow_version.partition(".")[0]) < 13:
        pytest.skip("before version 13, Pillow writes such pictures cut off")
    plain = Image.new("L", (4, 4), level)
    image = Image.fromarray(np.full((4, 4), level * 257, np.uint16)) if mode == "I;16" else plain.convert(mode)
    scales = {"integer": (0, 65_535)}
    found = np.asarray(read_picture(encoded(image, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"), scales))
    assert found.tolist() == np.full((4, 4, 3), level).tolist()


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGB", "1"])
def test_eight_bits_are_read_as_timms_own_loader_reads_them(mode, tmp_path):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)).convert(mode)
    content = encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    theirs = Image.open(io.BytesIO(content)).convert("RGB")
    assert np.array_equal(np.asarray(read_picture(content)), np.asarray(theirs))


def test_transparency_lies_over_white():
    image = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert np.asarray(read_picture(encoded(image))).tolist() == np.full((2, 2, 3), 255).tolist()
    palette = Image.new("P", (2, 2), 0)
    assert np.asarray(read_picture(encoded(palette, transparency=0))).min() == 255
    assert inspect_picture(encoded(image)) == {"clear": True}
    assert inspect_picture(encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 255)))) == {}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_exif_orientation_turns_the_picture_upright_once(form):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    found = np.asarray(read_picture(encoded(Image.fromarray(pixels), form, exif=exif)))
    assert found.shape == (16, 8, 3)
    assert found[:8].min() > 250
    assert found[8:].max() < 5


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_read_and_they_are_told(form):
    frames = [Image.new("RGB", (8, 8), (level,) * 3) for level in (0, 120, 250)]
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    assert np.asarray(read_picture(content)).max() < 5
    assert inspect_picture(content) == {"frames": True}


# --- more than eight bits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "found", "expected"),
    [
        ("integer", [(0, 200, 0)], (0, 255)),  # 8 bits in 16
        ("integer", [(0, 900, 0), (5, 4000, 0)], (0, 4095)),  # 12 bits in 16, whatever one picture holds
        ("integer", [(0, 1500, 0)], (0, 4095)),
        ("integer", [(0, 16_000, 0)], (0, 16_383)),
        ("integer", [(12, 60_000, 0)], (0, 65_535)),
        ("integer", [(0, 3, 4095)], (3 - 3, 3)),  # declared, but filled to less than an eighth
        ("integer", [(0, 700, 4095)], (0, 4095)),
        ("integer", [(29_000, 31_000, 0)], (29_000, 31_000)),  # temperatures
        ("integer", [(-1024, 3071, 0)], (-1024, 3071)),
        ("integer", [(0, 1_000_000, 0)], (0, 2**20 - 1)),
        ("float", [(0, 0.9, 0)], (0, 1)),
        ("float", [(0, 250.5, 0)], (0, 255)),
        ("float", [(0, 5.5, 0), (1, 7, 0)], (0, 7)),
        ("float", [(-1, 1, 0)], (-1, 1)),
        ("float", [(0, 0, 0)], (0, 1)),
    ],
)
def test_the_scale_follows_what_all_pictures_hold(kind, found, expected):
    assert scale_of(kind, found) == expected


DEEP = {
    "12 bits in 16-bit PNG": (encoded(Image.fromarray((RAMP * 65).astype(np.uint16))), RAMP * 65, 4095),
    "8 bits in 16-bit PNG": (encoded(Image.fromarray((RAMP * 4).astype(np.uint16))), RAMP * 4, 255),
    "16-bit TIFF": (encoded(Image.fromarray((RAMP * 1000).astype(np.uint16)), "TIFF"), RAMP * 1000, 65_535),
    "32-bit TIFF": (tiff((RAMP * 1000).astype("<i4"), 32, 2), RAMP * 1000, 65_535),
    "unsigned 32-bit TIFF": (tiff((RAMP * 1000).astype("<u4"), 32), RAMP * 1000, 65_535),
    "float TIFF of 0 to 1": (tiff((RAMP / 64).astype("<f4"), 32, 3), RAMP / 64, 1),
    "float TIFF of 0 to 255": (tiff((RAMP * 4).astype("<f4"), 32, 3), RAMP * 4, 255),
    "PGM of 12 bits": (b"P5 8 8 4095\n" + (RAMP * 65).astype(">u2").tobytes(), RAMP * 65, 4095),
    "PFM": (b"Pf\n8 8\n-1.0\n" + np.flipud(RAMP / 64).astype("<f4").tobytes(), RAMP / 64, 1),
}


@pytest.mark.parametrize("what", DEEP)
def test_deep_pictures_keep_their_greys(what):
    content, values, white = DEEP[what]
    expected = np.rint(values * 255 / white)
    assert np.abs(grey(content).astype(int) - expected).max() <= (1 if what.startswith("PGM") else 0)


def test_a_tiff_in_which_0_is_white_is_turned_at_every_depth():
    assert np.array_equal(grey(tiff((RAMP * 4).astype("u1"), 8, 1, 0)), 255 - RAMP * 4)
    assert np.array_equal(grey(tiff((RAMP * 4).astype("<u2"), 16, 1, 0)), 255 - RAMP * 4)


def test_a_scale_from_elsewhere_is_kept_to_and_what_lies_outside_is_cut_off():
    content = tiff((RAMP * 100 - 1000).astype("<i2"), 16, 2)
    found = grey(content, {"integer": (-160, 240)})
    assert np.array_equal(found, np.rint(np.interp(RAMP * 100 - 1000, (-160, 240), (0, 255))))


@pytest.fixture
def deep(tmp_path):
    """Three classes of eight 16-bit pictures, each class brighter than the one before, in 12 bits together."""
    for place, name in enumerate(("ant", "bee", "cow")):
        (tmp_path / "deep" / name).mkdir(parents=True)
        for number in range(8):
            values = np.full((8, 8), 400 * (place + 1) + 300 * number, np.uint16)
            Image.fromarray(values).save(tmp_path / "deep" / name / f"{number}.png")
    return tmp_path / "deep"


def test_one_scale_serves_all_pictures_and_is_said_from_the_cache_too(deep, monkeypatch):
    monkeypatch.setattr(contents, "_SETTLED_SECONDS", 0)
    said = [checked(ImageFolder(str(deep)))[1]]
    monkeypatch.setattr(file_check, "_read", lambda *_: pytest.fail("read again"))
    source, again = checked(ImageFolder(str(deep)))
    assert again == said[0]
    assert len(said[0]) == 1
    for words in ("24 of 24 pictures", "whole numbers from 400 to 3,300", "0 is read as black and 4,095 as white"):
        assert words in said[0][0]
    assert source.facts["values"] == {"integer": {"pictures": 24, "holds": [400, 3300], "read_as": [0, 4095]}}
    levels = source.examples(size=8).batch(range(24))["pixels"][:, 0, 0, 0].tolist()
    expected = [400 * (place + 1) + 300 * number for place in range(3) for number in range(8)]
    assert levels == np.rint(np.array(expected) * 255 / 4095).tolist()


def test_a_shift_is_read_on_the_scale_of_the_training_data(deep, tmp_path):
    for name in ("ant", "bee", "cow"):
        (tmp_path / "dark" / name).mkdir(parents=True)
        Image.fromarray(np.full((8, 8), 200, np.uint16)).save(tmp_path / "dark" / name / "1.png")
    source, said = checked(ImageFolder(str(deep), shifts={"dark": str(tmp_path / "dark")}))
    assert source.shifts["dark"].examples(size=8).batch([0])["pixels"].unique().tolist() == [round(200 * 255 / 4095)]
    assert len(said) == 2


def test_the_scale_can_be_chosen_and_is_part_of_the_data(deep):
    plain, chosen = ImageFolder(str(deep)), ImageFolder(str(deep), value_range=[0, 65_535])
    assert plain.fingerprint != chosen.fingerprint
    _, said = checked(chosen)
    assert "65,535 as white" in said[0]
    assert chosen.examples(size=8).batch([7])["pixels"].max() == round(2500 * 255 / 65_535)
    with pytest.raises(InputError, match="LOW below HIGH"):
        ImageFolder(str(deep), value_range=[5, 5])


def test_a_scale_that_does_nothing_is_said(folder):
    _, said = checked(ImageFolder(str(folder), value_range=[0, 100]))
    assert said == [f"data.value_range does nothing: no picture in {folder} holds more than 8 bits a value."]


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_colours_of_16_bits_are_read_by_their_upper_8_or_refused_where_those_are_next_to_empty(
    folder, colour, channels
):
    full, low = np.full((8, 8, channels), 51_400, np.uint16), np.full((8, 8, channels), 4095, np.uint16)
    full[..., -1] = low[..., -1] = 65_535 if channels != 3 else full[0, 0, 0]
    if channels == 3:
        low[..., -1] = 4095
    (folder / "ant" / "deep.png").write_bytes(png(full, colour))
    _, said = checked(ImageFolder(str(folder), depth=8))
    assert said == [f"1 of 25 pictures in {folder} has 16 bits a colour, read by their upper 8, such as ant/deep.png."]
    (folder / "ant" / "deep.png").write_bytes(png(low, colour))
    with pytest.raises(InputError, match=r"hold nothing above 4,095 of 65,535.*ant/deep.png"):
        ImageFolder(str(folder), depth=8).check()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tiff(np.full((8, 8), np.nan, "<f4"), 32, 3), "no numbers"),
        (tiff(np.full((8, 8), -3.4e38, "<f4"), 32, 3), "stand for missing ones"),
        (tiff((RAMP - 30).astype("i1"), 8, 2), "signed bytes"),
        (tiff(RAMP.astype("<f8"), 64, 3), "not what its name says"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(folder, content, words):
    (folder / "ant" / "odd.tif").write_bytes(content)
    with pytest.raises(InputError, match=rf"1 of 25 files in .* cannot be read: ant/odd.tif \(.*{words}"):
        ImageFolder(str(folder)).check()


def test_frames_and_transparency_of_a_data_set_are_counted_and_said(folder):
    frames = [Image.new("RGB", (8, 8), (level,) * 3) for level in (0, 120)]
    frames[0].save(folder / "bee" / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("RGBA", (8, 8), (9, 9, 9, 9)).save(folder / "cow" / "ghost.png")
    source, said = checked(ImageFolder(str(folder)))
    assert said == [
        f"1 of 26 pictures in {folder} is animated or has several pages, of which the first is read, such as "
        "bee/moving.gif.",
        f"1 of 26 pictures in {folder} is transparent in places, and is laid over white, such as cow/ghost.png.",
    ]
    assert source.facts["first_frame_only"] == 1
    assert source.facts["over_white"] == 1


def test_what_is_transparent_is_looked_at_as_it_is_read_and_nothing_is_said_on_the_way():
    """A palette in which each entry has a transparency of its own; the clear one hides red."""
    image = Image.new("P", (4, 4))
    image.putpalette([255, 0, 0, 0, 0, 0])
    image.putdata([0, 1] * 8)
    content = encoded(image, transparency=bytes([0, 255]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert inspect_picture(content, channels=1) == {"clear": True}
        assert np.unique(np.asarray(read_picture(content)).reshape(-1, 3), axis=0).tolist() == [[0] * 3, [255] * 3]
