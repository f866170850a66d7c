"""The hub: from a cache laid out as the hub's client does, and where nobody answers."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from headstart.backbones import hub
from headstart.backbones.timm import Timm
from headstart.compat import declare_torchvision_operators
from headstart.errors import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put_in_cache(cache, repository, filename, state):
    folder = cache / f"models--{repository.replace('/', '--')}"
    for part in ("refs", "blobs", f"snapshots/{COMMIT}"):
        (folder / part).mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    save_file(state, folder / "blobs" / "blob")
    (folder / "snapshots" / COMMIT / filename).symlink_to("../../blobs/blob")


@pytest.fixture
def cached(tmp_path):
    """A whole resnet18 with classifier, random but known, in a hub cache of its own."""
    declare_torchvision_operators()
    import timm

    torch.manual_seed(3)
    state = timm.create_model("resnet18").state_dict()
    put_in_cache(tmp_path / "hub", "timm/resnet18.a1_in1k", "model.safetensors", state)
    return tmp_path, state


def test_a_cached_model_is_loaded_without_network(cached):
    home, state = cached
    code = """
        import json
        from headstart.backbones.timm import Timm
        factory = Timm("resnet18", weights="hub", size=32)
        factory.check(pretrained=True)
        backbone = factory.build(pretrained=True)
        print(json.dumps([factory.identity(True), backbone.weights.source, backbone.weights.ignored,
                          backbone.weights.sha256, backbone.model.layer4[1].conv2.weight.flatten()[:5].tolist()]))
    """
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    identity, source, ignored, sha256, values = json.loads(done.stdout)
    assert identity["weights"] == source == f"hub:timm/resnet18.a1_in1k@{COMMIT}"
    assert sorted(ignored) == ["fc.bias", "fc.weight"]
    assert len(sha256) == 64
    assert values == state["layer4.1.conv2.weight"].flatten()[:5].tolist()


def test_a_cached_model_keeps_its_commit_and_asks_nobody(cached, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cached[0] / "hub"))
    monkeypatch.setattr(hub, "_on_hub", lambda *_: pytest.fail("the network was asked"))
    found = hub.find("timm/resnet18.a1_in1k", ["model.safetensors", "pytorch_model.bin"])
    assert found.commit == COMMIT
    assert found.fetch().is_file()
    pinned = hub.find(f"timm/resnet18.a1_in1k@{COMMIT}", ["model.safetensors"])
    assert (pinned.repository, pinned.commit) == ("timm/resnet18.a1_in1k", COMMIT)


def test_the_record_names_the_file_if_it_is_here_and_fetches_nothing(cached, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cached[0] / "hub"))
    monkeypatch.setattr(hub.HubFile, "fetch", lambda self: pytest.fail("a file was fetched"))
    record = Timm("resnet18", weights="hub", size=32).record(True)
    blob = cached[0] / "hub" / "models--timm--resnet18.a1_in1k" / "blobs" / "blob"
    assert record.sha256 == hashlib.sha256(blob.read_bytes()).hexdigest()
    assert record.source == f"hub:timm/resnet18.a1_in1k@{COMMIT}"
    assert Timm("resnet18", weights="none").record(True).source == "none"
    elsewhere = hub.HubFile("timm/resnet18.a1_in1k", "model.safetensors", "f" * 40)
    assert elsewhere.local is None


@pytest.fixture
def nothing_cached(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_offline_mode_says_how_to_go_on(nothing_cached, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"HF_HUB_OFFLINE is set.*local file.*package:<name>"):
        Timm("resnet18").check(pretrained=True)


def test_a_hub_that_never_answers_is_an_error_within_seconds(nothing_cached, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(hub, "PATIENCE_SECONDS", 1.0)
        with pytest.raises(InputError, match=r"did not give it.*backbone\.weights=none"):
            hub.find("timm/resnet18.a1_in1k", ["model.safetensors"])


def test_a_call_that_hangs_is_given_up():
    with pytest.raises(TimeoutError):
        hub.within(0.1, lambda: time.sleep(2))
    assert hub.within(1, lambda: 7) == 7
    with pytest.raises(KeyError):
        hub.within(1, lambda: {}["a"])


def test_limits_leave_room_within_fifteen_seconds():
    assert hub.ANSWER_SECONDS <= 3
    assert hub.PATIENCE_SECONDS <= 10
