"""What lies in class folders: all that can be read is, and what is not is counted and named."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from PIL import Image, features

from headstart.data import folders, listing
from headstart.data.audio import AudioFolder
from headstart.data.folders import check_is_own
from headstart.data.images import ImageFolder
from headstart.data.picture_files import kind
from headstart.errors import InputError
from headstart.notes import listening


def checked(source):
    """The source after its check, and what was said."""
    with listening() as heard:
        source.check()
    return source, heard.messages


def message(source) -> str:
    with pytest.raises(InputError) as error:
        source.check()
    return str(error.value)


def test_every_suffix_that_pillow_opens_is_read_but_for_those_it_cannot_decode_or_runs_a_program_for():
    Image.init()
    opened = {suffix for suffix, form in Image.registered_extensions().items() if form in Image.OPEN}
    left_out = opened - set(kind().suffixes)
    assert left_out == {".bufr", ".emf", ".eps", ".grib", ".h5", ".hdf", ".mpeg", ".mpg", ".ps", ".wmf"}


def test_suffixes_and_paths_as_texts_are_what_pathlib_makes_of_them():
    for name in ("a.PNG", ".png", "a", "a.tar.gz", "..png", "a.b", " .x", "é.JPG"):
        assert folders.suffix_of(name) == Path(name).suffix.lower()
    names = ["a.png", "./a.png", "b//c.png", "b/./c.png", "/etc/x.png", "../d.png", "b/../c.png", "b/..c.png", "b/"]
    for root in (Path("pictures"), Path("."), Path("/data")):
        paths = listing._joined(root, names)
        assert paths == [str(root / name) for name in names]
        keys = [Path(os.path.relpath(path, root)).as_posix() for path in paths]
        assert list(listing._keys(root, paths)) == keys


@pytest.mark.parametrize("suffix", [".JPG", ".avif", ".webp", ".tga", ".jp2", ".qoi", ".PNM", ".dib", ".pcx", ".sgi"])
def test_pictures_of_rarer_suffixes_are_examples(folder, suffix):
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("Pillow was built without AVIF")
    for number in range(3):
        Image.new("RGB", (9, 7), (200, 40 * number, 90)).save(folder / "ant" / f"more{number}{suffix}")
    source, said = checked(ImageFolder(str(folder)))
    assert len(source.ids) == 27
    assert source.facts["files"]["read"] == {".png": 24, suffix.lower(): 3}
    assert said == []


def test_what_no_reader_takes_is_counted_by_suffix_and_named_and_other_files_are_not_alarming(folder):
    for name in ("ant/a.heic", "bee/b.HEIC", "bee/c.jxl", "cow/d"):
        (folder / name).write_bytes(b"something")
    for name in ("ant/.DS_Store", "ant/Thumbs.db", "ant/notes.txt", "bee/labels.json", "cow/LICENSE"):
        (folder / name).write_bytes(b"something")
    source, said = checked(ImageFolder(str(folder)))
    assert said == [
        f"4 of 28 files in the class folders of {folder} are not read: .heic (2), .jxl (1), no suffix (1), such as "
        "ant/a.heic. Read are .png (24). Save them as .png or .jpg, or take them away."
    ]
    assert source.facts["files"] == {
        "read": {".png": 24},
        "not_read": {".heic": 2, ".jxl": 1, "no suffix": 1},
        "no_class": {},
        "other": {"hidden": 2, ".json": 1, ".txt": 1, "no suffix": 1},
    }


def test_a_class_of_unreadable_files_alone_is_refused_with_what_it_holds(folder):
    (folder / "dog").mkdir()
    for number in range(3):
        (folder / "dog" / f"{number}.heic").write_bytes(b"something")
    assert "class folder " in message(ImageFolder(str(folder)))
    assert "dog has no pictures that are read, but .heic (3): fill or remove it." in message(ImageFolder(str(folder)))


@pytest.mark.parametrize("parts", [False, True])
def test_pictures_beside_the_class_folders_are_said_not_to_be_read(tmp_path, paint, parts):
    for part in ("train", "test") if parts else ("",):
        for name in ("ant", "bee"):
            for number in range(4):
                paint(tmp_path / part / name / f"{part}{number}.png")
        paint(tmp_path / part / "loose.png")
    source, said = checked(ImageFolder(str(tmp_path)))
    loose = 2 if parts else 1
    assert source.facts["files"]["no_class"] == {".png": loose}
    assert len(said) == 1
    assert said[0].startswith(f"{loose} pictures in {tmp_path} lie in no class folder and are not read, such as ")


def test_contents_count_and_not_the_suffix_and_folders_may_be_called_like_files(folder, paint):
    paint(folder / "ant" / "photo.jpg").rename(folder / "ant" / "really_jpeg.png")
    paint(folder / "bee" / "album.png" / "inside.png")
    source, said = checked(ImageFolder(str(folder)))
    assert "bee/album.png/inside.png" in source.ids
    assert len(source.ids) == 26
    assert said == []


def test_links_that_lead_nowhere_or_in_circles_are_named_and_good_ones_followed(folder, tmp_path, paint):
    paint(tmp_path / "elsewhere" / "far.png")
    (folder / "ant" / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "bee" / "again.png").symlink_to(folder / "bee" / "bee0.png")
    source, _ = checked(ImageFolder(str(folder)))
    assert {"ant/link/far.png", "bee/again.png"} <= set(source.ids)
    (folder / "cow" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "cow" / "up").symlink_to(folder)
    found = message(ImageFolder(str(folder)))
    assert "cow/lost.png (No such file or directory)" in found
    assert "up/cow is a link to a folder that it lies in" in found or "cow/up is a link" in found
    assert found.count("cow/lost.png") == 1


def test_what_is_no_file_is_not_read_and_does_not_hang(folder):
    os.mkfifo(folder / "ant" / "pipe.png")
    source, said = checked(ImageFolder(str(folder)))
    assert len(source.ids) == 24
    assert "1 of 25 files" in said[0]


def test_a_name_that_is_no_text_is_named(folder):
    try:
        os.rename(folder / "ant" / "ant0.png", os.fsencode(folder) + b"/ant/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes text alone")
    assert r"1 file must be renamed, for names must be UTF-8: ant/caf\udce9.png." in message(ImageFolder(str(folder)))


def test_a_folder_that_may_not_be_opened_is_named(folder):
    """As another user where this one may open everything."""
    (folder / "bee").chmod(0)
    script = "\n".join(
        [
            "import os, sys",
            "from headstart.data.folders import files_in, folders_in",
            "from pathlib import Path",
            "os.geteuid() or os.setuid(65534)",
            "print(files_in(Path(sys.argv[1]), {'.png'}).problems)",
        ]
    )
    for parent in (parent for parent in folder.parents if "pytest" in str(parent)):
        parent.chmod(parent.stat().st_mode | 0o055)
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True)
    (folder / "bee").chmod(0o755)
    assert "bee cannot be opened (Permission denied)" in done.stdout


def test_sounds_of_all_formats_are_read_and_others_named(tmp_path):
    import numpy as np
    import soundfile

    rng = np.random.default_rng(0)
    for name in ("low", "high"):
        (tmp_path / name).mkdir()
        for number, form in enumerate(("wav", "au", "w64", "caf", "flac", "aiff", "ogg", "mp3")):
            soundfile.write(tmp_path / name / f"{number}.{form}", 0.1 * rng.standard_normal(9000), 16_000, format=form)
        for number in range(3):
            (tmp_path / name / f"{number}.m4a").write_bytes(b"\0\0\0 ftypM4A " + bytes(200))
    source, said = checked(AudioFolder(str(tmp_path)))
    assert len(source.ids) == 16
    assert source.facts["files"]["not_read"] == {".m4a": 6}
    assert "6 of 22 files in the class folders" in said[0]
    assert ".m4a (6)" in said[0]


def test_what_a_decoder_says_of_bytes_is_said_in_words(folder):
    (folder / "ant" / "odd.png").write_bytes(b"\x89PNG")
    assert "ant/odd.png (it is not what its name says, or damaged)" in message(ImageFolder(str(folder)))


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no file system in memory here")
def test_data_in_memory_are_somebodys_own():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        check_is_own(Path(folder), "data.root")
        check_is_own(Path(folder, "pictures"), "data.root")
