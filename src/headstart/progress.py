"""What a person sees while runs go on: a live line on a terminal, plain lines elsewhere. On standard error."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from headstart.metrics import named
from headstart.names import plain

BAR, NARROW = 16, 6
"""Characters of a bar, and how few are too few."""
QUIET_SECONDS = 10.0
"""Least time between two lines of one run where there is no terminal."""


class Progress:
    """Shows one run's epochs: metrics so far and what remains."""

    def __init__(
        self,
        title: str,
        max_epochs: int,
        note: str = "",
        shown: Sequence[str] = (),
        live: bool | None = None,
        speaks: bool = True,
    ) -> None:
        self.title, self.max_epochs, self.shown = title, max_epochs, [one for one in shown if one != "val/loss"]
        self.speaks = speaks
        self.live = speaks and (sys.stderr.isatty() if live is None else live)
        self.began = self.last = time.monotonic()
        self.first_epoch: int | None = None
        self.scores = ""
        self._write(f"{title}  {note or 'starting'}")

    def step(self, epoch: int, step: int, num_steps: int) -> None:
        """Within an epoch, on a terminal only: how far the run is, and the scores of the epoch before."""
        if self.live and time.monotonic() - self.last > 0.2:
            self._show(epoch, epoch + step / max(1, num_steps))

    def epoch(self, row: Mapping[str, Any]) -> None:
        """At an epoch's end: its metrics."""
        epoch = int(row["epoch"])
        if self.first_epoch is None:
            self.first_epoch = epoch
        done, left = epoch + 1 - self.first_epoch, self.max_epochs - epoch - 1
        remaining = (time.monotonic() - self.began) / done * left
        self.scores = f"  train {row['train/loss']:.3f}  val {row['val/loss']:.3f}"
        self.scores += "".join(f" / {named(metric, row[metric])}" for metric in dict.fromkeys(self.shown))
        self.scores += f"  {duration(remaining)} left" if left else ""
        if self.live or time.monotonic() - self.last > QUIET_SECONDS or left == 0:
            self._show(epoch, epoch + 1)

    def done(self, text: str) -> None:
        """The run's last line, which stays."""
        self._write(f"{self.title}  {text}")
        if self.live:
            sys.stderr.write("\n")
            sys.stderr.flush()

    def _show(self, epoch: int, done: float) -> None:
        """One line; on a narrow terminal the bar gives way first, then the run's id."""
        title, where, width = self.title, f"  epoch {epoch + 1}/{self.max_epochs} ", BAR
        if self.live:
            room = _width() - len(where) - len(self.scores)
            if room - len(title) < NARROW:
                title = title.partition(" [")[0]
            width = max(0, min(BAR, room - len(title)))
        self._write(f"{title}{where}{bar(done / self.max_epochs, width)}{self.scores}")

    def _write(self, line: str) -> None:
        line = plain(line)
        self.last = time.monotonic()
        if not self.speaks:
            return
        sys.stderr.write(f"\r\x1b[2K{line[: _width()]}" if self.live else f"{line}\n")
        sys.stderr.flush()


def bar(share: float, width: int = BAR) -> str:
    """A bar of `width` characters, `share` of it full."""
    full = round(max(0.0, min(1.0, share)) * width)
    return "━" * full + "╌" * (width - full)


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns - 1
