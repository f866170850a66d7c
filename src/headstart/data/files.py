"""A source whose examples are files, of whatever kind: listed, checked, labelled, with extra test sets."""

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from headstart.data.file_check import CheckedFiles, Finding, Verify, check_files, content_fingerprint
from headstart.data.listing import Listing
from headstart.data.source import Cell, Source
from headstart.errors import InputError, collect

log = logging.getLogger(__name__)


class FileSource(Source):
    """Subclasses say which files there are, how one is verified, and how one of its shifts is made."""

    name: str
    _setting: str = "data.root"
    """The setting that says where this source lies, for messages."""

    def __init__(self, shifts: Mapping[str, str] | None) -> None:
        self._shift_places = dict(shifts or {})

    @abstractmethod
    def _list(self) -> Listing:
        """The files and labels; raises `InputError` where not even that can be said."""

    @property
    @abstractmethod
    def reader(self) -> str:
        """Names and numbers the way of reading, versions included; kept findings of another one do not count."""

    @abstractmethod
    def _verify(self) -> Verify:
        """What reads one file's content and raises where it cannot."""

    @abstractmethod
    def _shift(self, name: str, place: Path) -> "FileSource":
        """The extra test set in a folder or table."""

    def _judge(self, findings: Sequence[Finding]) -> list[str]:
        """What is wrong with the files as a whole, once each can be read."""
        return []

    def _remarks(self) -> Sequence[str]:
        """What is to be said of the files, once they are checked."""
        return self.listing.remarks

    def check(self) -> None:
        collect([lambda: self.fingerprint, lambda: collect([shift.check for shift in self.shifts.values()])])
        for remark in self._remarks():
            log.warning("%s", remark)

    @cached_property
    def listing(self) -> Listing:
        """The files; the first look reads the folder or table."""
        return self._list()

    @property
    def cells(self) -> Sequence[Cell]:
        return self.listing.cells

    @property
    def problems(self) -> Sequence[str]:
        return self.listing.problems

    @property
    def where(self) -> str:
        return self.listing.table or str(self.listing.root)

    @property
    def ids(self) -> tuple[str, ...]:
        return self.listing.ids

    @property
    def parts(self) -> np.ndarray | None:
        return None if self.listing.parts is None else np.array(self.listing.parts, dtype="<U5")

    @property
    def columns(self) -> Mapping[str, Sequence[str]]:
        return self.listing.columns

    @cached_property
    def findings(self) -> Sequence[Finding]:
        """What was found in each file; the first look reads those that were not read before."""
        found: list[Finding] = []
        collect([lambda: self.encoded, lambda: found.extend(check_files(self.listing, self._verify(), self.reader))])
        problems = self._judge(found)
        if problems:
            raise InputError(*problems)
        return found

    @cached_property
    def files(self) -> CheckedFiles:
        """The files' contents."""
        return CheckedFiles(self.listing.contents, self.contents)

    @cached_property
    def contents(self) -> list[str]:
        return [finding.sha256 for finding in self.findings]

    @cached_property
    def fingerprint(self) -> str:
        listing, contents = self.listing, self.contents
        parts = listing.parts or ("",) * len(listing.ids)
        return content_fingerprint(list(zip(listing.ids, contents, listing.cells, parts, strict=True)))

    @property
    def facts(self) -> dict[str, Any]:
        return {"files": {name: dict(counts) for name, counts in self.listing.files.items()}}

    @cached_property
    def shifts(self) -> Mapping[str, Source]:
        made: dict[str, Source] = {}
        for name, place in self._shift_places.items():
            made[name] = source = self._shift(name, Path(place).expanduser())
            source.origin, source.encode = self, self.encode
            source._setting = f"data.shifts.{name}"
            source.name = name
        return made
