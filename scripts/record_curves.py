"""Records the curves that `benchmark_search.py` replays: many settings of some problems, each trained on several seeds.

    python scripts/record_curves.py [texts sounds pictures layers]         goes on where it was stopped

`pictures`, `texts` and `sounds` train a head alone, on stored features; `layers` trains the last layers of a network
too, on pictures. Settings are spread evenly (Sobol points) over the spaces that the parts bring, the default first;
each seed draws a split of its own. `scripts/curves/<problem>.csv` has a line for each training: number and seed of its
setting, seconds of a core that an epoch took (process time, so that other load does not count), and for each epoch
accuracy on val and on test. `<problem>.json` has the space and the settings.
"""

import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import fmean
from typing import Any

NUM_SETTINGS = 400
"""Of each problem, the default among them."""
SEEDS = tuple(range(6))
NUM_AGAIN, FEW_SEEDS = 24, SEEDS[:4]
"""Settings of `layers`, the best by val on the first seed, that are trained on others too; all would take too long."""
CURVES = Path(__file__).parent / "curves"
TEST = "test/accuracy"

SMALL = ["head=mlp", "trainer.threads=1"]
PROBLEMS: Mapping[str, Sequence[str]] = {
    "pictures": ["data=openmoji", "data.size=64", "strategy=feature_extraction", "trainer.max_epochs=9", *SMALL],
    "layers": [
        *("data=openmoji", "data.size=64", "augmentation=none", "strategy=partial", "strategy.last_k=1"),
        *("split.n_per_class=32", "split.val_fraction=0.12", "split.test_fraction=0.2", "trainer.max_epochs=9", *SMALL),
    ],
    "texts": [
        *("data=openmoji_names", "backbone=minilm", "strategy=feature_extraction", "split.n_per_class=40"),
        *("trainer.max_epochs=9", *SMALL),
    ],
    "sounds": [
        *("data=synthetic_audio", "backbone=spectrogram_efficientnet_lite0", "strategy=feature_extraction"),
        *("trainer.max_epochs=9", *SMALL),
    ],
}


