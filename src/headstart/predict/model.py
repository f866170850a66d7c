"""A finished run, or several of its seeds, as a model that answers for new examples."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, isnan
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from headstart.data.cells import Missing
from headstart.data.unlabelled import Reader, reader_of
from headstart.errors import InputError
from headstart.predict.answer import Answer, answers
from headstart.predict.inputs import Example, Inputs, gather
from headstart.predict.layout import OF_LABELS, OF_NUMBERS, Layout
from headstart.predict.stream import place_of, stream
from headstart.report.selected import is_comparison, selected
from headstart.run.load import FinishedRun
from headstart.run.load import load as load_run
from headstart.training import calibration
from headstart.training.calibration import Conformal


@dataclass(frozen=True)
class Model:
    """A trained model with all that it needs to read new examples; `headstart.load` makes one."""

    runs: Sequence[FinishedRun]
    """The run that it is of; of an ensemble all, whose probabilities (or numbers) are averaged."""
    chosen: str = ""
    """How it was selected, where a comparison was named."""

    @property
    def run(self) -> FinishedRun:
        """The (first) run: its settings, record, backbone and head."""
        return self.runs[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the outputs: classes, labels or numbers."""
        return self.run.classes

    @property
    def module(self) -> nn.Module:
        """An ordinary `nn.Module` in eval mode, from raw inputs to logits `(B, C)` (for numbers, standardised ones).

        It takes pictures `(B, C, H, W)`, uint8, uint16 or floats from 0 to 1, token ids `(B, L)` with their mask, or
        waveforms `(B, T)` with their lengths; it can be pickled and compiled.
        """
        return self.run.module

    def predict(
        self,
        inputs: Any,
        *,
        top: int | None = None,
        calibrated: bool = False,
        interval: float | None = None,
        batch_size: int | None = None,
        device: str = "auto",
    ) -> list[Answer]:
        """Answers for new examples, one each, in order.

        Args:
            inputs: One or several. Of a model of pictures: paths, `PIL.Image`s, or arrays `(H, W, C)` uint8 (of a run
                that kept 16 bits a value, uint16 as well, on the scale of its own files). Of texts: texts, or of a run
                on pairs tuples of two. Of sounds: paths, or pairs of an array `(T,)` and its sample rate.
            top: How many of the likeliest classes `Answer.all` holds; `None` for all.
            calibrated: Divide logits by the temperature that was best on val.
            interval: Give regions that hold the truth with this probability (see `calibration.Conformal`).
            batch_size: Examples at a time; `None` for the run's own.
            device: `auto`, `cpu`, `cuda`.

        Raises:
            InputError: if something that was asked for is not to be had; an example that cannot be read has its reason
                in `Answer.error`.
        """
        if isinstance(inputs, Mapping) or hasattr(inputs, "columns"):
            raise InputError(
                "Examples must come one after the other, but this is a table or a mapping, of which the names of "
                "columns would be read: give one column (frame['text']), or the path of the table to headstart predict."
            )
        modality, num_texts = self.run.modality, max(1, len(self.run.parts.data.content_columns))
        several = inputs if isinstance(inputs, Iterable) and not _is_one(inputs, modality, num_texts) else [inputs]
        examples = (_example(modality, num_texts, place, one) for place, one in enumerate(several))
        return list(self.answers(examples, self.reader(), top, calibrated, interval, batch_size, device))

    def answers(
        self,
        examples: Iterable[Example],
        reader: Reader,
        top: int | None = None,
        calibrated: bool = False,
        interval: float | None = None,
        batch_size: int | None = None,
        device: str = "auto",
    ) -> Iterator[Answer]:
        """As `predict`, one after the other as they come."""
        regions = self.check(top, calibrated, interval)
        reader.check()
        said = partial(self._said, place=str(place_of(device)), calibrated=calibrated or interval is not None)
        found = stream(examples, reader, said, batch_size or self.run.cfg.trainer.batch_size)
        return answers(found, self.run.task, self.classes, top, regions)

    def reader(self) -> Reader:
        """What reads new examples as the run read its own."""
        return reader_of(self.run.modality, self.run.scales, self.run.reading.arguments)

    def gather(self, words: Sequence[str], reader: Reader, root: Path | None = None) -> Inputs:
        """The examples that paths, patterns and tables name."""
        data = self.run.cfg.data
        missing = Missing.of(data.get("missing_values"))
        return gather(words, reader, self.run.parts.data, missing, root, data.get("encoding"))

    def layout(self, top: int | None, interval: float | None) -> Layout:
        """How its answers are laid out."""
        between = getattr(self.run.task, "separator", ",")
        return Layout(self.run.task.name, self.classes, top, interval is not None, between)

    def check(self, top: int | None, calibrated: bool, interval: float | None) -> Conformal | None:
        """The regions that were asked for.

        Raises:
            InputError: if this model cannot give what was asked for.
        """
        task = self.run.task.name
        if top is not None and (task == OF_NUMBERS or top < 1):
            raise InputError("top must be a whole number above 0, and is for classes, not for numbers.")
        if calibrated and task == OF_NUMBERS:
            raise InputError("Probabilities are calibrated; numbers have none. Ask for an interval (0.9, say).")
        if (calibrated or interval is not None) and len(self.runs) > 1:
            raise InputError("An average over seeds has no calibration of its own: leave out one or the other.")
        if interval is not None and not 0 < interval < 1:
            raise InputError(f"An interval is the share of the truth that it is to hold, as 0.9, but got {interval:g}.")
        if interval is not None and task == OF_LABELS:
            raise InputError("Regions are for one class each and for numbers, not for several labels.")
        where, sizes = str(self.run.directory.path), (self.run.result.data and self.run.result.data.sizes) or {}
        if calibrated or interval is not None:
            calibration.check_kept(self._calibration, where, sizes.get("val"))
        if calibrated:
            calibration.check_tempered(self._calibration or {}, where)
        if interval is None:
            return None
        found = calibration.conformal(self._calibration or {}, interval, task == OF_NUMBERS)
        if found is None:
            raise InputError(
                f"Regions that hold {interval:g} of the truth need {calibration.needed(interval)} validation examples "
                f"or more, but the run had {(self._calibration or {})['num_val']}. Ask for less."
            )
        return found

    @property
    def _calibration(self) -> Mapping[str, Any] | None:
        return self.run.result.calibration

    def _said(self, batch: Mapping[str, Tensor], place: str, calibrated: bool) -> np.ndarray:
        """What the runs say of a batch `(B, O)`, on average."""
        divisor = float((self._calibration or {}).get("temperature", 1.0)) if calibrated else 1.0
        said = [run.task.said(run.predict([{"inputs": batch}], place) / divisor) for run in self.runs]
        return said[0] if len(said) == 1 else np.mean(said, axis=0)


