"""A checkpoint is used only as it was written, and by its own run."""

import logging
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from epoch_callbacks import Cut, same
from headstart.training.checkpoints import DamagedCheckpointError, put_back, read_checkpoint, resumable
from headstart.training.epochs import load_weights
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


@pytest.mark.parametrize(
    ("family", "strategy", "words", "of_backbone"),
    [
        ("vit", "lora", (), "lora_"),
        ("cnn", "partial", ("strategy.last_k=1",), "tail"),
        ("cnn", "bias_only", (), "bias"),
        ("cnn", "norm_only", (), "bn"),
        ("cnn", "gradual_unfreeze", (), None),
        ("cnn", "lp_ft", ("unfreeze.epochs=2",), None),
        ("cnn", "fine_tune", (), None),
    ],
)
def test_what_the_plan_never_trains_is_left_out_and_comes_back(rig, family, strategy, words, of_backbone):
    """Resumed at any epoch, and at its best weights, a run has the tensors that checkpoints left out, bit for bit."""
    whole = rig(family, strategy, *words, folder="whole").fit()
    before = rig(family, strategy, *words, callbacks=[Cut(2)], folder="cut")
    begun = before.state()
    with pytest.raises(InterruptedError):
        before.fit()
    kept = read_checkpoint(before.folder / "last.ckpt")
    left_out = set(kept.get("left_out", {"names": []})["names"])
    assert kept["state_dict"].keys() == begun.keys() - left_out
    plan, rows = before.thaw.plan, before.module.rows
    trains = {id(p) for row, named in rows.items() if any(one.trains(*row) for one in plan.phases)
              for p in named.values()}  # fmt: skip
    assert left_out == {name for name, p in before.module.named_parameters() if id(p) not in trains}
    assert bool(left_out) == (of_backbone is not None)
    for name in left_out:
        assert torch.equal(before.state()[name], begun[name])
    after = rig(family, strategy, *words, folder="cut").fit()
    same(whole, after)
    for run in (whole, after):
        load_weights(run.module, run.folder / "best.ckpt")
    assert all(torch.equal(tensor, after.state()[name]) for name, tensor in whole.state().items())


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_what_is_left_out_is_the_same_in_every_precision(rig, precision):
    """Doubles are widened after a run's setup, and before what is kept is put back into the model that trained."""
    words = ("vit", "partial", "strategy.last_k=1")
    whole = rig(*words, folder="whole", precision=precision).fit()
    with pytest.raises(InterruptedError):
        rig(*words, folder="cut", precision=precision, callbacks=[Cut(2)]).fit()
    after = rig(*words, folder="cut", precision=precision)
    assert resumable(after.folder / "last.ckpt", "", after.module) is not None
    assert read_checkpoint(after.folder / "last.ckpt")["left_out"]["names"]
    same(whole, after.fit())
    for run in (whole, after):
        load_weights(run.module, run.folder / "best.ckpt")
    assert all(torch.equal(tensor, after.state()[name]) for name, tensor in whole.state().items())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "strategy", "words"),
    [
        ("cnn", "fine_tune", ()),
        ("cnn", "lp_ft", ("strategy.average=wise_ft",)),
        ("cnn", "fine_tune", ("strategy.average=ema",)),
        ("cnn", "fine_tune", ("strategy.sam=0.05",)),
        ("cnn", "l2_sp", ()),
        ("cnn", "delta", ()),
        ("cnn", "stochnorm", ()),
        ("cnn", "surgical_auto", ()),
        ("cnn", "partial", ("unfreeze=on_plateau", "unfreeze.patience=1", "unfreeze.restore_best=true")),
        ("vit", "lora", ()),
        ("vit", "gradual_unfreeze", ()),
    ],
)
def test_a_run_in_double_precision_goes_on_with_the_same_bits(rig, family, strategy, words):
    """Weights are widened before a checkpoint is loaded, so that it loses no digit of theirs."""
    whole = rig(family, strategy, *words, folder="whole", max_epochs=5, precision="64-true").fit()
    with pytest.raises(InterruptedError):
        rig(family, strategy, *words, folder="cut", max_epochs=5, precision="64-true", callbacks=[Cut(2)]).fit()
    same(whole, rig(family, strategy, *words, folder="cut", max_epochs=5, precision="64-true").fit())


def test_an_optimizers_state_in_double_precision_goes_on_with_the_same_bits(rig):
    """NAdam keeps a product in single precision beside weights in doubles."""
    settings = {"optimizer": partial(torch.optim.NAdam, lr=1e-2), "precision": "64-true", "max_epochs": 3}
    whole = rig(**settings, folder="whole").fit()
    with pytest.raises(InterruptedError):
        rig(**settings, folder="cut", callbacks=[Cut(1)]).fit()
    same(whole, rig(**settings, folder="cut").fit())


def test_weights_that_were_left_out_and_have_changed_since_are_noticed(rig, caplog: pytest.LogCaptureFixture):
    run = rig("vit", "lora", max_epochs=1).fit()
    last, name = run.folder / "last.ckpt", "backbone.model.patch_embed.proj.weight"
    assert name in read_checkpoint(last)["left_out"]["names"]
    assert resumable(last, "", run.module) == last
    with torch.no_grad():
        run.module.get_parameter(name).mul_(1.0001)
    with pytest.raises(DamagedCheckpointError, match=r"tensors that never train, and those .* are no longer the same"):
        put_back(read_checkpoint(last), run.module)
    assert resumable(last, "", run.module) is None
    assert "set aside as last.ckpt.unusable, and training starts anew" in caplog.text


def test_a_whole_checkpoint_of_an_older_version_is_gone_on_from(rig):
    run = rig("vit", "lora", max_epochs=2).fit()
    old = rig("vit", "lora", max_epochs=2, callbacks=[Cut(1)], folder="old")
    with pytest.raises(InterruptedError):
        old.fit()
    kept = read_checkpoint(old.folder / "last.ckpt")
    put_back(kept, old.module)
    assert "left_out" not in kept
    torch.save(kept, old.folder / "last.ckpt")
    resumed = rig("vit", "lora", max_epochs=2, folder="old").fit()
    assert all(torch.equal(tensor, resumed.state()[name]) for name, tensor in run.state().items())
