"""Examples that an export is checked with: the run's own test examples where its data are at hand, else drawn ones."""

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headstart import notes
from headstart.backbones.backbone import Inputs, Reading
from headstart.config import recorded
from headstart.data.deep_pictures import plain_pages
from headstart.data.folders import suffix_of
from headstart.data.images import ImageFiles
from headstart.data.picture_values import WHITE
from headstart.data.source import Source
from headstart.data.text_sources import TextSource
from headstart.data.unlabelled import PictureReader
from headstart.errors import InputError
from headstart.export.plain_model import PlainModel
from headstart.export.snippets import has_pairs
from headstart.run.chosen import parts_of
from headstart.system import bounded

NUM = 4
"""Examples that are compared."""
SHAPES = ((61, 83), (200, 97), (64, 64), (97, 301))
"""Width and height in pixels of pictures that are drawn."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examples:
    """A few examples as a stranger has them, and as the run reads them."""

    given: dict[str, Any]
    """By the name that the card's code has for them: `paths` of pictures, `texts`, or `sounds` at the right rate."""
    inputs: Sequence[Inputs]
    """One batch to each example, which reads as it does alone."""
    are_real: bool
    """Whether they are test examples of the run."""

    def batches(self, size: int) -> Iterator[dict[str, Any]]:
        """What is given, so many examples at a time."""
        for start in range(0, len(self.inputs), size):
            yield {name: values[start : start + size] for name, values in self.given.items()}

    @property
    def words(self) -> str:
        what = "test examples of the run" if self.are_real else "made-up examples, as the run's data are not at hand"
        return f"{len(self.inputs)} {what}"


def examples(model: PlainModel, folder: Path) -> Examples:
    """Examples for a model; files of theirs are written to `folder`."""
    own = _own(model)
    make = {"vision": _pictures, "text": _texts, "audio": _sounds}[model.modality]
    given, inputs = make(model, own, folder)
    return Examples(given, inputs, own is not None)


@dataclass(frozen=True)
class _Own:
    """A run's data, and some of its test examples by place."""

    source: Source
    places: list[int]


def _own(model: PlainModel) -> _Own | None:
    """Where they are, and hold what they held."""
    run = model.run
    try:
        with notes.quiet():
            source = parts_of(recorded.load(run.directory.config)).data
            source.check()
            known = {name: place for place, name in enumerate(source.ids)}
        arrays = bounded.arrays(run.directory.predictions, bounded.MOST_UNPACKED)
        wanted = [known[name] for name in arrays["test/id"].tolist() if name in known]
    except (InputError, OSError, KeyError, bounded.DamagedError) as error:
        log.debug("The data of the run cannot be used: %s", error)
        return None
    spaced = np.linspace(0, len(wanted) - 1, min(NUM, len(wanted))).round().astype(int)
    return _Own(source, [wanted[place] for place in spaced]) if wanted else None


# --- pictures --------------------------------------------------------------------------------------------------------


def _pictures(model: PlainModel, own: _Own | None, folder: Path) -> tuple[dict[str, Any], list[Inputs]]:
    if model.is_deep:
        return _deep_pictures(model, own, folder)
    channels = model.run.reading.arguments.get("channels", 3)
    if own is not None and isinstance(own.source, ImageFiles):  # files as they are, which the card's code opens itself
        paths = [
            folder / f"{number}{suffix_of(own.source.ids[place].rpartition('/')[2])}"
            for number, place in enumerate(own.places)
        ]
        for path, place in zip(paths, own.places, strict=True):
            path.write_bytes(own.source.files(place))
    else:
        found = (
            [_drawn_picture(number, channels) for number in range(NUM)]
            if own is None
            else _own_pictures(own, model.run.reading)
        )
        paths = [folder / f"{number}.{'png' if channels in (1, 3) else 'tif'}" for number in range(len(found))]
        for path, (first, *more) in zip(paths, found, strict=True):
            first.save(path, **({"save_all": True, "append_images": more} if more else {}))
    reader = PictureReader(model.run.scales, **model.run.reading.arguments)
    return {"paths": [str(path) for path in paths]}, [reader.batch([reader.read(path)]) for path in paths]


def _deep_pictures(model: PlainModel, own: _Own | None, folder: Path) -> tuple[dict[str, Any], list[Inputs]]:
    """Files as they are, but for colours of 16 bits, of which Pillow reads 8: those are written anew for both."""
    reader = PictureReader(model.run.scales, **model.run.reading.arguments)
    channels = model.run.reading.arguments.get("channels", 3)
    paths: list[str] = []
    inputs: list[Inputs] = []
    for number in range(NUM if own is None else len(own.places)):
        if own is not None and isinstance(own.source, ImageFiles):
            content = own.source.files(own.places[number])
            if "colour" not in model.run.scales:
                paths.append(str(folder / str(number)))
                Path(paths[-1]).write_bytes(content)
                inputs.append(reader.batch([reader.read(Path(paths[-1]))]))
                continue
            pages_of = plain_pages(content, channels)
        else:
            pages_of = _drawn_deep(number, channels, model.run.scales.get("integer"))
        path = folder / f"{number}.tif"
        pages_of[0].save(path, save_all=True, append_images=pages_of[1:])
        paths.append(str(path))
        inputs.append(reader.batch([reader.read(path)]))
    return {"paths": paths}, inputs


