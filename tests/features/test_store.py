"""The feature store: never a stale or half-written entry, whatever is killed, full, damaged or done twice."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from copy import deepcopy

import numpy as np
import pytest
import torch

from headstart.errors import InputError
from headstart.features import store as store_module
from headstart.features.store import FeatureStore, digest_of
from headstart.system import checksums

KEY = {
    "weights": "ab" * 32,
    "boundary": "blocks.3",
    "data": "cd" * 32,
    "reading": {"size": 64, "interpolation": "bicubic", "mean": [0.4, 0.5, 0.6]},
    "precision": "32-true",
    "versions": {"torch": "2.13.0", "timm": "1.0.31"},
    "view": 0,
    "seed": None,
}


def arrays(num_examples=10, width=7, offset=0.0):
    return {
        "features": torch.arange(num_examples * width, dtype=torch.float32).view(num_examples, width) + offset,
        "mask": torch.arange(num_examples) % 2 == 0,
    }


def batches(tensors, size=4):
    num_examples = len(next(iter(tensors.values())))
    for start in range(0, num_examples, size):
        rows = np.arange(start, min(start + size, num_examples))
        yield rows, {name: tensor[start : start + size] for name, tensor in tensors.items()}


def never():
    raise AssertionError("what is stored must not be computed again")
    yield


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "features", 10**7)


def leftovers(store):
    return sorted(path.name for path in store.root.iterdir() if path.name.startswith("."))


def test_rows_may_come_in_any_order(store):
    rows = np.random.default_rng(0).permutation(10)
    whole = arrays()
    parts = [(part, {name: tensor[part] for name, tensor in whole.items()}) for part in np.split(rows, [3, 4])]
    found = store.fill(KEY, iter(parts), 10)
    assert all(torch.equal(found[name], whole[name]) for name in whole)


def test_what_was_written_is_read_back_by_this_and_by_another_process(store):
    assert store.get(KEY) is None
    written = store.fill(KEY, batches(arrays()), 10)
    for found in (written, store.get(KEY), FeatureStore(store.root, 0).get(deepcopy(KEY))):
        assert all(torch.equal(found[name], tensor) for name, tensor in arrays().items())
        assert found["features"].dtype == torch.float32
    assert torch.equal(store.fill(KEY, never(), 10)["mask"], arrays()["mask"])
    assert leftovers(store) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.uint8, torch.int64])
def test_every_type_keeps_its_bits(store, dtype):
    tensor = (torch.randn(9, 3, 2) * 50).to(dtype)
    found = store.fill(KEY, batches({"x": tensor}), 9)["x"]
    assert found.dtype == dtype
    assert torch.equal(found, tensor)


def test_features_on_a_strided_view_are_written_in_order(store):
    tensor = torch.randn(6, 5).T
    assert torch.equal(store.fill(KEY, batches({"x": tensor}), 5)["x"], tensor)


def test_writing_to_what_was_read_does_not_change_the_entry(store):
    store.fill(KEY, batches(arrays()), 10)["features"].zero_()
    assert torch.equal(FeatureStore(store.root, 10**7).get(KEY)["features"], arrays()["features"])


def changed(value):
    if isinstance(value, str):
        return value + "x"
    return 1 if value is None else value + 1


def variants(key):
    """The key with every leaf changed, and with every entry removed, one at a time."""
    for name, value in key.items() if isinstance(key, dict) else enumerate(key):
        for part in variants(value) if isinstance(value, dict | list) else [changed(value)]:
            variant = deepcopy(key)
            variant[name] = part
            yield variant
        less = deepcopy(key)
        del less[name]
        yield less
    yield {**key, "more": 1} if isinstance(key, dict) else [*key, 1]


def test_a_change_in_any_part_of_the_key_never_finds_the_old_entry(store):
    store.fill(KEY, batches(arrays()), 10)
    others = list(variants(KEY))
    assert len(others) > 25
    assert all(store.get(other) is None for other in others)
    assert len({digest_of(other) for other in others} | {digest_of(KEY)}) == len(others) + 1
    assert store.get(dict(reversed(KEY.items()))) is not None, "the order of names says nothing"


@pytest.mark.parametrize("bad", [{"a": float("nan")}, {"a": (1, 2)}, {1: "a"}, {"a": {2}}])
def test_a_key_that_json_would_bend_is_refused(bad):
    with pytest.raises((AssertionError, ValueError, TypeError)):
        digest_of(bad)


def test_an_entry_that_lies_under_another_key_is_not_believed(store):
    store.fill(KEY, batches(arrays()), 10)
    other = {**KEY, "view": 1}
    (store.root / digest_of(KEY)).rename(store.root / digest_of(other))
    assert store.get(other) is None


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def truncate(path):
    os.truncate(path, path.stat().st_size - 3)


DAMAGES = {
    "a byte of the data": lambda folder: flip(folder / "0.npy", -5),
    "a byte of the header": lambda folder: flip(folder / "0.npy", 20),
    "the magic number": lambda folder: flip(folder / "0.npy", 0),
    "a short file": lambda folder: truncate(folder / "0.npy"),
    "an empty file": lambda folder: (folder / "1.npy").write_bytes(b""),
    "a missing file": lambda folder: (folder / "1.npy").unlink(),
    "a missing description": lambda folder: (folder / "meta.json").unlink(),
    "half a description": lambda folder: truncate(folder / "meta.json"),
    "a bit of the description": lambda folder: flip(folder / "meta.json", 40),
    "a description of something else": lambda folder: (folder / "meta.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_entry_is_found_out_removed_and_computed_again(store, damage):
    store.fill(KEY, batches(arrays()), 10)
    damage(store.root / digest_of(KEY))
    for reader in (store, FeatureStore(store.root, 10**7)):
        assert reader.get(KEY) is None
        assert not (store.root / digest_of(KEY)).exists()
    again = store.fill(KEY, batches(arrays(offset=1)), 10)
    assert torch.equal(again["features"], arrays(offset=1)["features"])


def test_checksums_are_verified_once_per_process(store, monkeypatch):
    store.fill(KEY, batches(arrays()), 10)
    monkeypatch.setattr(checksums.zlib, "crc32", lambda *_: pytest.fail("read again"))
    assert store.get(KEY) is not None
    assert FeatureStore(store.root, 10**7).get(KEY) is not None, "another run of this process"


def test_the_least_recently_used_entries_give_way_to_new_ones(tmp_path):
    one = sum(tensor.nbytes for tensor in arrays().values())
    store = FeatureStore(tmp_path, 4 * one + 3000)
    keys = [{**KEY, "view": view} for view in range(6)]
    for number, key in enumerate(keys[:3]):
        store.fill(key, batches(arrays()), 10)
        os.utime(tmp_path / digest_of(key) / "meta.json", (number, number))
    assert [entry.key["view"] for entry in store.entries()] == [0, 1, 2]
    store.get(keys[0])
    size = store.entries()[0].num_bytes
    store.budget_bytes = 3 * size
    store.fill(keys[3], batches(arrays()), 10)
    assert {entry.key["view"] for entry in store.entries()} == {2, 0, 3}
    removed = store.prune(budget_bytes=size)
    assert [entry.key["view"] for entry in removed] == [2, 0]
    assert [entry.num_bytes for entry in store.entries()] == [size]


def test_eviction_leaves_what_another_reader_has_open_readable(store):
    found = store.fill(KEY, batches(arrays()), 10)
    store.prune(0)
    assert store.get(KEY) is None
    assert torch.equal(found["features"], arrays()["features"])


def test_what_may_not_be_removed_is_not_counted_as_removed(store, monkeypatch):
    store.fill(KEY, batches(arrays()), 10)

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store_module.Path, "rename", refused)
    assert store.prune(0) == []
    monkeypatch.undo()
    assert [entry.key for entry in store.entries()] == [KEY]


def test_an_entry_that_is_evicted_as_soon_as_it_is_written_can_be_read(store, monkeypatch):
    put = store_module._put_in_place

    def evicted(draft, folder):
        put(draft, folder)
        FeatureStore(store.root, 0).prune()

    monkeypatch.setattr(store_module, "_put_in_place", evicted)
    whole = arrays()
    found = store.fill(KEY, batches(whole), 10)
    assert not store.entries()
    assert all(torch.equal(found[name], whole[name]) for name in whole)


def test_no_bit_of_an_entrys_description_can_flip_unnoticed(store, monkeypatch):
    monkeypatch.setattr(store_module, "_remove", lambda folder: None)
    store.fill(KEY, batches(arrays()), 10)
    meta = store.root / digest_of(KEY) / "meta.json"
    content = meta.read_bytes()
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        meta.write_bytes(damaged)
        found = store.get(KEY)
        if found is not None:  # blanks and the like
            assert json.loads(bytes(damaged)) == json.loads(content)
    meta.write_bytes(content)
    assert store.get(KEY) is not None


def test_what_cannot_fit_the_budget_is_refused_and_evicts_nothing(tmp_path):
    store = FeatureStore(tmp_path, 5000)
    store.fill(KEY, batches(arrays()), 10)
    with pytest.raises(InputError, match=r"budget.*5,000"):
        store.fill({**KEY, "view": 1}, batches(arrays(1000)), 1000)
    assert store.get(KEY) is not None
    assert leftovers(store) == []


def test_a_model_that_fails_midway_leaves_nothing(store):
    def failing():
        yield from list(batches(arrays()))[:2]
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        store.fill(KEY, failing(), 10)
    with pytest.raises(AssertionError):
        store.fill(KEY, list(batches(arrays()))[:2], 10)
    assert list(store.root.iterdir()) == []


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_full_disk_is_said_plainly_and_leaves_nothing(store, monkeypatch, failing):
    def full(*args):
        raise OSError(28, "No space left on device")

    if failing == "write":
        monkeypatch.setattr(store_module.ArrayWriter, "write", full)
    else:
        monkeypatch.setattr(store_module.os, "fsync", full)
    with pytest.raises(InputError, match=r"No space left.*HEADSTART_CACHE"):
        store.fill(KEY, batches(arrays()), 10)
    assert list(store.root.iterdir()) == []


PROGRAM = """
import sys, time, torch
from pathlib import Path
from headstart.system import lock, process
from headstart.features.store import FeatureStore
if {machine!r}:  # its locks are its own, as those of some shared file systems are
    class fcntl:
        LOCK_EX = LOCK_NB = LOCK_UN = LOCK_SH = 0
        flock = lambda descriptor, how: None
    process.host = lock.host = lambda: {machine!r}
    lock.fcntl = fcntl
