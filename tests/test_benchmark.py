"""The benchmark's sections that need other libraries or many files: what they say, hand over, count and write."""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import benchmark
import benchmark_decoding
import benchmark_peers
import numpy as np
import pytest
import torch
from benchmark_peers import Compared, Limits, Peer, Side
from PIL import Image
from torch import nn

ABSENT = Peer("absent", "a library that is nowhere", ("json", "no_such_module.inside"), 1e-3, (), "no-such-package")


def test_a_peer_that_is_not_installed_is_left_out_and_said(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(benchmark_peers, "PEERS", (ABSENT,))
    monkeypatch.setenv("HEADSTART_CACHE", "")  # what the program sets goes with the test
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--only", "peers", "--json", "rows.json"])
    benchmark.main()
    assert json.loads((tmp_path / "rows.json").read_text())["rows"] == []
    assert capsys.readouterr().out.startswith(
        f"peers        absent is left out: {sys.executable} has no no_such_module.inside. Install it with "
        "`pip install no-such-package`, or name an interpreter: --peer-python absent=PYTHON\n"
    )


def test_each_peer_has_a_program():
    for peer in benchmark_peers.PEERS:
        assert peer.program.is_file()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "keras=python",
            "--peer-python keras=python: peers are autogluon, fastai, finetuning-scheduler, peft, template",
        ),
        ("fastai=/no/such", "--peer-python fastai=/no/such names no program; give it as fastai=/path/to/python"),
        ("fastai", "--peer-python fastai names no program; give it as fastai=/path/to/python"),
    ],
)
def test_an_interpreter_that_cannot_be_used_ends_the_program(given, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--only", "peers", "--peer-python", given])
    with pytest.raises(SystemExit) as ended:
        benchmark.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_peers_are_named_as_they_are_known(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--only", "peers", "--peers", "fastia"])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "unknown peers ['fastia']; there are fastai, template" in capsys.readouterr().err
    assert benchmark_peers.interpreters([f"fastai={sys.executable}"]) == {"fastai": sys.executable}


def compared():
    ours = Side([10.0, 12.0, 20.0], [20.0, 22.0, 30.0], [0.6, 0.5, 0.7])
    peer = Side([10.0, 24.0, 16.0], [40.0, 44.0, 30.0], [0.6, 0.6, 0.6])
    return Compared("fastai, fine_tune", ours, peer, 4.25, "operations")


def test_the_table_tells_medians_of_pairs_beside_accuracy_and_floor():
    assert benchmark_peers.table([compared()]) == (
        "| against | fit: ours | peer | ratio | process: ours | peer | ratio | test: ours | peer | floor |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        "| fastai, fine_tune | 12.0 s | 16.0 s | 1.00 | 22.0 s | 40.0 s | 0.50 | 60.0 ± 10.0 | 60.0 ± 0.0 | "
        "4.2 s, operations |"
    )


def test_the_rows_carry_the_floor(capsys):
    setting = benchmark.Setting(3, 64, 1, 1, [], 1, Path())
    benchmark_peers.add_rows(setting, compared())
    fit, whole, accuracy = setting.rows
    assert (fit.ours, fit.peer, fit.ratio, fit.floor, fit.met) == (12.0, 16.0, 1.0, 4.25, True)
    assert (whole.ratio, whole.floor) == (0.5, None)
    assert accuracy.ours == pytest.approx(60)
    assert "(floor 4.25 s)" in capsys.readouterr().out


def test_the_floor_is_what_takes_longer():
    done = {"cost": {"train_flops": 6e9, "feature_flops": 2e9}}
    assert Limits(flops=2e9, bytes=1e9).floor(done, 3e9) == (4.0, "operations")
    assert Limits(flops=4e9, bytes=1e9).floor(done, 3e9) == (3.0, "bytes")


def test_saved_bytes_are_those_of_activations_alone():
    model, inputs = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(3, 4)
    assert benchmark_peers.saved_bytes(model, lambda: model(inputs).sum()) == 4 * (
        3 * 4 + 3 * 8
    )  # inputs of each layer


def test_a_program_is_handed_what_both_sides_see(tmp_path, monkeypatch):
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 2, 2)
    job = SimpleNamespace(
        split=SimpleNamespace(train=np.array([1]), val=np.array([0]), test=np.array([0, 1])),
        source=SimpleNamespace(labels=np.array([4, 7]), classes=["a", "b"]),
        examples=SimpleNamespace(batch=lambda rows: {"pixels": torch.from_numpy(pixels[rows])}),
        cfg=SimpleNamespace(backbone=SimpleNamespace(model="tiny")),
    )
    peer = benchmark_peers.PEERS[0]
    folder = benchmark_peers.hand_over(peer, job, tmp_path / "task", 5, lambda job: nn.Linear(1, 1))
    monkeypatch.syspath_prepend(str(benchmark_peers.PROGRAMS))
    monkeypatch.setattr(sys, "argv", ["with_fastai.py", str(folder), str(tmp_path / "answer.json")])
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        task = importlib.import_module("handed").Task()
    torch.set_num_threads(threads)
    assert (task.seed, task.lr, task.num_classes, task.batch_size) == (5, peer.lr, 2, benchmark_peers.BATCH)
    found, labels = task.pictures("test")
    assert torch.allclose(found, torch.from_numpy(pixels) / 127.5 - 1.0)
    assert labels.tolist() == [4, 7]
    with task.fit():
        pass
    task.answer([4, 4], labels)
    assert json.loads((tmp_path / "answer.json").read_text()) == {
        "clock": task.seconds,
        "processor": task.processor,
        "accuracy": 0.5,
    }


def test_a_program_that_fails_is_told_with_what_it_wrote():
    with pytest.raises(RuntimeError, match="no such optimizer"):
        benchmark_peers.process_seconds([sys.executable, "-c", "raise SystemExit('no such optimizer')"])


def test_photographs_differ_and_are_all_readable(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_decoding, "KINDS", 4)
    benchmark_decoding.make_photographs(tmp_path / "photos", 12)
    contents = {path.read_bytes() for path in (tmp_path / "photos").rglob("*.jpg")}
    assert len(contents) == 12
    sizes = {Image.open(path).convert("RGB").size for path in (tmp_path / "photos").rglob("*.jpg")}
    assert sizes == set(benchmark_decoding.SHAPES)


def test_pictures_are_read_on_both_sides_from_files_and_from_shards(tmp_path, monkeypatch):
    from headstart.data import array_cache

    for owner, name in ((benchmark_decoding, "KINDS"), (benchmark_decoding, "BATCH"), (benchmark_decoding, "BATCHES")):
        monkeypatch.setattr(owner, name, 4)
    monkeypatch.setattr(array_cache, "_free_disk", array_cache._free_disk)  # what the section sets goes with the test
    monkeypatch.setattr(benchmark_decoding, "WORKERS", [0])
    setting = benchmark.Setting(1, 64, 1, 1, [], 20, tmp_path)
    benchmark_decoding.measure(setting, tmp_path / "photos")
    said = [row.what for row in setting.rows]
    assert said == [f"20 {name}, 0 workers; peer: a plain DataLoader" for name in ("files", "in shards")]
    assert all(row.ours > 0 and row.peer > 0 for row in setting.rows)