class Cell:
    """One problem: its config, its space, and trainings in it."""

    def __init__(self, name: str) -> None:
        from headstart.cli.hydra_app import compose_config
        from headstart.run.prepare import job_config
        from headstart.search.cells import brought_ranges, default_value

        cfg = compose_config(list(PROBLEMS[name]))
        found = brought_ranges(cfg, PROBLEMS[name])
        self.space = sorted(found.values(), key=lambda one: (not one.is_group, one.key))
        self.base = job_config(cfg)
        self.max_epochs = int(cfg.trainer.max_epochs)
        self.strategy = str(self.base.choices.strategy)
        self.defaults = {one.key: default_value(self.base, one) for one in self.space}
        self.path = CURVES / f"{name}.csv"
        self.findings: Any = None

    @property
    def header(self) -> list[str]:
        epochs = [f"{part}_{epoch}" for part in ("val", "test") for epoch in range(1, self.max_epochs + 1)]
        return ["number", "seed", "seconds", *epochs]

    def point(self, number: int) -> dict[str, Any]:
        from headstart.search.draws import Draws

        return Draws(self.space, "qmc", "curves", True).next(number, []) or {} if number else dict(self.defaults)

    def describe(self) -> None:
        """Write what the curves are of."""
        told = {
            "max_epochs": self.max_epochs,
            "space": [one.to_dict() for one in self.space],
            "settings": [list(self.point(number).values()) for number in range(NUM_SETTINGS)],
        }
        lines = json.dumps(told).replace("{", "\n{").replace("[[", "[\n[").replace("], [", "],\n[")
        self.path.with_suffix(".json").write_text(lines.strip() + "\n", encoding="utf8")

    def rows(self) -> list[dict[str, str]]:
        if not self.path.is_file():
            return []
        with self.path.open(encoding="utf8", newline="") as file:
            return list(csv.DictReader(file))

    @property
    def is_head_alone(self) -> bool:
        return self.strategy == "feature_extraction"

    def record(self) -> None:
        """Train what is missing."""
        if not self.path.is_file():
            self._append(self.header)
        for seed in SEEDS if self.is_head_alone else FEW_SEEDS:
            there = {int(row["number"]) for row in self.rows() if int(row["seed"]) == seed}
            missing = [number for number in self._wanted(seed) if number not in there]
            at_once = 32 if self.is_head_alone else 1
            for start in range(0, len(missing), at_once):
                numbers = missing[start : start + at_once]
                jobs = [self.job(self.point(number), seed) for number in numbers]
                curves = heads_trained(jobs) if self.is_head_alone else [trained(job) for job in jobs]
                for number, (seconds, *scores) in zip(numbers, curves, strict=True):
                    self._append([number, seed, f"{seconds:.3g}", *self._filled(scores)])
                sys.stderr.write(f"{self.path.stem}: seed {seed}, setting {numbers[-1]}\n")

    def _wanted(self, seed: int) -> Sequence[int]:
        """Settings that are trained on a seed."""
        if self.is_head_alone or seed == SEEDS[0]:
            return range(NUM_SETTINGS)
        first = {int(row["number"]): row for row in self.rows() if int(row["seed"]) == SEEDS[0]}
        scores = {
            number: max(float(row[f"val_{epoch}"] or 0) for epoch in range(1, self.max_epochs + 1))
            for number, row in first.items()
            if number
        }
        return [0, *sorted(scores, key=lambda number: (-scores[number], number))[:NUM_AGAIN]]

    def _filled(self, scores: Sequence[Sequence[float]]) -> list[str]:
        """A loss that was not finite ends a training."""
        rest = [""] * self.max_epochs
        return [text for part in scores for text in [*(f"{value:.4f}" for value in part), *rest][: self.max_epochs]]

    def _append(self, line: Sequence[Any]) -> None:
        with self.path.open("a", encoding="utf8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(line)

    def job(self, point: Mapping[str, Any], seed: int) -> Any:
        from headstart.run.findings import Findings
        from headstart.run.prepare import prepare
        from headstart.search.cells import trial_config

        self.findings = self.findings or Findings()
        return prepare(trial_config(self.base, point, seed, is_trial=False), findings=self.findings)


Curve = tuple[float, list[float], list[float]]
"""Seconds of an epoch, and accuracy on val and on test by epoch."""


def heads_trained(jobs: Sequence[Any]) -> list[Curve]:
    """Heads on stored features, trained together by the program's own code; they have the same split."""
    import torch

    from headstart.progress import Progress
    from headstart.run.heads import fitted_heads
    from headstart.run.parts import build_head
    from headstart.run.stored import frozen_features, stored_views
    from headstart.training.activations import FEATURES

    device = torch.device("cpu")
    views = [view[FEATURES] for view in stored_views(jobs[0], frozen_features(jobs[0], device))]
    heads = [build_head(job, views[0].shape[1]) for job in jobs]
    began = time.process_time()
    with scored_on_test(jobs[0].split.test):
        outcomes = fitted_heads(jobs, heads, views, device, Progress("heads", 1, live=False))
    histories = [outcome.history for outcome in outcomes]
    seconds = (time.process_time() - began) / sum(map(len, histories))
    return [(seconds, *([float(row[name]) for row in rows] for name in ("val/accuracy", TEST))) for rows in histories]  # type: ignore[misc]


@contextmanager
def scored_on_test(places: Any) -> Iterator[None]:
    """Heads are scored on test after every epoch too, which no run of a search may."""
    from dataclasses import replace

    import torch

    from headstart.training.probe_loop import ProbeLoop

    real = ProbeLoop._measure

    def measured(loop: Any, *told: Any) -> Any:
        rows, groups = real(loop, *told), loop.groups
        loop.groups = [replace(group, val=torch.from_numpy(places)) for group in groups]
        values = loop._evaluate()[1].tolist()
        loop.groups = groups
        return [{**row, TEST: value} for row, value in zip(rows, values, strict=True)]

    ProbeLoop._measure = measured  # type: ignore[method-assign]
    try:
        yield
    finally:
        ProbeLoop._measure = real  # type: ignore[method-assign]


def trained(job: Any) -> Curve:
    """One training by the program's own story of a run."""
    from headstart.progress import Progress
    from headstart.record.directory import RunDirectory
    from headstart.run import experiment
    from headstart.training.module import DivergedError

    watch = epoch_scores(job)
    experiment.keepers = lambda *_: [watch]  # type: ignore[assignment]  # in place of checkpoints
    with tempfile.TemporaryDirectory() as place, suppress(DivergedError):
        experiment._fit(job, RunDirectory(Path(place)), lambda row: None, Progress("training", 1, live=False))
    return fmean(watch.seconds or [0.0]), watch.val, watch.test


def epoch_scores(job: Any) -> Any:
    """A callback that scores val and test after every epoch, which no run of a search may."""
    import pytorch_lightning as pl
    import torch

    from headstart.run.parts import data_module

    class EpochScores(pl.Callback):
        def __init__(self) -> None:
            self.val: list[float] = []
            self.test: list[float] = []
            self.seconds: list[float] = []
            self.began = 0.0

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
            self.began = time.process_time()

        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
            self.seconds.append(time.process_time() - self.began)
            self.val.append(float(pl_module.metrics["val/accuracy"]))
            pl_module.eval()
            right = total = 0
            with torch.inference_mode():
                for batch in data_module(job).test_dataloader():
                    answers = pl_module.head(pl_module._features(batch, batch["inputs"])).argmax(1)
                    right += int((answers == batch["labels"]).sum())
                    total += len(answers)
            self.test.append(right / total)
            pl_module.train()

    return EpochScores()


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    CURVES.mkdir(exist_ok=True)
    for name in sys.argv[1:] or PROBLEMS:
        cell = Cell(name)
        cell.describe()
        cell.record()


if __name__ == "__main__":
    main()
