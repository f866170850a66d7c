import hashlib

import numpy as np
import pytest
import torch

from headstart.data import array_cache
from headstart.data.batches import Batches
from headstart.data.contents import Files
from headstart.data.file_check import CheckedFiles
from headstart.data.loading import BatchDataset, Loader
from headstart.data.pictures import Pictures
from headstart.data.sizing import Sizing
from headstart.errors import InputError
from headstart.notes import listening

EIGHT = Sizing(8)


def checked(folder):
    paths = sorted(folder.rglob("*.png"))
    return CheckedFiles(Files(paths), [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])


def test_kept_on_disk_in_memory_and_on_demand_are_the_same(folder, monkeypatch):
    files = checked(folder)
    on_disk = Pictures(files, "x", EIGHT)
    monkeypatch.setattr(array_cache, "_free_disk", lambda folder: 0)
    in_memory = Pictures(files, "y", EIGHT)
    with listening() as heard:
        on_demand = Pictures(files, "y", EIGHT, cache_bytes=1)
    (said,) = heard.messages
    assert said.startswith("Decoded, the examples take 4.61e-06 GB, for which there is no room in ")
    assert "each is decoded whenever it is read. trainer.num_workers=" in said
    assert isinstance(on_disk._kept.array, np.memmap)
    assert not isinstance(in_memory._kept.array, np.memmap)
    assert on_demand._kept is None
    batches = [one.batch([5, 0, 5])["pixels"] for one in (on_disk, in_memory, on_demand)]
    assert batches[0].shape == (3, 3, 8, 8)
    assert batches[0].dtype == torch.uint8
    assert torch.equal(batches[0], batches[1])
    assert torch.equal(batches[0], batches[2])
    ready = Loader.of(BatchDataset(on_demand, np.zeros(24, int)), Batches(np.arange(24), 5, seed=3), num_workers=2)
    read = torch.cat([batch["inputs"]["pixels"][batch["index"].argsort()] for batch in ready])
    order = torch.cat([batch["index"].sort().values for batch in ready])
    assert torch.equal(read, on_disk.batch(order.numpy())["pixels"])


def test_decoded_pictures_are_found_again_and_a_damaged_file_is_made_anew(folder, own_cache, monkeypatch):
    files = checked(folder)
    first = Pictures(files, "x", EIGHT).batch([3])["pixels"]
    with monkeypatch.context() as patch:
        patch.setattr(Pictures, "_picture", lambda *_: pytest.fail("decoded again"))
        assert torch.equal(Pictures(files, "x", EIGHT).batch([3])["pixels"], first)
    (kept,) = (own_cache / "pictures").glob("*.npy")
    kept.write_bytes(b"\x93NUMPY nonsense")
    assert torch.equal(Pictures(files, "x", EIGHT).batch([3])["pixels"], first)


def test_other_sizing_is_kept_apart(folder):
    files = checked(folder)
    one, other = Pictures(files, "x", EIGHT), Pictures(files, "x", Sizing(8, crop_pct=0.5))
    assert not torch.equal(one.batch([0])["pixels"], other.batch([0])["pixels"])


def test_a_picture_that_changed_after_the_check_is_never_taken_for_the_one_checked(folder, paint):
    files = checked(folder)
    paint(folder / "bee" / "bee3.png", seed=1)
    with pytest.raises(InputError, match=r"bee3\.png has changed since it was checked"):
        Pictures(files, "x", EIGHT)
    (folder / "bee" / "bee3.png").unlink()
    with pytest.raises(InputError, match=r"bee3\.png can no longer be read"):
        Pictures(files, "x", EIGHT, cache_bytes=1)


def test_unused_arrays_are_forgotten_after_a_month(folder, own_cache):
    import os
    import time

    files = checked(folder)
    Pictures(files, "x", EIGHT)
    (kept,) = (own_cache / "pictures").glob("*.npy")
    os.utime(kept, (time.time() - 40 * 86_400,) * 2)
    Pictures(files, "other", EIGHT)
    assert not kept.exists()
