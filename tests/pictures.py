"""Small picture folders for tests."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("circle", "square", "stripes")


def write_folder(root: Path, per_class: int = 12, size: int = 24, seed: int = 0) -> Path:
    """Class folders of noisy pictures that differ by their pattern."""
    rng = np.random.default_rng(seed)
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            picture = rng.integers(0, 120, (size, size, 3))
            picture[label * 6 : label * 6 + 8, :, label] += 130
            Image.fromarray(picture.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


def write_weights(path: Path, num_classes: int = 12) -> Path:
    """Weights of the tiny network with a classifier, as a pretraining leaves them."""
    import torch

    from headstart.compat import declare_torchvision_operators

    declare_torchvision_operators()
    import timm

    torch.manual_seed(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(timm.create_model("test_efficientnet", num_classes=num_classes).state_dict(), path)
    return path


def tiny(root: Path, *more: str) -> list[str]:
    """Overrides for a run of a second: a tiny network on a small folder."""
    return [
        "backbone=timm",
        "backbone.model=test_efficientnet",
        "backbone.weights=none",
        "data=image_folder",
        f"data.root={root}",
        "data.size=32",
        "trainer.max_epochs=2",
        "trainer.batch_size=8",
        "trainer.threads=1",
        "logger=none",
        *more,
    ]
