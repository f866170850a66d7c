"""What `import headstart` offers to programs: its examples run, and it leaves the process as it was."""

import doctest
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import headstart
from headstart.cli import python
from headstart.cli.main import main
from headstart.compat import declare_torchvision_operators
from headstart.errors import InputError
from headstart.predict import model
from headstart.report import frame
from pictures import tiny, write_folder

declare_torchvision_operators()


@pytest.fixture
def names(at_home: Path) -> dict[str, object]:
    """What the examples speak of."""
    own = tiny(write_folder(at_home / "pictures", per_class=10))
    assert main(["train", *own, "strategy=fine_tune", "hydra.run.dir=run"]) == 0
    return {
        "run_dir": Path("run"),
        "picture": at_home / "pictures/circle/0.png",
        "tiny": [*own, "trainer.max_epochs=1"],
    }


@pytest.mark.parametrize("function", [model.load, frame.results, python.train])
def test_examples_run(names: dict[str, object], function):
    if function is frame.results:
        pytest.importorskip("pandas")
    (example,) = [one for one in doctest.DocTestFinder(recurse=False).find(function) if one.examples]
    example.globs = dict(names)
    assert doctest.DocTestRunner().run(example).failed == 0


def test_training_leaves_the_process_as_it_was(names, capsys: pytest.CaptureFixture[str]):
    torch.manual_seed(5)
    np.random.seed(5)
    root = logging.getLogger()
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads(), dict(os.environ)
    handlers, words = list(root.handlers), list(sys.argv)
    deterministic = torch.are_deterministic_algorithms_enabled()

    def others() -> list[object]:
        loggers = map(logging.getLogger, ("pytorch_lightning", "transformers", "headstart", ""))
        handlers = map(signal.getsignal, (signal.SIGINT, signal.SIGTERM))
        fills = torch.utils.deterministic.fill_uninitialized_memory
        own = [os.getcwd(), fills, list(warnings.filters), warnings.showwarning, sys.excepthook]
        return [*own, *handlers, *(logger.level for logger in loggers)]

    known = others()
    run = headstart.train(
        "strategy=fine_tune", "trainer.max_epochs=1", "trainer.deterministic=true", *names["tiny"][:-1]
    )
    assert run.result.is_completed
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert (torch.get_num_threads(), dict(os.environ)) == before[2:]
    assert (list(root.handlers), list(sys.argv)) == (handlers, words)
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    assert others() == known
    assert capsys.readouterr().out == ""
    assert "together with other runs" not in (run.directory / "log.txt").read_text()
    assert headstart.train("strategy=fine_tune", "trainer.max_epochs=1", "trainer.deterministic=true",
                           *names["tiny"][:-1]).result.started == run.result.started  # fmt: skip
    with pytest.raises(ValueError, match="straegy"):
        headstart.train("straegy=fine_tune")


def test_a_model_takes_paths_pictures_and_arrays(names):
    loaded = headstart.load("run")
    picture = Image.open(names["picture"]).convert("RGB")
    found = loaded.predict([names["picture"], picture, np.asarray(picture), "lost.png", np.zeros((2, 2))])
    assert [bool(answer.error) for answer in found] == [False, False, False, True, True]
    for other in found[1:3]:
        assert [*other.all.values()] == pytest.approx([*found[0].all.values()], abs=1e-5)
    assert loaded.predict(np.asarray(picture))[0].label == found[0].label


def test_calls_from_several_threads_take_turns(names):
    """They would draw from each other's dice, and compose each other's configs."""
    more = ["strategy=fine_tune", "head=mlp", "trainer.batch_size=4"]
    found: dict[int, object] = {}

    def run(seed: int) -> None:
        found[seed] = headstart.train(*names["tiny"], *more, f"seed={seed}")

    threads = [threading.Thread(target=run, args=[seed]) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[seed].result.seed for seed in (1, 2, 3)] == [1, 2, 3]
    for seed in (1, 2, 3):
        alone = headstart.train(*names["tiny"], *more, f"seed={seed}", f"hydra.run.dir=alone{seed}")
        assert alone.metrics == found[seed].metrics


def test_the_first_call_leaves_dice_and_environment_as_they_were(names):
    program = f"""
import os, random, headstart
random.seed(7); wanted = random.random(); random.seed(7); before = dict(os.environ)
headstart.train(*{names["tiny"]!r}, "strategy=feature_extraction")
assert random.random() == wanted
assert dict(os.environ) == before, set(os.environ) ^ set(before)
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_a_run_in_several_directories_is_one_row(names, caplog):
    pytest.importorskip("pandas")
    with caplog.at_level(logging.WARNING):
        assert len(headstart.results("run", "run")) == 1
    assert "is in more than one directory; it was counted once" in caplog.text


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ([None], "there is nothing"),
        ([float("nan")], "there is nothing"),
        ([np.zeros((0, 4, 3), np.uint8)], "it has no pixels"),
        ([Image.new("RGB", (0, 4))], "it has no pixels"),
    ],
)
def test_what_is_no_picture_has_its_reason(names, inputs, problem):
    (answer,) = headstart.load("run").predict(inputs)
    assert (answer.labels, problem in answer.error) == ((), True)


def test_a_table_is_no_list_of_examples(names):
    pandas = pytest.importorskip("pandas")
    for table in ({"image": ["a.png"]}, pandas.DataFrame({"image": ["a.png"]})):
        with pytest.raises(InputError, match="the names of columns would be read"):
            headstart.load("run").predict(table)


def test_importing_it_imports_nothing_else():
    code = "import sys, headstart; print([n for n in ('torch', 'numpy', 'hydra', 'pandas') if n in sys.modules])"
    began = time.perf_counter()
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    assert time.perf_counter() - began < 5
