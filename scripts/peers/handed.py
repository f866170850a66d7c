"""What a peer's program is handed, and what it hands back; it needs torch and numpy, and nothing of headstart.

    python scripts/peers/with_fastai.py FOLDER ANSWER

`FOLDER` holds `task.json` (settings), and for pictures `pictures.npz` (bytes `(N, 3, H, W)` and labels of train, val
and test) and `weights.pt`, for texts `texts.json`. `ANSWER` gets seconds and test accuracy.
"""

import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:  # a wheel for GPUs beside a torch for processors: only two operators are in the way
    _operators = torch.library.Library("torchvision", "FRAGMENT")
    _operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


class Task:
    """Data, model and settings, the same for both sides."""

    def __init__(self) -> None:
        self.folder, self.answer_path = Path(sys.argv[1]), Path(sys.argv[2])
        self.settings: dict[str, Any] = json.loads((self.folder / "task.json").read_text())
        torch.set_num_threads(self.settings["threads"])
        random.seed(self.settings["seed"])
        np.random.seed(self.settings["seed"])
        torch.manual_seed(self.settings["seed"])
        self.seconds = self.processor = 0.0

    def __getattr__(self, name: str) -> Any:
        return self.settings[name]

    def pictures(self, part: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures of a part as the network wants them, `(N, 3, H, W)`, and labels `(N,)`."""
        with np.load(self.folder / "pictures.npz") as kept:
            pixels, labels = kept[f"{part}_pixels"], kept[f"{part}_labels"]
        return torch.from_numpy(pixels).float().div_(127.5).sub_(1.0), torch.from_numpy(labels)

    def texts(self, part: str) -> tuple[list[str], list[int]]:
        """Texts of a part, and labels."""
        kept = json.loads((self.folder / "texts.json").read_text())[part]
        return kept["texts"], kept["labels"]

    def network(self) -> Any:
        """The pretrained network with a new classifier, in the memory layout that is fast on a processor."""
        import timm

        model = timm.create_model(self.model, num_classes=self.num_classes)
        model.load_state_dict(torch.load(self.folder / "weights.pt", weights_only=True))
        model.get_classifier().reset_parameters()  # from this run's seed
        return model.to(memory_format=torch.channels_last)

    @contextmanager
    def fit(self) -> Iterator[None]:
        """Times the block: training, with what is evaluated and kept after each epoch."""
        self.begin()
        yield
        self.end()

    def begin(self) -> None:
        self.seconds, self.processor = -time.perf_counter(), -time.process_time()

    def end(self) -> None:
        self.seconds += time.perf_counter()
        self.processor += time.process_time()

    def answer(self, predicted: Sequence[int], labels: Sequence[int]) -> None:
        """Hand back the seconds, and the accuracy of predictions on test."""
        right = sum(int(a) == int(b) for a, b in zip(predicted, labels, strict=True))
        self.keep(accuracy=right / len(labels))

    def keep(self, **more: float) -> None:
        self.answer_path.write_text(json.dumps({"clock": self.seconds, "processor": self.processor, **more}))
