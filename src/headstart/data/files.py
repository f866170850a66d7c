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
from headstart.data.source import Source
from headstart.errors import InputError, collect
from headstart.names import listed

log = logging.getLogger(__name__)


class FileSource(Source):
    """Subclasses say which files there are, how one is verified, and how one of its shifts is made."""

    name: str
    _shift_of: "FileSource | None" = None
    """The source that this one is a shift of: it has the same classes."""
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

    @cached_property
    def classes(self) -> tuple[str, ...]:
        return self._shift_of.classes if self._shift_of else tuple(sorted(set(self.listing.names)))

    @cached_property
    def labels(self) -> np.ndarray:
        places = {name: label for label, name in enumerate(self.classes)}
        return np.array([places[name] for name in self.listing.names], dtype=np.int64)

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
        collect([self._check_listing, lambda: found.extend(check_files(self.listing, self._verify(), self.reader))])
        problems = self._judge(found)
        if problems:
            raise InputError(*problems)
        return found

    @property
    def files(self) -> CheckedFiles:
        """The files' contents."""
        return CheckedFiles(self.listing.paths, self.contents)

    @cached_property
    def contents(self) -> list[str]:
        return [finding.sha256 for finding in self.findings]

    @cached_property
    def fingerprint(self) -> str:
        listing, contents = self.listing, self.contents
        parts = listing.parts or ("",) * len(listing.ids)
        return content_fingerprint(list(zip(listing.ids, contents, listing.names, parts, strict=True)))

    @property
    def facts(self) -> dict[str, Any]:
        return {"files": {name: dict(counts) for name, counts in self.listing.files.items()}}

    @cached_property
    def shifts(self) -> Mapping[str, Source]:
        made: dict[str, Source] = {}
        for name, place in self._shift_places.items():
            made[name] = source = self._shift(name, Path(place).expanduser())
            source._shift_of = self
            source._setting = f"data.shifts.{name}"
            source.name = name
        return made

    def _check_listing(self) -> None:
        listing = self.listing
        problems = list(listing.problems)
        found = set(listing.names)
        if self._shift_of is not None:
            strange = sorted(found - set(self.classes))
            if strange:
                problems.append(
                    f"{listing.root} has classes that the training data lacks: {listed(strange)}. A shift must "
                    f"have the same classes: {listed(list(self.classes))}."
                )
        elif not problems and len(found) < 2:
            problems.append(f"{listing.root} has one class, {listed(sorted(found))}: at least two are needed.")
        if problems:
            raise InputError(*problems)
