"""Pictures in tar archives are read where they lie, and what is not read is counted and said."""

import gzip
import hashlib
import io
import json
import os
import tarfile
import time

import numpy as np
import pytest

from headstart.cli.main import main
from headstart.data import contents, file_check, shard_files
from headstart.data.image_shards import ImageShards
from headstart.data.images import ImageFolder
from headstart.data.tar import read_archive
from headstart.errors import InputError
from headstart.notes import listening
from shards import CLASSES, labelled, picture, write_shards, write_tar


def checked(source):
    """The source after its check, and what was said."""
    with listening() as heard:
        source.check()
    return source, heard.messages


def message(*values, **named) -> str:
    with pytest.raises(InputError) as error:
        ImageShards(*values, **named).check()
    return str(error.value)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_lie_where_tarfile_finds_them(tmp_path, form):
    long = "a folder with blanks/" + "x" * 90 + "/" + "y" * 60 if form != tarfile.USTAR_FORMAT else "f/" * 60 + "z"
    rng = np.random.default_rng(0)
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=form) as archive:
        for number, name in enumerate([f"{long}.png", "b.png", "é ü.cls", "./c.json", "empty.txt"]):
            info = tarfile.TarInfo(name)
            info.size = 0 if name == "empty.txt" else int(rng.integers(1, 3000))
            archive.addfile(info, io.BytesIO(rng.bytes(info.size)))
            folder = tarfile.TarInfo(f"folder{number}")
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "b.png"
        archive.addfile(link)
    found = read_archive(str(path))
    with tarfile.open(path) as archive:
        assert [tuple(one) for one in found.members] == [
            (one.name, one.offset_data, one.size) for one in archive if one.isfile()
        ]
    assert (found.links, found.is_ended) == (1, True)


def test_shards_give_the_same_pictures_labels_and_order_as_the_files_they_were_made_of(tmp_path):
    write_shards(tmp_path / "my shards")
    source, said = checked(ImageShards(str(tmp_path / "my shards"), size=8))
    assert said == []
    assert source.name == "my shards"
    assert source.classes == CLASSES
    assert source.labels.tolist() == [place % 3 for place in range(24)]
    assert source.ids[:2] == ("a-000.tar/0000", "a-000.tar/0001")
    assert source.ids[-1] == "a-001.tar/0023"
    assert source.parts is None
    assert source.contents[5] == hashlib.sha256(picture(5)).hexdigest()
    for name in CLASSES:
        (tmp_path / "files" / name).mkdir(parents=True)
    for key in range(24):
        (tmp_path / "files" / CLASSES[key % 3] / f"{key:04}.png").write_bytes(picture(key))
    files, _ = checked(ImageFolder(str(tmp_path / "files"), size=8))
    order = np.argsort([name.rpartition("/")[2] for name in files.ids])
    pixels = source.examples(size=8).batch(np.arange(24))["pixels"]
    assert (pixels == files.examples(size=8).batch(order)["pixels"]).all()
    assert source.extents([3]) == [(12, 10)]


def test_the_same_shards_elsewhere_are_the_same_data_whatever_names_them(tmp_path):
    one, two = write_shards(tmp_path / "one"), write_shards(tmp_path / "two")
    wanted = checked(ImageShards(str(one)))[0].fingerprint
    for path in (
        str(two),
        str(two / "a-{000..001}.tar"),
        str(two / "a-*.tar"),
        [f"{two}/a-001.tar", f"{two}/a-000.tar"],
    ):
        assert checked(ImageShards(path))[0].fingerprint == wanted
    source, said = checked(ImageShards([str(two), str(two / "a-000.tar")]))
    assert said == ["data.path names 1 shard more than once: each is read once."]
    assert source.fingerprint == wanted
    write_tar(two / "a-001.tar", {"0.png": picture(99), "0.cls": b"ant"})
    assert checked(ImageShards(str(two)))[0].fingerprint != wanted


@pytest.mark.parametrize(
    "names", [("train-0.tar", "val-0.tar", "test-0.tar"), ("train/0.tar", "x-dev/1.tar", "test/0.tar")]
)
def test_names_of_shards_say_the_parts(tmp_path, names):
    source, _ = checked(ImageShards(str(write_shards(tmp_path, names))))
    parts = dict(zip(source.ids, source.parts.tolist(), strict=True))
    assert {parts[f"{names[0]}/0000"], parts[f"{names[1]}/0012"], parts[f"{names[2]}/0024"]} == {"train", "val", "test"}


def test_shards_of_no_part_beside_others_are_refused(tmp_path):
    write_shards(tmp_path, ("train-0.tar", "more-0.tar"))
    assert "1 do and 1 do not: more-0.tar" in message(str(tmp_path))


