"""Records the curves that `benchmark_search.py` replays: many settings of some problems, each trained once.

    python scripts/record_curves.py [texts sounds pictures layers]         goes on where it was stopped

`pictures`, `texts` and `sounds` train a head alone, on stored features; `layers` trains the last layers of a network
too, on pictures. Settings are spread evenly (Sobol points) over the spaces that the parts bring, the default first; the
best by val and the default are trained on more seeds too, their data split anew. `scripts/curves/<problem>.csv` has a
line for each training: its setting and seed, and for each epoch accuracy on val and on test and seconds of a core (of
training and val; process time, so that other load does not count); `<problem>.json` has the space.
"""

import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

NUM_SETTINGS = 160
"""Of each problem, the default among them."""
NUM_AGAIN = 24
"""Settings, the best by val, that are trained on more seeds; and the default."""
SEEDS = (0, 1, 2)
CURVES = Path(__file__).parent / "curves"
NUMBERS = ("val", "test", "seconds")

SMALL = ["head=mlp", "trainer.threads=1"]
PROBLEMS: Mapping[str, Sequence[str]] = {
    "pictures": ["data=openmoji", "data.size=64", "strategy=feature_extraction", "trainer.max_epochs=9", *SMALL],
    "layers": [
        *("data=openmoji", "data.size=64", "strategy=partial", "strategy.last_k=1", "split.n_per_class=16"),
        *("split.val_fraction=0.12", "split.test_fraction=0.2", "trainer.max_epochs=9", *SMALL),
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
        epochs = [f"{number}_{epoch}" for number in NUMBERS for epoch in range(1, self.max_epochs + 1)]
        return ["number", "seed", *(one.key for one in self.space), *epochs]

    def point(self, number: int) -> dict[str, Any]:
        from headstart.search.draws import Draws

        return Draws(self.space, "qmc", "curves", True).next(number, []) or {} if number else dict(self.defaults)

    def rows(self) -> list[dict[str, str]]:
        if not self.path.is_file():
            return []
        with self.path.open(encoding="utf8", newline="") as file:
            return list(csv.DictReader(file))

    def record(self) -> None:
        """Train what is missing."""
        self._train([(number, SEEDS[0]) for number in range(NUM_SETTINGS)])
        best: dict[int, float] = {}
        for row in self.rows():
            if int(row["seed"]) == SEEDS[0]:
                best[int(row["number"])] = max(
                    float(row[f"val_{epoch}"] or 0) for epoch in range(1, self.max_epochs + 1)
                )
        again = sorted(set(best) - {0}, key=lambda number: (-best[number], number))[:NUM_AGAIN]
        self._train([(number, seed) for seed in SEEDS[1:] for number in (0, *again)])

    def _train(self, wanted: Sequence[tuple[int, int]]) -> None:
        there = {(int(row["number"]), int(row["seed"])) for row in self.rows()}
        missing = [one for one in wanted if one not in there]
        if not self.path.is_file():
            self._append(self.header)
        at_once = 32 if self.strategy == "feature_extraction" else 1
        for start in range(0, len(missing), at_once):
            chosen = missing[start : start + at_once]
            points = [self.point(number) for number, _ in chosen]
            jobs = [self.job(point, seed) for point, (_, seed) in zip(points, chosen, strict=True)]
            curves = [trained(job) for job in jobs] if at_once == 1 else heads_trained(jobs)
            for (number, seed), point, curve in zip(chosen, points, curves, strict=True):
                self._append([number, seed, *point.values(), *self._filled(curve)])
            sys.stderr.write(f"{self.path.stem}: {len(self.rows())} trainings\n")

    def _filled(self, curve: "Curve") -> list[Any]:
        """A loss that was not finite ends a training."""
        return [value for column in curve for value in (*column, *[""] * (self.max_epochs - len(column)))]

    def _append(self, line: Sequence[Any]) -> None:
        with self.path.open("a", encoding="utf8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(line)

    def job(self, point: Mapping[str, Any], seed: int) -> Any:
        from headstart.run.findings import Findings
        from headstart.run.prepare import prepare
        from headstart.search.cells import trial_config

        self.findings = self.findings or Findings()
        return prepare(trial_config(self.base, point, seed, is_trial=False), findings=self.findings)


Curve = tuple[list[float], list[float], list[float]]
"""Accuracy on val, on test, and seconds, by epoch."""


def heads_trained(jobs: Sequence[Any]) -> list[Curve]:
    """Heads on stored features, trained by the program's own code: once with val, and again with test in its place."""
    found: list[list[float]] = []
    began = time.process_time()
    for part in ("val", "test"):
        found.extend(
            _head_scores([replace(job, split=replace(job.split, val=getattr(job.split, part))) for job in jobs])
        )
    count = len(jobs)
    seconds = (time.process_time() - began) / sum(map(len, found))
    return [(val, test, [round(seconds, 5)] * len(val)) for val, test in zip(found[:count], found[count:], strict=True)]


def _head_scores(jobs: Sequence[Any]) -> list[list[float]]:
    import torch

    from headstart.progress import Progress
    from headstart.run.heads import fitted_heads
    from headstart.run.parts import build_head
    from headstart.run.stored import frozen_features, stored_views
    from headstart.training.activations import FEATURES

    found: list[list[float]] = [[] for _ in jobs]
    by_seed: dict[int, list[int]] = {}
    for place, job in enumerate(jobs):
        by_seed.setdefault(job.seed, []).append(place)
    device = torch.device("cpu")
    for places in by_seed.values():  # which have the same split
        chosen = [jobs[place] for place in places]
        views = [view[FEATURES] for view in stored_views(chosen[0], frozen_features(chosen[0], device))]
        heads = [build_head(job, views[0].shape[1]) for job in chosen]
        outcomes = fitted_heads(chosen, heads, views, device, Progress("heads", 1, live=False))
        for place, outcome in zip(places, outcomes, strict=True):
            found[place] = [round(float(row["val/accuracy"]), 4) for row in outcome.history]
    return found


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
    return watch.val, watch.test, watch.seconds


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
            self.seconds.append(round(time.process_time() - self.began, 3))
            self.val.append(round(float(pl_module.metrics["val/accuracy"]), 4))
            pl_module.eval()
            right = total = 0
            with torch.inference_mode():
                for batch in data_module(job).test_dataloader():
                    answers = pl_module._outputs(batch, batch["inputs"]).argmax(1)
                    right += int((answers == batch["labels"]).sum())
                    total += len(answers)
            self.test.append(round(right / total, 4))
            pl_module.train()

    return EpochScores()


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    CURVES.mkdir(exist_ok=True)
    for name in sys.argv[1:] or PROBLEMS:
        cell = Cell(name)
        told = {
            "space": [one.to_dict() for one in cell.space],
            "defaults": cell.defaults,
            "max_epochs": cell.max_epochs,
        }
        cell.path.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf8")
        cell.record()


if __name__ == "__main__":
    main()