def _drawn_deep(number: int, channels: int, scale: tuple[float, float] | None) -> list[Any]:
    from PIL import Image

    if scale is None:
        return _drawn_picture(number, channels)
    low, high = scale
    shape = 7, 5, 1 if channels == 3 else channels
    coarse = np.random.default_rng(number).uniform(max(low, 0), min(high, WHITE), shape)
    sized = [Image.fromarray(coarse[..., place].astype(np.float32)).resize(SHAPES[number], Image.Resampling.BILINEAR)
             for place in range(coarse.shape[2])]  # fmt: skip
    return [Image.fromarray(np.asarray(one).round().astype(np.uint16)) for one in sized]


def _own_pictures(own: _Own, reading: Reading) -> list[list[Any]]:
    """Of data that are no files, as a person would see them."""
    from PIL import Image

    drawn = own.source.examples(**reading.arguments)
    contents = [drawn.preview(place) for place in own.places]
    return [[Image.open(io.BytesIO(content)).convert("RGB")] for content in contents if isinstance(content, bytes)]


def _drawn_picture(number: int, channels: int) -> list[Any]:
    from PIL import Image

    size = SHAPES[number]
    coarse = np.random.default_rng(number).integers(0, 256, (7, 5, channels), dtype=np.uint8)
    parts = [coarse] if channels == 3 else [coarse[..., place] for place in range(channels)]
    return [Image.fromarray(part).resize(size, Image.Resampling.BICUBIC) for part in parts]


# --- texts -----------------------------------------------------------------------------------------------------------


def _texts(model: PlainModel, own: _Own | None, folder: Path) -> tuple[dict[str, Any], list[Inputs]]:
    reading, pairs = model.run.reading, None
    tokenizer = reading.arguments["tokenizer"]
    if own is not None and isinstance(own.source, TextSource):
        content = own.source.content
        texts = [content.texts[place] for place in own.places]
        pairs = None if content.pairs is None else [content.pairs[place] for place in own.places]
    else:
        texts = ["A good one.", "It is not very good at all, and it was dear.", "the red cat", "Why? " * 300]
        pairs = texts[1:] + texts[:1] if has_pairs(model) else None
    encoded = tokenizer.encode(texts, pairs, reading.arguments["max_length"])
    inputs: list[Inputs] = []
    for ids, types in zip(encoded["ids"], encoded["types"], strict=True):
        one = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.int64)}
        inputs.append({**one, "token_type_ids": torch.tensor([types])} if tokenizer.has_types else one)
    return {"texts": texts if pairs is None else list(zip(texts, pairs, strict=True))}, inputs


# --- sounds ----------------------------------------------------------------------------------------------------------


def _sounds(model: PlainModel, own: _Own | None, folder: Path) -> tuple[dict[str, Any], list[Inputs]]:
    reading = model.run.reading.arguments
    longest = model.num_samples
    if own is None:
        waves = [_drawn_sound(number, longest) for number in range(NUM)]
        sounds = [(torch.from_numpy(wave), len(wave)) for wave in waves]
    else:
        with notes.quiet():
            batches = [own.source.examples(**reading).batch([place]) for place in own.places]
        sounds = [(batch["waveform"][0], int(batch["lengths"][0])) for batch in batches]
    inputs: list[Inputs] = []
    for wave, length in sounds:
        padded = torch.nn.functional.pad(
            wave[:length], (0, longest - length if reading.get("padding") == "fixed" else 0)
        )
        inputs.append({"waveform": padded[None], "lengths": torch.tensor([length])})
    return {"sounds": [wave[:length].numpy().copy() for wave, length in sounds]}, inputs


def _drawn_sound(number: int, longest: int) -> np.ndarray:
    length = max(800, longest * (number + 2) // (NUM + 1))
    dice = np.random.default_rng(number)
    tone = np.sin(np.arange(min(length, longest)) * (0.05 + 0.1 * number))
    return (0.2 * tone + 0.02 * dice.standard_normal(len(tone))).astype(np.float32)


def largest_difference(model: PlainModel, found: Tensor, reference: Tensor) -> tuple[float, float]:
    """The largest difference of outputs `(N, O)`, and its share of their size (see `PlainModel.tolerance`)."""
    if found.shape != reference.shape or not bool(torch.isfinite(found).all()):
        return float("inf"), float("inf")
    apart = (found.double() - reference.double()).abs()
    return float(apart.max()), float((apart / model.tolerance(reference).double()).max())
