"""What tests of exports hold them against."""

from pathlib import Path

import numpy as np


def kept(run: Path, kind: str = "probability") -> dict[str, np.ndarray]:
    """What a run predicted for its test examples, by their ids."""
    with np.load(run / "predictions.npz") as arrays:
        return dict(zip(arrays["test/id"].tolist(), arrays[f"test/{kind}"].astype(np.float32), strict=True))
