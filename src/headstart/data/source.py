"""What every dataset is to the rest of the program: labelled examples that can be checked, split and read."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor

from headstart.errors import InputError

Cell = Any
"""What stands as an example's label: a text, several texts, or pairs of a column and what it holds (tuples)."""


class Encoded(Protocol):
    """Labels as they are trained on, with the names of what is predicted."""

    @property
    def values(self) -> np.ndarray: ...
    @property
    def names(self) -> tuple[str, ...]: ...


Encode = Callable[[Sequence[Cell], str, tuple[str, ...] | None], Encoded]
"""From cells, what they were read from (for messages), and the names there must be, where other data were read before.

Raises `InputError` for what is no label.
"""


class Whole(Protocol):
    """Whole examples, one at a time."""

    @property
    def identity(self) -> str: ...
    def __getitem__(self, place: int) -> Tensor: ...


class Examples(ABC):
    """Examples as one backbone reads them (decoded and sized, tokenised, resampled), kept where memory allows."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """The examples at `indices`, in that order, collated: batch-first tensors, by name."""

    @property
    def identity(self) -> str:
        """Names what a backbone reads, for what is computed of it: the contents, what read them in which version, and
        the checksum of what is kept."""
        return ""

    def verify(self) -> None:  # noqa: B027  (most keep nothing)
        """Raise `InputError` if what is kept of them is no longer as it was read: half a second for a gigabyte."""

    @property
    def is_kept(self) -> bool:
        """Whether a batch is only copied, out of memory or a file, with nothing to be decoded."""
        return False

    @property
    def lengths(self) -> np.ndarray | None:
        """Length of each example `(N,)` where batches are best made of like lengths; else `None`."""
        return None

    def preview(self, index: int) -> bytes | str | None:
        """One example for a person to look at: a PNG or a text; `None` where there is nothing to see."""
        return None

    def uncut(self, needed: bool) -> "Whole | None":
        """The examples before their rims were cut off, for augmentations that cut; `None` where there are none, or it
        was not asked for: by a setting, or because the augmentation has to have them (`needed`)."""
        return None

    def statistics(self) -> dict[str, Any]:
        """Facts about reading that belong in the result (token counts, truncation rate)."""
        return {}


class Source(ABC):
    """A labelled dataset as configured. Making one is instant; `check` reads what has to be read, once."""

    modality: Literal["vision", "text", "audio"]
    name: str
    fractions: tuple[float, float] = (0.15, 0.15)
    """Usual shares of val and test, where the data bring no split of their own and a run does not say."""
    content_columns: tuple[str, ...] = ()
    """Columns in which a table of such examples has what is predicted from: a file, a text, or the two of a pair."""
    asked: Mapping[str, str] = MappingProxyType({})
    """Columns that the run's split needs, by the setting that names each; set before anything is read."""
    parts_column: str | None = None
    """The one among them that says which part each example is of."""
    encode: Encode
    """How labels are read; the run's task says it, before anything is read."""
    origin: "Source | None" = None
    """The source that this one is a shift of: what is predicted has the same names."""
    paired_shifts: bool = False
    """Whether example `i` of every shift is example `i` of this source, seen otherwise.

    Then a run may score its own test indices only, as it has trained on the others.
    """

    @abstractmethod
    def check(self) -> None:
        """Raise one `InputError` with everything that is wrong; after it the properties below are at hand."""

    @property
    @abstractmethod
    def cells(self) -> Sequence[Cell]:
        """What stands as each example's label."""

    @property
    def problems(self) -> Sequence[str]:
        """What keeps the examples from being used, found where they are listed."""
        return ()

    @property
    def where(self) -> str:
        """What the examples were read from, for messages."""
        return self.name

    @cached_property
    def encoded(self) -> Encoded:
        """What the labels are to be trained on as.

        Raises:
            InputError: if they cannot be, or there are `problems`.
        """
        if self.problems:
            raise InputError(*self.problems)
        return self.encode(self.cells, self.where, None if self.origin is None else self.origin.classes)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what is predicted: where an example has one class, label `i` is `classes[i]`."""
        return self.encoded.names

    @property
    def labels(self) -> np.ndarray:
        """`(N,)` int64, the class of each example; `(N, O)` float32 where it has several labels, or numbers."""
        return self.encoded.values

    @property
    @abstractmethod
    def ids(self) -> tuple[str, ...]:
        """A stable name for each example: a relative path, a code point, a row number."""

    @property
    @abstractmethod
    def parts(self) -> np.ndarray | None:
        """`"train"`, `"val"`, `"test"` (or `""`: to be drawn) for each example where the data says so; else `None`."""

    @property
    def columns(self) -> Mapping[str, Sequence[str]]:
        """The columns that were asked for, by name: a value for each example, `""` where there is none."""
        return {}

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """sha256 over the contents and labels of all examples: the same data gives the same, wherever it lies."""

    @property
    def contents(self) -> Sequence[str] | None:
        """A hash of each example's content, equal for exact copies; `None` where there can be none."""
        return None

    def extents(self, places: Sequence[int]) -> list[tuple[int, int]]:
        """Width and height in pixels of the pictures at `places`, before they are sized; empty where that means
        nothing, or all have the size that they are read at."""
        return []

    @property
    def is_here(self) -> bool:
        """Whether it can be read without the network."""
        return True

    @property
    def facts(self) -> dict[str, Any]:
        """What was found in reading that belongs in the record, in plain JSON: files by suffix, say."""
        return {}

    @property
    def shifts(self) -> Mapping[str, "Source"]:
        """Extra test sets with the same classes, by name; every example of one is scored (but see `paired_shifts`)."""
        return {}

    @property
    def overrides(self) -> dict[str, Any]:
        """Arguments of `examples` that the user set over what the backbone asks for: `{"size": 96}`, say."""
        return {}

    @property
    def own_reading(self) -> dict[str, Any]:
        """Arguments of `examples` that follow from what the data hold; known once they are checked."""
        return {}

    @abstractmethod
    def examples(self, **reading: Any) -> Examples:
        """All examples, as a backbone's `reading().arguments` ask for them."""
