"""A checkpoint is used only as it was written, and by its own run."""

import logging
import shutil
from pathlib import Path

import pytest
import torch

from headstart.training.checkpoints import DamagedCheckpointError, read_checkpoint, resumable
from headstart.training.trainer import WholeCheckpoints


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    weights = {"weight": torch.arange(5000, dtype=torch.float32)}
    WholeCheckpoints("0123456789ab").save_checkpoint({"state_dict": weights, "epoch": 3}, path)
    return path


def test_what_was_written_is_read_by_its_own_run(checkpoint: Path):
    read = read_checkpoint(checkpoint, "0123456789ab")
    assert read["epoch"] == 3
    assert torch.equal(read["state_dict"]["weight"], torch.arange(5000, dtype=torch.float32))
    assert resumable(checkpoint, "0123456789ab") == checkpoint


def test_any_bit_of_the_weights_that_flips_is_noticed(checkpoint: Path):
    content = checkpoint.read_bytes()
    start = content.index(torch.arange(5000, dtype=torch.float32).numpy().tobytes()[:64])
    for place in range(start, start + 20_000, 1999):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        checkpoint.write_bytes(damaged)
        with pytest.raises(DamagedCheckpointError, match="cannot be used"):
            read_checkpoint(checkpoint)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_one_that_was_cut_off_is_set_aside_and_said(checkpoint: Path, caplog: pytest.LogCaptureFixture, share: float):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    with caplog.at_level(logging.WARNING):
        assert resumable(checkpoint, "0123456789ab") is None
    assert "set aside as last.ckpt.unusable, and training starts anew" in caplog.text
    assert not checkpoint.exists()
    assert checkpoint.with_name("last.ckpt.unusable").is_file()


def test_another_runs_is_not_gone_on_from(checkpoint: Path, caplog: pytest.LogCaptureFixture):
    with pytest.raises(DamagedCheckpointError, match="it is of run 0123456789ab, not of ba9876543210"):
        read_checkpoint(checkpoint, "ba9876543210")
    assert resumable(checkpoint, "ba9876543210") is None
    assert "of run 0123456789ab" in caplog.text


def test_one_of_an_older_version_names_no_run_and_is_taken(tmp_path: Path):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "epoch": 0}, path)
    assert resumable(path, "0123456789ab") == path


def test_files_that_are_none_are_refused(tmp_path: Path):
    for name, content in (("empty", b""), ("text", b"no checkpoint"), ("pickle", b"\x80\x02N.")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DamagedCheckpointError):
            read_checkpoint(tmp_path / name)
    shutil.make_archive(str(tmp_path / "other"), "zip", tmp_path, "text")
    with pytest.raises(DamagedCheckpointError):
        read_checkpoint(tmp_path / "other.zip")
