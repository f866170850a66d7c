"""Whatever lies where a file of ours should lie, reading it ends soon, in little memory, with a reason in words."""

import io
import json
import os
import random
import resource
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from headstart.config import recorded
from headstart.system import bounded
from headstart.system.bounded import DamagedError

READERS: dict[str, Any] = {
    "content": bounded.content,
    "json": bounded.json_value,
    "csv": bounded.csv_rows,
    "npz": bounded.arrays,
    "npy": bounded.mapped_array,
    "yaml": lambda path: bounded.yaml_value(path, yaml.safe_load),
}


@pytest.fixture(autouse=True)
def within_bounds():
    """No case takes more than a few seconds, nor much memory."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert time.process_time() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700_000  # kB


def npy(shape: str, descr: str = "'<f4'", data: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def npz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "nowhere", "through a file", "a loop"])
def test_only_regular_files_are_read_and_nothing_is_waited_for(tmp_path: Path, reader: str, kind: str):
    path = tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "through a file":
        path.touch()
        path = path / "y"
    elif kind == "a loop":
        path.symlink_to(path)
    expected = FileNotFoundError if kind in ("nowhere", "through a file") else DamagedError
    with pytest.raises(expected):
        READERS[reader](path)


@pytest.mark.parametrize(
    ("reader", "content", "why"),
    [
        ("json", b"", "empty"),
        ("json", b" \n", "empty"),
        ("json", b'{"a": 1', "not whole JSON"),
        ("json", b"\xff\xfe\x00", "not whole JSON"),
        ("json", b"[" * 100_000 + b"]" * 100_000, "not whole JSON|deep"),
        ("json", b"[" * 100 + b"]" * 100, "more than 60 deep"),
        ("json", b"[" + b"[]," * 1_100_000 + b"[]]", "lists and mappings"),
        ("json", b'{"a": 1e400}', "1e400, which is no number"),
        ("json", b'{"a": NaN}', "NaN, which is no number"),
        ("json", b'{"a": -Infinity}', "-Infinity, which is no number"),
        ("json", b'{"a": ' + b"9" * 100_000 + b"}", "999…, which is no number"),
        ("csv", b"", "empty"),
        ("csv", b"a,b\n" + b"x" * 200_000 + b",1\n", "no table"),
        ("npy", npy("(10000000000000,)"), "not those of the 10000000000000 values"),
        ("npy", npy("(-1,)"), "not those"),
        ("npy", npy("(2,)", data=b"1234567"), "not those"),
        ("npy", npy("(1,)", "'|O'", b"12345678"), "Python objects"),
        ("npy", npy("(1,)", "'|V999999999999999'", b"x"), "cannot be read|not those"),
        ("npy", npy("(1,)", "__import__('os')"), "cannot be read"),
        ("npy", b"not an array", "cannot be read"),
        ("npz", npz(a=npy("(10000000000000,)")), "not those of the 10000000000000 values"),
        ("npz", npz(a=npy("(2,)", "'|O'", b"x" * 16)), "Python objects"),
        ("npz", npz(a=b"\0" * 600_000_000), "unpacked it has more than"),
        ("npz", npz(a=npy("(2,)", data=b"12345678"))[:-40], "cannot be read"),
        ("npz", b"PK\x03\x04", "cannot be read"),
        ("yaml", b"a: [" * 100, "deep"),
        ("yaml", b"[" * 300_000, "deep|nesting depth"),
        ("yaml", b"- " * 300_000, "deep"),
        ("yaml", b"a: &a [x,x,x,x,x,x,x,x,x,x]\n" + b"".join(
            b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 10)) for i in range(9)), "aliases"),
        ("yaml", b"a: b: c", "not YAML"),
        ("yaml", b"\xff\xfe\xfd", "not UTF-8"),
        ("yaml", b"a: 2026-99-99", "not YAML"),
        ("yaml", b"? [a]\n: b", "not YAML"),
        ("yaml", b"a: !!python/object/apply:os.getcwd []", "not YAML"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_refused_with_a_reason(tmp_path: Path, reader: str, content: bytes, why: str):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DamagedError, match=why):
        READERS[reader](tmp_path / "x")


@pytest.mark.parametrize("reader", READERS)
def test_what_is_larger_than_allowed_is_not_read(tmp_path: Path, reader: str):
    with (tmp_path / "x").open("wb") as file:
        file.truncate(2**43)
    if reader == "npy":  # it is mapped, whatever its size
        return
    with pytest.raises(DamagedError, match="is the most that is read"):
        READERS[reader](tmp_path / "x")


def test_what_is_whole_is_read(tmp_path: Path):
    value = {"a": [1, -2.5e-300, None, True, "\ud800"], "b": {str(i): [i] for i in range(1000)}, "c": 2**62}
    (tmp_path / "x.json").write_text(json.dumps(value))
    assert bounded.json_value(tmp_path / "x.json") == value
    found = {"test/id": np.array(["é", "b"]), "n": np.arange(6.0).reshape(2, 3), "empty": np.zeros((0, 2))}
    np.savez_compressed(tmp_path / "x.npz", **found)  # type: ignore[arg-type]
    read = bounded.arrays(tmp_path / "x.npz")
    assert read.keys() == found.keys()
    assert all(np.array_equal(read[name], array) for name, array in found.items())
    for name, array in found.items():
        np.save(tmp_path / "x.npy", np.asfortranarray(array))
        mapped = bounded.mapped_array(tmp_path / "x.npy")
        assert np.array_equal(mapped, array), name
    (tmp_path / "x.yaml").write_text("a: &x [1, 2]\nb: *x\nc: {<<: {d: 3}, e: 4}\n")
    assert bounded.yaml_value(tmp_path / "x.yaml", yaml.safe_load) == {"a": [1, 2], "b": [1, 2], "c": {"d": 3, "e": 4}}
    (tmp_path / "x.csv").write_text('epoch,"a\nb"\n0,1\n1\n2,3,4\n')
    assert bounded.csv_rows(tmp_path / "x.csv") == [
        {"epoch": "0", "a\nb": "1"},
        {"epoch": "1"},
        {"epoch": "2", "a\nb": "3"},
    ]


@pytest.mark.parametrize("reader", ["json", "csv", "npz", "npy", "yaml"])
def test_flipped_bits_and_cut_ends_raise_nothing_else(tmp_path: Path, reader: str):
    whole = {
        "json": json.dumps({"a": [1, 2.5, {"b": "c"}], "d": None}).encode(),
        "csv": b"epoch,x\n0,1.5\n1,2.5\n",
        "yaml": recorded.dumped(OmegaConf.create({"a": {"b": [1, 2], "c": "x: y"}, "d": None})).encode(),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, id=np.array(["a", "b"]), probability=np.ones((2, 3), np.float16))
    whole["npz"], buffer = buffer.getvalue(), io.BytesIO()
    np.save(buffer, np.ones((2, 3), np.uint8))
    whole["npy"] = buffer.getvalue()
    rng, data = random.Random(0), whole[reader]
    path = tmp_path / "x"
    for case in range(400):
        content = bytearray(data)
        if case % 4 == 0:
            content = content[: rng.randrange(len(content))]
        else:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        try:
            found = READERS[reader](path)
        except DamagedError:
            continue
        if reader == "npz":  # its checksums cover all that is read, but for the names
            assert all(np.array_equal(array, np.ones((2, 3))) for name, array in found.items() if name == "probability")


def test_no_bit_of_an_archive_can_flip_so_that_an_array_is_missing(tmp_path: Path):
    path, arrays = tmp_path / "x.npz", {"one": np.arange(3), "two": np.array(["a", "b"])}
    np.savez_compressed(path, **arrays)
    content = path.read_bytes()
    for bit in range(8 * content.index(b"PK\1\2"), 8 * len(content)):  # its directory; the rest has checksums
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            found = bounded.arrays(path)
        except DamagedError:
            continue
        assert found.keys() == arrays.keys()
        assert all(np.array_equal(found[name], array) for name, array in arrays.items())
