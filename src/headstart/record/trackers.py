"""Mirrors of a run's record in W&B, TensorBoard and the like: what each is told."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.record import silence

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunCard:
    """What a tracker is told about a run when it starts."""

    run_id: str
    directory: Path
    group: str
    job_type: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Sheet:
    """A table of the report: a number or a text to a cell, `None` where nothing is known."""

    columns: Sequence[str]
    rows: Sequence[Sequence[float | str | None]]


@dataclass(frozen=True)
class Comparison:
    """What a tracker is told about a comparison when its report is written."""

    group: str
    directory: Path
    """The comparison's own; trackers may keep files in it."""
    report: Path
    """The folder that holds `report.html`, `tables/` and `figures/`."""
    answer: Sequence[str]
    """Sentences, the headline first."""
    counts: Mapping[str, int]
    """Runs by status."""
    sheets: Mapping[str, Sheet]

    @property
    def figures(self) -> list[Path]:
        """The report's drawings, as SVG."""
        return sorted((self.report / "figures").glob("*.svg"))


class Tracker(ABC):
    """Receives a run's rows as they come. Instances are configured once and used for one run at a time."""

    package: str | None = None
    """What has to be installed for it, beside what always is; the extra of that name brings it."""
    patience: float = 20.0
    """Seconds that a run waits at its end, at most, until the tracker has taken everything."""
    answer_seconds = silence.ANSWER_SECONDS
    """How long its server may take to say anything."""

    @abstractmethod
    def start(self, card: RunCard) -> None:
        """Open the run."""

    @abstractmethod
    def log(self, row: Mapping[str, float], epoch: int) -> None:
        """Take note of one epoch."""

    @abstractmethod
    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        """Close the run with its final numbers; `exit_code` 0 means it completed."""

    def rescue(
        self, rows: Sequence[tuple[Mapping[str, float], int]], summary: Mapping[str, Any], exit_code: int
    ) -> str:
        """Keep a run that was not taken in time, or not well, so that it can be sent later; says how, if it can be."""
        return ""

    def compare(self, comparison: Comparison) -> None:
        """Take note, in a record of its own, of what a comparison came to; not every tracker has a place for that."""
        log.debug("%s keeps no comparisons.", type(self).__name__)


class NoTracker(Tracker):
    """Keeps nothing: `history.csv` and `result.json` are always written."""

    def start(self, card: RunCard) -> None:
        pass

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        pass

    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        pass
