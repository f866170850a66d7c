"""Activations of frozen models, kept on disk and found again by what they were computed from.

An entry is a folder named by the sha256 of its key: one `.npy` file to an array, and `meta.json` with the key, shapes,
types and checksums, written last. It is built beside its place and renamed into it, so that an entry is whole or
absent; of two processes that fill the same one at once, the first to finish wins and the other's work is dropped.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart.errors import InputError
from headstart.features.array_file import ArrayWriter, as_tensor
from headstart.system import bounded, memory, places
from headstart.system.bounded import DamagedError
from headstart.system.checksums import crc32_of_file, read_sealed, sealed
from headstart.system.lock import Lock
from headstart.system.process import draft_of, left_in

_FORMAT = 1
_META = "meta.json"
_DRAFT = ".draft-"
_LOCK = ".claim-"

_log = logging.getLogger(__name__)

Batch = tuple[np.ndarray, Mapping[str, Tensor]]
"""Rows `(B,)`, each once in all batches together, and what belongs there: arrays `(B, …)` by name."""


@dataclass(frozen=True)
class StoredEntry:
    """An entry as listed."""

    digest: str
    key: Mapping[str, Any]
    num_bytes: int
    used: float
    """When it was last read or written, in seconds since 1970."""


def digest_of(key: Mapping[str, Any]) -> str:
    """sha256 of the key as canonical JSON; the key must be JSON of text keys, without NaN."""
    text = json.dumps([_FORMAT, key], sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    assert json.loads(text) == [_FORMAT, key], "a feature key must survive JSON unchanged (text keys, lists, no tuples)"
    return sha256(text.encode()).hexdigest()


class FeatureStore:
    """A folder of entries within a budget of bytes; processes and machines may share it."""

    def __init__(self, root: Path, budget_bytes: int) -> None:
        self.root = Path(root)
        self.budget_bytes = budget_bytes

    def get(self, key: Mapping[str, Any]) -> dict[str, Tensor] | None:
        """The entry's arrays, memory-mapped `(num_rows, …)`; `None` if it is not there.

        Checksums are verified once per process and file (about a second for 2 GB); a damaged entry is removed.
        """
        self._remove_claims()
        return self._found(key)

    def has(self, key: Mapping[str, Any]) -> bool:
        """Whether there is such an entry, as far as can be said without reading it."""
        return (self.root / digest_of(key) / _META).is_file()

    def _found(self, key: Mapping[str, Any]) -> dict[str, Tensor] | None:
        folder = self.root / digest_of(key)
        try:
            arrays = self._open(folder, key)
        except FileNotFoundError as error:
            if not folder.exists():
                return None
            why = f"{Path(error.filename or _META).name} is missing"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = str(error)
        else:
            _touch(folder)
            return arrays
        _log.warning("Features in %s are damaged (%s); they are computed again.", folder, why)
        _remove(folder)
        return None

    def fill(self, key: Mapping[str, Any], batches: Iterable[Batch], num_rows: int) -> dict[str, Tensor]:
        """Write arrays of `num_rows` rows as the key's entry, from batches in any order, and open it.

        While another process fills the same entry, this one waits, and then takes it; if that one dies, it goes on
        itself. `batches` is not begun before it is needed. In a folder that may only be read nothing is written: then
        the arrays lie in memory.

        Raises:
            InputError: The entry is larger than the budget or than half of the free memory, or the disk is full;
                nothing is left behind.
        """
        digest = digest_of(key)
        if places.closed(self.root):
            return self._in_memory(batches, num_rows)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with Lock(self.root / f"{_LOCK}{digest}"):
                found = self._found(key)
                if found is None:
                    self._remove_drafts()
                    found = self._write(digest, key, batches, num_rows)
        except OSError as error:
            raise self._explained(error) from error
        return found

    def entries(self) -> list[StoredEntry]:
        """All entries, the least recently used first; before them those of which nothing can be said, without a key."""
        found = []
        for folder in self._folders():
            try:
                num_bytes = sum(path.stat().st_size for path in folder.iterdir())
            except OSError:  # removed meanwhile
                continue
            try:
                key = read_sealed(folder / _META)["key"]
                found.append(StoredEntry(folder.name, key, num_bytes, (folder / _META).stat().st_mtime))
            except (OSError, DamagedError):
                found.append(StoredEntry(folder.name, {}, num_bytes, 0.0))
        return sorted(found, key=lambda entry: (entry.used, entry.digest))

    def prune(self, budget_bytes: int | None = None, spare: str | None = None) -> list[StoredEntry]:
        """Remove the least recently used entries until the rest fits; also what dead processes left half-written.

        A process that has an entry open keeps what it mapped. `spare` is the digest of an entry to keep. Returns what
        was removed.
        """
        budget = self.budget_bytes if budget_bytes is None else budget_bytes
        self._remove_drafts()
        entries = self.entries()
        total, removed = sum(entry.num_bytes for entry in entries), []
        for entry in entries:
            if total <= budget:
                break
            if entry.digest != spare and _remove(self.root / entry.digest):
                total -= entry.num_bytes
                removed.append(entry)
        return removed

    def _open(self, folder: Path, key: Mapping[str, Any]) -> dict[str, Tensor]:
        meta = read_sealed(folder / _META)
        if meta["format"] != _FORMAT or meta["key"] != key:
            raise DamagedError("it is another entry")
        arrays = {}
        for name, facts in meta["arrays"].items():
            path = folder / facts["file"]
            if crc32_of_file(path) != facts["crc32"]:
                raise DamagedError(f"{path.name} is not as it was written")
            arrays[name] = as_tensor(bounded.mapped_array(path, "c"), facts["dtype"])
        return arrays

    def _write(self, digest: str, key: Mapping[str, Any], batches: Iterable[Batch], num_rows: int) -> dict[str, Tensor]:
        """Write an entry and open it, while it is still a draft: from then on others may evict it at any time."""
        draft = draft_of(self.root / f"{_DRAFT[1:]}{digest[:16]}")
        draft.mkdir()
        try:
            arrays = self._write_arrays(draft, digest, batches, num_rows)
            meta = {"format": _FORMAT, "key": key, "arrays": arrays}
            with open(draft / _META, "w") as file:
                json.dump(sealed(meta), file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            _sync_folder(draft)
            try:
                opened = self._open(draft, key)
            except DamagedError as error:
                raise OSError(errno.EIO, f"what was written to {self.root} is not what is read there") from error
            _put_in_place(draft, self.root / digest)
            _sync_folder(self.root)
            return opened
        finally:
            _remove(draft)

    def _write_arrays(self, draft: Path, digest: str, batches: Iterable[Batch], num_rows: int) -> dict[str, Any]:
        writers: dict[str, ArrayWriter] = {}
        written = np.zeros(num_rows, dtype=bool)
        try:
            for rows, batch in batches:
                assert not written[rows].any(), "every row must be given once"
                written[rows] = True
                if not writers:
                    self._make_room(batch, num_rows, digest)
                    writers = {
                        name: ArrayWriter(draft / f"{place}.npy", tensor, num_rows)
                        for place, (name, tensor) in enumerate(batch.items())
                    }
                assert batch.keys() == writers.keys(), "every batch must have the same arrays"
                for name, tensor in batch.items():
                    writers[name].put(rows, tensor)
            assert written.all(), f"{written.sum()} of {num_rows} rows were given"
            return {name: writer.finish() for name, writer in writers.items()}
        finally:
            for writer in writers.values():
                writer.file.close()

    def _in_memory(self, batches: Iterable[Batch], num_rows: int) -> dict[str, Tensor]:
        arrays: dict[str, Tensor] = {}
        for rows, batch in batches:
            if not arrays:
                self._check_size(batch, num_rows, memory.free_bytes() // 2, "half of the free memory")
                with torch.inference_mode(False):  # the batches come out of it, and others train on these
                    arrays = {name: tensor.new_empty((num_rows, *tensor.shape[1:])) for name, tensor in batch.items()}
            for name, tensor in batch.items():
                arrays[name][torch.from_numpy(rows)] = tensor
        return arrays

    def _make_room(self, batch: Mapping[str, Tensor], num_rows: int, digest: str) -> None:
        """Evict for what is coming, so that the budget holds while it is written too."""
        coming = self._check_size(batch, num_rows, self.budget_bytes, "the budget")
        self.prune(self.budget_bytes - coming, spare=digest)

    def _check_size(self, batch: Mapping[str, Tensor], num_rows: int, most: int, what: str) -> int:
        """Bytes of what is coming. Raises `InputError` if these are more than `most`."""
        coming = sum(tensor.nbytes // len(tensor) for tensor in batch.values()) * num_rows
        if coming > most:
            raise InputError(
                f"Features must fit the store's budget, but they take {coming:,} bytes and {what} is {most:,}: raise "
                "the budget, or use fewer examples or fewer views."
            )
        return coming

    def _folders(self) -> list[Path]:
        if not self.root.is_dir():
            return []
        return [path for path in self.root.iterdir() if len(path.name) == 64 and path.is_dir()]

    def _remove_drafts(self) -> None:
        """Drafts that processes left which are gone; of those of other machines, what is a day old."""
        for draft in left_in(self.root, f"{_DRAFT}*"):
            shutil.rmtree(draft, ignore_errors=True)

    def _remove_claims(self) -> None:
        """Claims of processes that were killed when their entry was in place: nobody would ask for them again."""
        with contextlib.suppress(OSError):  # a store that may only be read
            for path in self.root.glob(f"{_LOCK}{'?' * 64}"):
                with Lock(path, wait=False):  # it is removed on leaving
                    pass
            self._remove_drafts()

    def _explained(self, error: OSError) -> Exception:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
            return error
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = "Free some space there, or" if is_full else "Make it writable, or"
        return InputError(
            f"Features cannot be written to {self.root} ({error.strerror}). {mend} set HEADSTART_CACHE to another one."
        )


def _put_in_place(draft: Path, folder: Path) -> None:
    try:
        draft.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _remove(folder: Path) -> bool:
    """Rename, then remove: others see a whole entry or none. False if it may not be done."""
    gone = draft_of(folder.with_name(f"{_DRAFT[1:]}gone"))
    try:
        folder.rename(gone)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    shutil.rmtree(gone, ignore_errors=True)
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _touch(folder: Path) -> None:
    # a store that may only be read keeps no record of use
    with contextlib.suppress(OSError):
        os.utime(folder / _META)
