"""What every backbone is to the rest of the program: inputs → features, in ordered depth groups."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from headstart.config.sides import Sides
from headstart.errors import InputError

Granularity = Literal["blocks", "stages"]
Inputs = Mapping[str, Tensor]
"""A batch as the data room gives it, by name: `pixels`, or `input_ids` and `attention_mask`, or `waveform` …"""


@dataclass(frozen=True)
class DepthGroup:
    """Neighbouring layers that thaw together, with every tensor they own, by qualified name."""

    name: str
    parameters: Mapping[str, nn.Parameter]
    buffers: Mapping[str, Tensor]
    modules: tuple[nn.Module, ...]
    """The outermost modules that lie wholly in this group: what `eval()` has to reach when it is frozen."""


@dataclass(frozen=True)
class WeightsRecord:
    """Where a backbone's weights came from; `sha256` is of the file that was read, `None` for random ones."""

    source: str
    sha256: str | None = None
    ignored: tuple[str, ...] = ()
    """Keys of the file that were left out by name (the old classifier), and what lies beside the model (`name.*`)."""
    place: str = ""
    """Where in the file the model is: what comes before its own names."""


class Backbone(nn.Module, ABC):
    """A model without its classifier: inputs → pooled features `(B, num_features)`."""

    num_features: int
    weights: WeightsRecord
    num_weighed: int = 1
    """Of how many vectors side by side the features are, which the head is to weigh; 1: they are one."""

    @abstractmethod
    def forward(self, inputs: Inputs) -> Tensor:
        """Pooled features `(B, num_features)`, float; preprocessing (scaling, normalising) included."""

    @abstractmethod
    def groups(self, granularity: Granularity = "blocks") -> list[DepthGroup]:
        """Every parameter and buffer in exactly one group, from the input to the output: stem, …, tail."""

    @property
    def unset(self) -> dict[str, str]:
        """Parameters that no weights set, by name, with the setting that brings them: they mean nothing untrained."""
        return {}

    def channel_axis(self, values: Tensor) -> int:
        """Where the channels are in what a block gives `(B, …)`: `(B, C, H, W)`, or `(B, positions, C)`."""
        return 2 if values.ndim == 3 else 1

    def real_positions(self, inputs: Inputs, values: Tensor) -> Tensor | None:
        """Which positions `(B, positions)` of what a block gives are no padding; `None` where all count."""
        return None

    @property
    @abstractmethod
    def boundaries(self) -> list[str]:
        """Names of the (block-granular) groups after which `prefix` and `suffix` can cut the model exactly.

        In depth order; the last group of all is always among them, with the pooled features as activations.
        """

    @abstractmethod
    def prefix(self, inputs: Inputs, boundary: str) -> dict[str, Tensor]:
        """Run the groups up to and with `boundary`: batch-first tensors that `suffix` can start from."""

    def num_positions(self, lengths: np.ndarray) -> np.ndarray | None:
        """How many positions `(N,)` activations of examples of these lengths `(N,)` have; `None` if all have as many.

        Where examples differ, activations but the features are `(B, positions, …)`, 0 beyond an example's own.
        """
        return None

    @abstractmethod
    def suffix(self, activations: Inputs, boundary: str) -> Tensor:
        """Run what lies after `boundary`: the same features as `forward` gives, bit for bit in eval mode."""


class BackboneFactory(ABC):
    """A backbone as configured, not yet built. Building it may take seconds; making this takes none."""

    modality: Literal["vision", "text", "audio"]
    name: str
    optional_inputs: frozenset[str] = frozenset()
    """What it also reads where an augmentation adds it."""
    reads_one_size: bool = False
    """Whether all examples are read at one size, so that the work on one is that on any."""
    rate: float = 1.0
    """What the strategy's rate is multiplied by for this family's layers: strategies' rates are those of a CNN."""

    @abstractmethod
    def check(self, pretrained: bool) -> None:
        """Raise `InputError` for an unknown model or weights that cannot be had; reads no whole weights file twice."""

    @abstractmethod
    def identity(self, pretrained: bool) -> dict[str, Any]:
        """What can change the features: model name and arguments, weights sha256 or hub name @ revision."""

    @abstractmethod
    def record(self, pretrained: bool) -> WeightsRecord:
        """Where a built backbone's weights come from, without building it or fetching anything.

        What was ignored is not told, and `sha256` only of files that are here.
        """

    @abstractmethod
    def reading(self) -> "Reading":
        """How the data must be read for this backbone (size, interpolation; tokenizer; sample rate)."""

    def shapes(self, num_examples: int, **reading: Any) -> dict[str, Tensor] | None:
        """A batch of the largest examples there may be, read so, on the meta device; `None` where it is not known."""
        return None

    def for_pictures(self, size: Sides | None, fit: str | None = None, channels: int = 3) -> "BackboneFactory":
        """The same for pictures of so many channels and `size` pixels, brought to it by `fit` (`data.fit`); `None`: as
        its weights say.

        Raises:
            InputError: if that contradicts what it was told itself, or it cannot be told.
        """
        if fit is not None or channels != 3:
            raise InputError(
                f"data.fit and data.channels are for backbones that say how pictures are read, as those of timm do; "
                f"{self.name} does not. Leave them out, or choose another backbone."
            )
        return self

    def for_clips(self, seconds: float | None) -> "BackboneFactory":
        """The same for sounds of at most so many `seconds` (`None`: what it reads where nothing is said)."""
        return self

    def for_head_alone(self) -> "BackboneFactory":
        """The same where nothing but a head is ever trained: what would have to train of it is left to the head."""
        return self

    @property
    def model_files(self) -> Mapping[str, Path]:
        """Small files by name that making the model and reading for it takes, but for weights; what a library brings
        is not among them."""
        return {}

    def with_model_files(self, folder: Path) -> "BackboneFactory":
        """The same by the files in `folder`, copies of `model_files`."""
        return self

    def source_classifier(self) -> nn.Linear:
        """The classifier that the weights were pretrained with, from features to logits of the source classes.

        Raises:
            InputError: if the weights bring none, or none that is one linear layer on the features.
        """
        raise InputError(
            "strategy.regularizer=CoTuning tunes the classifier that the backbone was pretrained with, but "
            f"{self.name} comes without one. Use a backbone of timm whose weights bring theirs "
            "(backbone=efficientnet_lite0, say), or another strategy."
        )

    def rebuild(self, num_features: int) -> Backbone:
        """The backbone of a finished run, every tensor of which is about to be loaded; it gave `num_features`.

        Raises:
            InputError: if it can no longer be made.
        """
        self.check(False)
        return self.build(False)

    @abstractmethod
    def build(self, pretrained: bool) -> Backbone:
        """The backbone on the CPU; `pretrained=False` gives random weights from torch's global generator."""


@dataclass(frozen=True)
class Reading:
    """Keyword arguments for the data's `examples(...)`, with a description that can be hashed.

    `arguments` are live (a tokenizer, say); `description` is plain JSON and names everything that matters.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    description: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    """The largest values that may be set over some of the arguments: beyond them the backbone reads nothing."""

    def over(self, own: Mapping[str, Any]) -> "Reading":
        """With what the data have set over it."""
        return Reading({**self.arguments, **own}, {**self.description, **in_json(own)}, self.limits)


def in_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has them: lists for tuples."""
    made: dict[str, Any] = json.loads(json.dumps(values))
    return made