def test_an_index_is_read_once_and_again_when_its_shard_has_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "_SETTLED_SECONDS", 0)
    read, checks = [], []
    real, verify = shard_files.read_archive, file_check._read
    monkeypatch.setattr(shard_files, "read_archive", lambda path: read.append(os.path.basename(path)) or real(path))
    monkeypatch.setattr(file_check, "_read", lambda own, n, how: checks.append(n) or verify(own, n, how))
    write_shards(tmp_path)
    first = checked(ImageShards(str(tmp_path)))[0]
    assert (sorted(read), len(checks)) == (["a-000.tar", "a-001.tar"], 24)
    again = checked(ImageShards(str(tmp_path)))[0]
    assert (len(read), len(checks), again.fingerprint) == (2, 24, first.fingerprint)
    time.sleep(0.02)
    write_tar(tmp_path / "a-001.tar", {"0012.png": picture(99), "0012.cls": b"ant"})
    assert len(checked(ImageShards(str(tmp_path)))[0].ids) == 13
    assert (read[2:], len(checks)) == (["a-001.tar"], 25)
    with pytest.raises(InputError, match=r"0013.png in .*a-001.tar has changed since it was checked"):
        first.files(13)


@pytest.mark.parametrize("kept", ["{", "[]", ""])
def test_a_damaged_index_is_made_anew(tmp_path, own_cache, monkeypatch, kept):
    monkeypatch.setattr(contents, "_SETTLED_SECONDS", 0)
    write_shards(tmp_path)
    wanted = checked(ImageShards(str(tmp_path)))[0].fingerprint
    for path in (own_cache / "shards").iterdir():
        path.write_text(kept)
    source, said = checked(ImageShards(str(tmp_path)))
    assert source.fingerprint == wanted
    assert sum("is damaged" in one for one in said) == 2


def test_keys_without_a_label_or_picture_and_what_is_no_picture_are_counted_and_said(tmp_path):
    members = {f"{key}.png": picture(key) for key in range(6)} | {
        f"{key}.cls": b"ab"[key % 2 :][:1] for key in range(5)
    }
    members |= {"9.cls": b"a", "8.heic": b"x", "7.seg.png": picture(7), "._1.png": b"mac", "note.npy": b"1"}
    write_tar(tmp_path / "a.tar", members)
    source, said = checked(ImageShards(str(tmp_path)))
    assert len(source.ids) == 5
    assert said == [
        f"1 of 6 rows of {tmp_path} has no value in column 'cls' (1 empty) and is left out: key a.tar/5.",
        f"2 of 8 members of the shards in {tmp_path} that may be pictures are not read: .heic (1), .seg.png (1), such "
        "as 8.heic. Read are .png (6), one to a key, which goes up to the first dot of a name.",
        f"4 keys in the shards in {tmp_path} have no picture that is read.",
    ]
    assert source.facts["files"] == {
        "read": {".png": 6}, "not_read": {".heic": 1, ".seg.png": 1}, "other": {".cls": 6, ".npy": 1},
        "no_label": {"keys": 1},
    }  # fmt: skip


def test_several_pictures_of_a_key_need_a_choice(tmp_path):
    members = {}
    for key in range(4):
        members |= {
            f"{key}.left.png": picture(key),
            f"{key}.right.PNG": picture(key + 9),
            f"{key}.cls": b"ab"[key % 2 :][:1],
        }
    write_tar(tmp_path / "a.tar", members)
    assert "hold no pictures that are read, but .left.png (4), .right.png (4)" in message(str(tmp_path))
    source, _ = checked(ImageShards(str(tmp_path), image_member="right.png"))
    assert source.contents[2] == hashlib.sha256(picture(11)).hexdigest()
    write_tar(tmp_path / "a.tar", {"0.png": picture(0), "0.jpg": picture(1, form="JPEG"), "0.cls": b"a"})
    assert "has 1 key with several pictures, such as 0 (cls, jpg, png)" in message(str(tmp_path))


def test_labels_of_json_give_columns_for_groups_and_lists_for_several(tmp_path):
    members = {}
    for key in range(12):
        members |= {f"{key}.png": picture(key), f"{key}.json": labelled(CLASSES[key % 3])}
    write_tar(tmp_path / "a.tar", members)
    source = ImageShards(str(tmp_path))
    source.asked = {"split.group_column": "scene"}
    checked(source)
    assert source.classes == CLASSES
    assert source.columns["scene"][:3] == ("sant", "sbee", "scow")
    assert "Choices: label, scene" in message(str(tmp_path), label_column="lable")
    write_tar(tmp_path / "a.tar", {**members, "5.json": b"{"})
    assert '1 label cannot be read as JSON, such as {"label": "cat"}: 5.json in a.tar' in message(str(tmp_path))


def test_labels_of_a_table_beside_the_shards(tmp_path):
    root = write_shards(tmp_path / "shards")
    rows = [f"{key:04}{'.png' if key % 2 else ''},{'xy'[key % 2]},p{key // 4}" for key in range(23)]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["key,label,patient", *rows, "7777,x,p9"]))
    source = ImageShards(str(root), labels=str(table))
    source.asked = {"split.group_column": "patient"}
    _, said = checked(source)
    assert said == [
        f"1 of 24 rows of {root} has no value in column 'label' (1 empty) and is left out: key a-001.tar/0023.",
        f"1 row of {table} names a key that no picture in {root} has: 7777.",
    ]
    assert source.labels.tolist() == [key % 2 for key in range(23)]
    assert source.columns["patient"][8] == "p2"
    table.write_text("key,label\n0000,x\n0000,y\n")
    assert "must have one row for each key, but has several for 0000" in message(str(root), labels=str(table))
    assert "name two: leave one out" in message(str(root), labels=str(table), label_member="cls")
    write_tar(root / "a-002.tar", {"0000.png": picture(77)})
    table.write_text("key,label\n0000,x\n0001,y\n")
    assert "labels keys that several shards" in message(str(root), labels=str(table))


