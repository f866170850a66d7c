"""What every format is: a folder that is written, and the code by which a stranger loads it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from headstart.export.plain_model import PlainModel

PIPELINES = {"vision": "image-classification", "text": "text-classification", "audio": "audio-classification"}


@dataclass(frozen=True)
class Code:
    """Python that a card shows and the check runs: from `folder` and the examples to `logits` `(B, O)`.

    It needs nothing of this program.
    """

    title: str
    source: str


@dataclass(frozen=True)
class Written:
    """What was written, for the card."""

    library: str
    """The hub's name of what loads it."""
    codes: tuple[Code, ...]
    words: tuple[str, ...] = ()
    """What has to be known to use it, in Markdown."""
    batch_sizes: tuple[int, ...] = ()
    """At which, beside all examples at once, the check is to be repeated."""


class Format(ABC):
    """A way in which a model leaves the house."""

    name: ClassVar[str]

    @abstractmethod
    def refusal(self, model: PlainModel) -> str | None:
        """Why a model cannot go there, in words that follow its name; `None` if it can."""

    @abstractmethod
    def write(self, model: PlainModel, folder: Path) -> Written:
        """Write a model to an empty folder."""
