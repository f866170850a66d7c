"""Finished runs on tiny models, made once."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from headstart.cli.main import main
from pictures import tiny, write_folder

Train = Callable[..., Path]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="session")
def train(place: Path) -> Train:
    """Makes a run of these words, once, in a folder of this name."""

    def make(name: str, *words: str) -> Path:
        folder = place / name
        before = os.getcwd()
        os.chdir(place)
        try:
            if not folder.exists():
                assert main(["train", *words, f"hydra.run.dir={folder}"]) == 0
        finally:
            os.chdir(before)
        return folder

    return make


@pytest.fixture(scope="session")
def pictures(place: Path) -> Path:
    return write_folder(place / "pictures")


@pytest.fixture(scope="session")
def vision(train: Train, pictures: Path) -> Path:
    """A fine-tuned run on pictures."""
    return train("vision", *tiny(pictures, "strategy=fine_tune", "optimizer.lr=0.01"))