def test_shifts_are_shards_folders_or_tables_with_the_same_classes(tmp_path):
    root, other = write_shards(tmp_path / "one"), write_shards(tmp_path / "two", ("b.tar",))
    source, _ = checked(ImageShards(str(root), shifts={"other": str(other / "b.tar")}))
    assert source.shifts["other"].ids[0] == "b.tar/0000"
    assert source.shifts["other"].classes == CLASSES
    assert "data.shifts.none must name shards" in message(str(root), shifts={"none": str(tmp_path / "no.tar")})


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def test_shards_that_cannot_be_read_are_refused_with_the_reason(tmp_path):
    write_shards(tmp_path, ("a.tar", "b.tar", "c.tar", "d.tar", "e.tar"))
    cut(tmp_path / "a.tar", 700)
    cut(tmp_path / "b.tar", 2 * 512 + 300)
    (tmp_path / "c.tar").write_bytes(gzip.compress((tmp_path / "c.tar").read_bytes()))
    (tmp_path / "d.tar").write_bytes(b"no archive" * 99)
    (tmp_path / "e.tar").write_bytes(b"")
    found = message(str(tmp_path))
    assert found.startswith(
        f"5 of 5 shards in {tmp_path} cannot be read: a.tar (it ends within 0000.png: it is cut off)"
    )
    for reason in ("it is packed by gzip", "d.tar (it is no tar archive)", "e.tar (it is empty)"):
        assert reason in found


def test_a_shard_cut_off_between_members_is_read_and_said(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"0.png": picture(0), "0.cls": b"a", "1.png": picture(1), "1.cls": b"b"})
    end = max(one.offset for one in read_archive(str(path)).members) + 512
    cut(path, end)
    source, said = checked(ImageShards(str(path)))
    assert len(source.ids) == 2
    assert said == [
        f"1 shard in {tmp_path} lacks the mark that archives end with: a.tar. All that is there is read, but if it was "
        "cut off between two members, some are missing."
    ]


def test_what_names_no_shards_and_packed_or_doubled_ones_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "has no .tar archives, but no files" in message(str(tmp_path / "empty"))
    write_shards(tmp_path)
    missing = message(str(tmp_path / "a-{000..004}.tar"))
    assert f"there is no {tmp_path}/a-002.tar, {tmp_path}/a-003.tar, {tmp_path}/a-004.tar" in missing
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(b"x"))
    assert "names 1 packed one" in message(str(tmp_path))
    assert "gunzip" in message(str(tmp_path))
    (tmp_path / "b.tar.gz").unlink()
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        for number in range(2):
            info = tarfile.TarInfo("0.png")
            info.size = len(picture(number))
            archive.addfile(info, io.BytesIO(picture(number)))
    assert "0.png in b.tar stands there more than once" in message(str(tmp_path))
    write_tar(tmp_path / "b.tar", {"0.png": b"", "0.cls": b"ant"})
    assert "b.tar/0 (empty file)" in message(str(tmp_path))
    write_tar(tmp_path / "b.tar", {"0.png": picture(0)})
    assert "has no label beside any picture: no .cls, .json or .txt" in message(str(tmp_path / "b.tar"))


def test_a_run_on_shards_answers_for_shards_as_for_files(at_home, capsys):
    write_shards(at_home / "my shards")
    words = ["backbone=timm", "backbone.model=test_efficientnet", "backbone.weights=none", "data=image_shards"]
    words += ['data.path="my shards/a-{000..001}.tar"', "data.size=32", "trainer.max_epochs=1", "trainer.threads=1"]
    assert main(["train", *words, "strategy=fine_tune", "logger=none", "hydra.run.dir=run"]) == 0
    record = json.loads((at_home / "run" / "result.json").read_text())
    assert record["data"]["name"] == "my shards"
    assert record["data"]["files"] == {"read": {".png": 24}, "not_read": {}, "other": {".cls": 24}}
    (at_home / "files").mkdir()
    for key in range(12):
        (at_home / "files" / f"{key:04}.png").write_bytes(picture(key))
    rows = []
    for place in ("my shards/a-000.tar", "files"):
        assert main(["predict", "run", place, "--out", "answers.csv", "--force"]) == 0
        rows.append([line.split(",", 1) for line in (at_home / "answers.csv").read_text().splitlines()[1:]])
    assert [row[1] for row in rows[0]] == [row[1] for row in rows[1]]
    assert rows[0][3][0] == "my shards/a-000.tar/0003.png"
    assert main(["predict", "run", "my shards"]) == 2
    assert "name them: my shards/*.tar" in capsys.readouterr().err
