"""What a weights file holds is read whatever it lies in; nothing in it runs; what is no weights is told at once."""

import argparse
import gzip
import io
import pickle
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from headstart.backbones.checkpoint_file import read
from headstart.errors import InputError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Settings(dict):
    """Lightning keeps a module's arguments in such a class of its own."""


class Sly:
    def __reduce__(self):
        return exec, ("raise SystemExit('code from a weights file ran')",)


def test_tensors_have_the_names_of_all_that_they_lie_in(tmp_path):
    torch.save(
        {"epoch": 3, "model": OrderedDict(STATE), "optimizer": {"state": {0: {"m": torch.zeros(2)}}}}, tmp_path / "w"
    )
    found = read(tmp_path / "w").tensors
    assert same(
        found, {**{f"model.{name}": tensor for name, tensor in STATE.items()}, "optimizer.state.0.m": torch.zeros(2)}
    )


@pytest.mark.parametrize("name", ["w.safetensors", "w", "w.bin"])
def test_safetensors_are_known_by_what_they_begin_with(tmp_path, name):
    save_file(STATE, tmp_path / name)
    assert same(read(tmp_path / name).tensors, STATE)


@pytest.mark.parametrize("old", [False, True])
def test_objects_that_are_no_tensors_are_passed_over_and_named(tmp_path, old):
    content = {
        "state_dict": STATE,
        "args": argparse.Namespace(lr=0.1, nested=argparse.Namespace(b=1)),
        "hyper_parameters": Settings(width=3),
        "best": np.float64(0.5),
        "parameters": [nn.Parameter(torch.zeros(1))],
        "shape": torch.Size([3]),
        "code": Sly(),
    }
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    found = read(tmp_path / "w.pth")
    assert same(found.tensors, {f"state_dict.{name}": tensor for name, tensor in STATE.items()})
    assert {"argparse.Namespace", f"{__name__}.Settings", "builtins.exec"} <= set(found.passed_over)
    assert not any(name.startswith("torch.") for name in found.passed_over)


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def saved(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pth"), io.BytesIO())
    return buffer.getvalue()


def scripted() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"it is empty \(0 bytes\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "it is a web page"),
        (gzip.compress(b"weights", mtime=0), "compressed by gzip: unpack it"),
        (tarred(), r"an archive \(tar\): unpack it"),
        (zipped(model__config="{}", weights="no"), "torch.save did not write, with model/config, weights"),
        (scripted(), "it is a TorchScript program"),
        (b"not weights at all", "cannot be read"),
        (saved(STATE)[:200], "cannot be read"),
        (pickle.dumps(Sly()), "cannot be read"),
        (saved({"epoch": 3}), r"holds no state dict \(tensors by their names\)\."),
        (saved({}), "holds no state dict"),
        (saved([torch.zeros(2)]), "holds no state dict"),
        (saved({"a": np.zeros(3), "b": 4}), "holds no state dict .*but objects of numpy"),
        (saved(nn.Linear(2, 2)), "but objects of torch.nn.modules.linear.Linear.*save model.state_dict"),
        (saved({"state_dict": {"a": Sly()}}), "but objects of builtins.exec"),
    ],
)
def test_what_holds_no_weights_is_one_clear_message(tmp_path, content, words):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path / "w.pth")
    assert len(caught.value.messages) == 1
    assert "w.pth" in str(caught.value)


def test_a_damaged_safetensors_file_is_named(tmp_path):
    save_file(STATE, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:60])
    with pytest.raises(InputError, match=r"w\.safetensors cannot be read"):
        read(tmp_path / "w.safetensors")
