"""How sure the models are, and how often what they were sure of held on test."""

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

import numpy as np

from headstart.report.analysis import Analysis
from headstart.report.design import Condition
from headstart.report.metric import number
from headstart.report.tables import Cell, Column, Table

LEVEL = "0.9"
NOTE = (
    "Means over the runs of the selected settings. A temperature and regions are found on val (headstart predict "
    "--calibrated, --interval). That regions hold the truth so often rests on val and new examples coming from the "
    "same place; as the epoch was chosen on val too, it may be missed a little. Covered is what was measured on test."
)


def sureness(analysis: Analysis, condition: Condition) -> Table | None:
    """Calibration error before and after, and regions at 0.9, by contender; `None` where no run kept any."""
    columns = [
        Column("contender", "Contender"),
        Column("calibration_error", "Calibration error", True, "expected, on test"),
        Column("calibrated_error", "With temperature", True, "the same, with logits divided by what was best on val"),
        Column("covered", f"Covered at {LEVEL}", True, "share of regions that hold the truth of a test example"),
        Column("size", "Size", True, "mean number of classes in a set, or width of an interval"),
    ]
    table = Table("sureness", "How sure the models are, and how often that held on test", columns, note=NOTE)
    for row in analysis.summaries.get(condition, []):
        runs = list(row.cell.selected.runs.values()) if row.cell.selected else []
        found = [_facts(run.calibration) for run in runs if run.calibration]
        if found:
            label = row.cell.contender.label
            table.add(Cell(label, label), *(_mean([one[place] for one in found]) for place in range(4)))
    return table if table.rows else None


def _facts(calibration: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Calibration error before and after, share covered and size; of several numbers their mean."""
    try:
        errors = (calibration.get("calibration_error") or {}).get("test") or (nan, nan)
        region = (calibration.get("coverage") or {}).get(LEVEL) or {}
        covered, size = (float(np.mean(region.get(name, nan))) for name in ("covered", "size"))
        return float(errors[0]), float(errors[1]) if len(errors) > 1 else nan, covered, size
    except (TypeError, ValueError, IndexError, AttributeError):  # a record that others wrote
        return nan, nan, nan, nan


def _mean(values: Sequence[float]) -> Cell:
    known = [value for value in values if np.isfinite(value)]
    return Cell(number(float(np.mean(known))), float(np.mean(known))) if known else Cell("–", nan)
