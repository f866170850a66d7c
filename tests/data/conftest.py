from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.data.source import Source
from headstart.tasks.multiclass import Multiclass


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing that a test keeps meets another test, or the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HEADSTART_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def one_class_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources that no run has told otherwise."""
    monkeypatch.setattr(Source, "encode", staticmethod(Multiclass().encode), raising=False)


@pytest.fixture
def paint() -> Callable[..., Path]:
    """Writes a picture of noise, seeded by its own path's name."""

    def write(path: Path, size: tuple[int, int] = (12, 10), mode: str = "RGB", seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([seed, *path.name.encode()])
        pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)
        return path

    return write


@pytest.fixture
def folder(tmp_path: Path, paint: Callable[..., Path]) -> Path:
    """Three classes of eight pictures."""
    root = tmp_path / "pictures"
    for name in ("ant", "bee", "cow"):
        for number in range(8):
            paint(root / name / f"{name}{number}.png")
    return root
