"""Tells the tracker of a comparison's runs what the comparison came to; whatever goes wrong with it is a warning."""

import csv
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from headstart.config import binding
from headstart.record.directory import SweepDirectory
from headstart.record.mirror import Mirror
from headstart.record.trackers import Comparison, NoTracker, Sheet, Tracker
from headstart.record.writing import write_bytes
from headstart.report.build import Report
from headstart.system import bounded
from headstart.system.bounded import DamagedError

log = logging.getLogger(__name__)

MOST_BYTES = 4096
"""Of what is kept of what its tracker was told."""
MOST_ROWS = 10_000
"""Rows of a table that a tracker is given; the report's files have all."""


def tell(directory: Path, made: Report, cfg: DictConfig, patience: float | None = None) -> None:
    """Hand a comparison to the tracker that `cfg` names, unless it knows just this already."""
    try:
        settings = cast(dict[str, Any], OmegaConf.to_container(cfg.logger, resolve=True))
        tracker = binding.construct(settings, "logger", Tracker)
        if isinstance(tracker, NoTracker):
            return
        tables = _sheets(made.tables)
        comparison = Comparison(str(cfg.name), directory, made.directory, made.answer, made.counts, tables)
        digest = _digest(comparison, settings)
        if _told(directory) != digest and Mirror(tracker, patience).compare(comparison):
            write_bytes(SweepDirectory(directory).told, digest.encode())
    except Exception as error:  # the comparison is done and on the disk
        log.warning("The tracker was not told what the comparison came to: %r", error)


def _sheets(tables: Sequence[Path]) -> dict[str, Sheet]:
    """The tables that carry the claim, with the values of their CSV files."""
    names = {path.stem: path for path in tables if path.suffix == ".csv"}
    chosen = [name for name in names if name.startswith(("comparison", "differences", "data-set"))]
    return {name: _sheet(names[name]) for name in chosen}


def _sheet(path: Path) -> Sheet:
    """A CSV file; a column holds numbers if all that is in it are."""
    with path.open(encoding="utf8", newline="") as file:
        header, *rows = islice(csv.reader(file), 1 + MOST_ROWS)
    columns = [_values([row[place] for row in rows]) for place in range(len(header))]
    return Sheet(header, list(zip(*columns, strict=True)))


def _values(texts: Sequence[str]) -> Sequence[float | str | None]:
    try:
        return [float(text) if text else None for text in texts]
    except ValueError:
        return [text or None for text in texts]


def _digest(comparison: Comparison, settings: Mapping[str, Any]) -> str:
    sheets = {name: [sheet.columns, sheet.rows] for name, sheet in comparison.sheets.items()}
    told = [comparison.group, comparison.answer, comparison.counts, sheets, settings]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _told(directory: Path) -> str | None:
    try:
        return bounded.text(SweepDirectory(directory).told, MOST_BYTES)
    except (FileNotFoundError, DamagedError):
        return None
