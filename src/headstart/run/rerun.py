"""A run done again from its directory alone, and every way in which it came out differently."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headstart.config import earlier, guard, identity, recorded
from headstart.errors import InputError
from headstart.record import result
from headstart.record.directory import RunDirectory
from headstart.record.result import Failure, Result
from headstart.system import bounded
from headstart.system.bounded import DamagedError
from headstart.system.places import writable

NO_TRACKER = "headstart.record.trackers.NoTracker"
COMPARED = ("metrics", "data", "weights", "environment", "reading")
"""Entries of a result that are held against each other."""


def repeat(original: RunDirectory, fresh: RunDirectory) -> list[str]:
    """Repeat the run in `original` into `fresh`; a line for each difference, none if it is identical.

    Of a run that failed, the line says what came of it now.

    Raises:
        InputError: if `original` holds no run that came to an end, or its data or weights cannot be had any more.
    """
    before, predictions = _original(original)
    cfg = recorded.load(original.config)
    guard.forget_places(cfg)
    cfg.fused_with = 0
    writable(str(fresh.path), "The repetition's folder")

    from headstart.run import experiment
    from headstart.run.prepare import prepare

    cfg.logger = {"_target_": NO_TRACKER}  # which would go on with the original's, by its id
    try:
        job = prepare(cfg)
    except InputError as error:
        raise InputError(*error.messages, *_where_it_was_begun(cfg)) from error
    after = experiment.run([job], [fresh])[0]
    failed = None if after.is_completed else (after.error or Failure()).message
    if not before.is_completed:
        now = "completed" if failed is None else f"failed too: {failed}"
        return [f"The run had failed: {(before.error or Failure()).message}", f"The repetition {now}"]
    if failed is not None:
        return [f"The repetition failed: {failed}"]
    found = [*_changed_identity(before, after), *_metrics(before.metrics, after.metrics)]
    if not before.is_trial:  # which is not scored on test, and predicts nothing
        found += _predictions(predictions, bounded.arrays(fresh.predictions))
    if not found:
        return []
    if (before.reading or {}).get("kept") != (after.reading or {}).get("kept"):
        found.append("Training started from stored activations in one and not in the other: they round differently.")
    return [*found, *_environment(before.environment or {}, after.environment or {})]


def _where_it_was_begun(cfg: Any) -> Iterator[str]:
    """That a path of the data is relative, and leads nowhere from here."""
    for key in ("path", "root"):
        place = cfg.data.get(key)
        if not isinstance(place, str) or any(mark in place for mark in "*?[{"):
            continue
        if not Path(place).expanduser().is_absolute() and not Path(place).exists():
            yield (
                f"data.{key}={place} is relative to the folder in which the run was begun: run headstart rerun there, "
                "or put the data where they were."
            )


def _changed_identity(before: Result, after: Result) -> Iterator[str]:
    if before.run_id == after.run_id:
        return
    yield f"run_id: {before.run_id} before, {after.run_id} now"
    found = [*_changed_settings(before.settings, after.settings), *_changed_material(before, after)]
    yield from found or ["Settings, data and weights are the same; this version names or does such a run otherwise."]


def _changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    named = {earlier.present_name(key): value for key, value in before.items()}
    was = {key: value for key, value in named.items() if key not in identity.OFF or identity.OFF[key] != value}
    for key in sorted({*was, *after}):
        if key not in was:
            yield f"settings: {key} was not there before, is {after[key]} now"
        elif key not in after:
            yield f"settings: {key} was {was[key]}, is not there now"
        elif was[key] != after[key] and not key.endswith("_target_"):  # which tells where a part lies
            yield f"settings: {key} was {was[key]}, is {after[key]} now"


def _changed_material(before: Result, after: Result) -> Iterator[str]:
    for key in ("fingerprint", "split_sha256"):
        was, now = str(getattr(before.data, key)), str(getattr(after.data, key))
        if was != now:
            yield f"data.{key}: {was[:12]} before, {now[:12]} now"
    was, now = (run.to_dict()["weights"] for run in (before, after))
    if was != now:
        yield f"weights: {was} before, {now} now"


def _metrics(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(before):  # what an earlier version did not measure is no difference
        if before[name] != after.get(name):
            yield f"{name}: {before[name]} before, {after.get(name)} now"


def _predictions(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> Iterator[str]:
    for name in sorted(before):  # what an earlier version did not keep is no difference
        if name not in after or not np.array_equal(before[name], after[name]):
            yield f"predictions: {name} differs"


def _original(directory: RunDirectory) -> tuple[Result, dict[str, np.ndarray]]:
    """The result and the predictions of a run: all that a repetition is compared with, before it begins."""
    found = result.read(directory)
    if found is None:
        raise InputError(
            f"{directory.path} must hold a run that has ended, but it has no {directory.result.name} that can be read."
        )
    if found.status == "stopped":
        raise InputError(f"{directory.path} holds a trial of a search that is paused, and has no end to compare with.")
    if not found.is_completed:
        return found, {}
    lacking = [name for name in COMPARED if name in found.missing]
    facts = () if found.data is None else (found.data.fingerprint, found.data.split_sha256)
    if lacking or not facts or not all(isinstance(fact, str) and fact for fact in facts):
        raise InputError(f"{directory.result} is damaged: it lacks {', '.join(lacking) or 'what its data were'}.")
    if not isinstance((found.environment or {}).get("packages", {}), Mapping):
        raise InputError(f"{directory.result} is damaged: it lacks the versions of packages.")
    try:
        return found, {} if found.is_trial else bounded.arrays(directory.predictions)
    except (DamagedError, FileNotFoundError) as error:
        raise InputError(
            f"{directory.predictions} cannot be read, so a repetition could not be compared: {error}."
        ) from error


def _environment(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    flat = [{**side, **side.get("packages", {})} for side in (before, after)]
    for name in sorted({*flat[0], *flat[1]} - {"packages", "argv"}):
        if flat[0].get(name) != flat[1].get(name):
            yield f"environment: {name} was {flat[0].get(name)}, is {flat[1].get(name)}"
