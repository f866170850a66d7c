"""Sources divided as a run divides them, for tests."""

from headstart.data.source import Source
from headstart.run.pools import ask, check_columns, pool_of
from headstart.splits.holdout import Column, Holdout
from headstart.splits.splitter import Split, Splitter
from headstart.tasks.multiclass import Multiclass


def asking(source: Source, splitter: Splitter) -> Source:
    """The source, which brings the columns that the splitter needs."""
    ask(source, splitter, Multiclass())
    return source


def parted(source: Source, column: str = "part") -> Source:
    """The source with a column that says its parts."""
    return asking(source, Column(column))


def divided(source: Source, splitter: Splitter | None = None, seed: int = 0) -> Split:
    """How a run of that seed divides it."""
    splitter = splitter or Holdout()
    ask(source, splitter, Multiclass())
    source.check()
    check_columns(source)
    return splitter.split(pool_of(source, splitter, Multiclass()), seed, source.columns)
