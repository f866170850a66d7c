"""A run done again from its directory alone, and every way in which it came out differently."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headstart.config import guard, recorded
from headstart.errors import InputError
from headstart.record import result
from headstart.system import bounded
from headstart.system.bounded import DamagedError
from headstart.system.places import writable

COMPARED = ("metrics", "data", "weights", "environment", "reading")
"""Entries of a result that are held against each other."""


def repeat(original: Path, fresh: Path) -> list[str]:
    """Repeat the run in `original` into `fresh`; a line for each difference, none if it is identical.

    Of a run that failed, the line says what came of it now.

    Raises:
        InputError: if `original` holds no run that came to an end, or its data or weights cannot be had any more.
    """
    before, predictions = _original(original)
    cfg = recorded.load(original)
    guard.forget_places(cfg)
    cfg.fused_with = 0
    writable(str(fresh), "The repetition's folder")

    from headstart.run import experiment
    from headstart.run.job import prepare

    job = prepare(cfg)
    after = experiment.run([job], [fresh])[0]
    if before["status"] != "completed":
        now = "completed" if after["status"] == "completed" else f"failed too: {after['error']['message']}"
        return [f"The run had failed: {(before.get('error') or {}).get('message')}", f"The repetition {now}"]
    if after["status"] != "completed":
        return [f"The repetition failed: {after['error']['message']}"]
    found = [*_changed_identity(before, after), *_metrics(before["metrics"], after["metrics"])]
    found += _predictions(predictions, bounded.arrays(fresh / result.PREDICTIONS))
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
    for name in sorted(before):  # what an earlier version did not measure is no difference
        if before[name] != after.get(name):
            yield f"{name}: {before[name]} before, {after.get(name)} now"


def _predictions(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        if name not in before or name not in after or not np.array_equal(before[name], after[name]):
            yield f"predictions: {name} differs"


def _original(directory: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The result and the predictions of a run: all that a repetition is compared with, before it begins."""
    found = result.read(directory)
    if found is None:
        raise InputError(f"{directory} must hold a run that has ended, but it has no result.json that can be read.")
    if found["status"] != "completed":
        return found, {}
    lacking = [name for name in COMPARED if not isinstance(found.get(name), Mapping)]
    if lacking or not {"fingerprint", "split_sha256"} <= found["data"].keys():
        raise InputError(
            f"{directory / result.FILE} is damaged: it lacks {', '.join(lacking) or 'what its data were'}."
        )
    try:
        return found, bounded.arrays(directory / result.PREDICTIONS)
    except (DamagedError, FileNotFoundError) as error:
        raise InputError(
            f"{directory / result.PREDICTIONS} cannot be read, so a repetition could not be compared: {error}."
        ) from error


def _environment(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    flat = [{**side, **side.get("packages", {})} for side in (before, after)]
    for name in sorted({*flat[0], *flat[1]} - {"packages", "argv"}):
        if flat[0].get(name) != flat[1].get(name):
            yield f"environment: {name} was {flat[0].get(name)}, is {flat[1].get(name)}"