sys.path.insert(0, {here!r})
from test_store import KEY, arrays, batches
def slow():
    for batch in batches(arrays()):
        print("batch", flush=True)
        time.sleep({pause})
        yield batch
found = FeatureStore(Path({root!r}), 10**7).fill(KEY, slow(), 10)
assert torch.equal(found["features"], arrays()["features"])
print("done", flush=True)
"""


def start(store, pause, machine=""):
    program = PROGRAM.format(here=os.path.dirname(__file__), root=str(store.root), pause=pause, machine=machine)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("machines", [("", ""), ("first", "second")], ids=["on one machine", "on two"])
def test_two_processes_that_fill_the_same_entry_share_the_work(store, machines):
    processes = [start(store, 0.3, machine) for machine in machines]
    outputs = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(output.count("batch") for output in outputs) == 3
    assert all(output[-1] == "done" for output in outputs)
    assert len(store.entries()) == 1
    assert leftovers(store) == []


def test_threads_share_the_work_where_the_file_system_cannot_lock(store, monkeypatch):
    monkeypatch.setattr("headstart.system.lock.fcntl", None)
    computed, found = [], []

    def slowly():
        for batch in batches(arrays()):
            time.sleep(0.1)
            computed.append(batch)
            yield batch

    threads = [threading.Thread(target=lambda: found.append(store.fill(KEY, slowly(), 10))) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(computed) == 3
    assert all(torch.equal(one["features"], arrays()["features"]) for one in found)
    assert leftovers(store) == []


def test_a_killed_writer_leaves_no_entry_and_its_lock_and_draft_are_taken_over(store):
    process = start(store, 30)
    assert process.stdout.readline() == "batch\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert store.entries() == []
    assert store.get(KEY) is None
    began = time.monotonic()
    store.fill(KEY, batches(arrays()), 10)
    assert time.monotonic() - began < 5
    assert leftovers(store) == []


def test_killed_at_any_moment_the_entry_is_whole_or_absent(store):
    rng = np.random.default_rng(0)
    for _ in range(3):
        process = start(store, 0.02)
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.wait()
        found = FeatureStore(store.root, 10**7).get(KEY)
        assert found is None or torch.equal(found["features"], arrays()["features"])
        store.prune(0)
    store.fill(KEY, batches(arrays()), 10)
    assert leftovers(store) == []


def test_a_claim_that_a_killed_process_left_beside_a_whole_entry_is_removed(store):
    from headstart.system.lock import lease_of
    from headstart.system.process import host

    store.fill(KEY, batches(arrays()), 10)
    claim = store.root / f".claim-{digest_of(KEY)}"
    claim.touch()
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    lease_of(claim).write_text(json.dumps({"host": host(), "pid": gone.pid, "started": 1, "token": "t"}))
    assert store.get(KEY) is not None
    assert [path.name for path in store.root.iterdir()] == [digest_of(KEY)]


def test_the_description_says_what_the_entry_was_made_from(store):
    store.fill(KEY, batches(arrays()), 10)
    meta = json.loads((store.root / digest_of(KEY) / "meta.json").read_text())
    assert meta["key"] == KEY
    assert meta["arrays"]["features"]["shape"] == [10, 7]
