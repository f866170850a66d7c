"""A run done again from its directory alone, and every way in which it came out differently."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headstart import config, result
from headstart.errors import InputError


def repeat(original: Path, fresh: Path) -> list[str]:
    """Repeat the run in `original` into `fresh`; a line for each difference, none if it is identical.

    Raises:
        InputError: if `original` holds no completed run, or its data or weights cannot be had any more.
    """
    before = result.read(original)
    if before is None or before["status"] != "completed":
        raise InputError(f"{original} must hold a completed run, but its result.json is missing or says otherwise.")
    cfg = config.load(original)

    from headstart import experiment
    from headstart.preparation import prepare

    job = prepare(cfg)
    after = experiment.run([job], [fresh])[0]
    if after["status"] != "completed":
        return [f"The repetition failed: {after['error']['message']}"]
    found = [*_changed_identity(before, after), *_metrics(before["metrics"], after["metrics"])]
    found += _predictions(original / "predictions.npz", fresh / "predictions.npz")
    if not found:
        return []
    if before["reading"].get("kept") != after["reading"].get("kept"):
        found.append("Training started from stored activations in one and not in the other: they round differently.")
    return [*found, *_environment(before["environment"], after["environment"])]


def _changed_identity(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    if before["run_id"] == after["run_id"]:
        return
    yield f"run_id: {before['run_id']} before, {after['run_id']} now: settings, data or weights are not the same"
    for key in ("fingerprint", "split_sha256"):
        if before["data"][key] != after["data"][key]:
            yield f"data.{key}: {before['data'][key][:12]} before, {after['data'][key][:12]} now"
    if before["weights"] != after["weights"]:
        yield f"weights: {before['weights']} before, {after['weights']} now"


def _metrics(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield f"{name}: {before.get(name)} before, {after.get(name)} now"


def _predictions(before: Path, after: Path) -> Iterator[str]:
    with np.load(before) as old, np.load(after) as new:
        for name in sorted({*old.files, *new.files}):
            if name not in old.files or name not in new.files or not np.array_equal(old[name], new[name]):
                yield f"predictions: {name} differs"


def _environment(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    flat = [{**side, **side.get("packages", {})} for side in (before, after)]
    for name in sorted({*flat[0], *flat[1]} - {"packages", "argv"}):
        if flat[0].get(name) != flat[1].get(name):
            yield f"environment: {name} was {flat[0].get(name)}, is {flat[1].get(name)}"