def load(directory: str | Path, *, ensemble: bool = False) -> Model:
    """A finished run as a model; of a comparison, the best run on val of the contender that is selected there.

    No training data are needed. A head that was trained on frozen features needs the backbone's weights from where they
    came from; they must be the very same.

    Args:
        directory: Of a run, or of a comparison.
        ensemble: Of a comparison, average over all runs of the selected contender.

    Raises:
        InputError: if there is no completed run, or its weights cannot be had.

    Example:
        >>> import headstart
        >>> model = headstart.load(run_dir)
        >>> answer = model.predict(picture)[0]
        >>> answer.label in model.classes, 0 < answer.score <= 1
        (True, True)
    """
    path = Path(directory).expanduser()
    if not is_comparison(path):
        if ensemble:
            raise InputError(f"An ensemble averages the runs of a comparison, but {path} is not the directory of one.")
        return Model([load_run(path)])
    choice = selected(path)
    runs = [load_run(place) for place in (choice.runs if ensemble else choice.runs[:1])]
    first = runs[0]
    for run in runs[1:]:
        if (run.classes, run.reading.description, run.scales) != (
            first.classes,
            first.reading.description,
            first.scales,
        ):
            raise InputError(
                f"Runs {first.directory.path.name} and {run.directory.path.name} differ in their classes or in "
                "how they read examples, so that they cannot be averaged. Name a run's directory."
            )
    return Model(runs, choice.words)


def _is_one(inputs: Any, modality: str, num_texts: int) -> bool:
    """Whether this is one example, not several; those of a run on texts have so many each."""
    if isinstance(inputs, (str, bytes, Path)) or hasattr(inputs, "read") or getattr(inputs, "ndim", 1) == 0:
        return True
    if isinstance(inputs, tuple) and len(inputs) == 2:
        if isinstance(inputs[1], str):
            return modality == "text" and num_texts == 2
        return modality == "audio" and isinstance(inputs[1], Real)
    is_array = isinstance(inputs, np.ndarray) and inputs.dtype.kind in "buif"
    return is_array and inputs.ndim in {"audio": (1, 2), "vision": (2, 3), "text": ()}[modality]


def _example(modality: str, num_texts: int, place: int, one: Any) -> Example:
    """One of several; what cannot be one has its reason."""
    if one is None or (isinstance(one, Real) and isnan(one)) or type(one).__name__ == "NAType":  # that of pandas
        return Example(str(place), None, "there is nothing")
    if modality == "text":
        return _texts(num_texts, place, one)
    if isinstance(one, (str, Path)):
        return Example(str(one), Path(one).expanduser())
    if modality == "audio":
        if not (
            isinstance(one, (tuple, list)) and len(one) == 2 and isinstance(one[1], Real) and 1 <= float(one[1]) < inf
        ):
            return Example(str(place), None, "a sound in memory is a pair: its samples (T,) and their rate in Hz")
        return Example(str(place), (one[0], round(float(one[1]))))
    return Example(str(place), one)


def _texts(num_texts: int, place: int, one: Any) -> Example:
    texts = (one,) if isinstance(one, str) else tuple(one) if isinstance(one, (tuple, list)) else ()
    if len(texts) != num_texts or not all(isinstance(text, str) for text in texts):
        what = "two texts, as a tuple" if num_texts == 2 else "one text"
        return Example(str(place), None, f"the run reads {what}, and this is {one!r}"[:200])
    return Example(" | ".join(texts), tuple(text.strip() for text in texts))
