"""How a model of sound is fed: as transformers' own feature extractor would feed it, read from the model's files."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from headstart.backbones import huggingface_files as files
from headstart.backbones.waveforms import KaldiFilterbank, Standardised, WhisperMel
from headstart.errors import InputError
from headstart.system import bounded

SPECTROGRAM, WHISPER = "audio-spectrogram-transformer", "whisper"
"""Types of models that read spectrograms; all others read waveforms."""
_USED = {
    "Wav2Vec2FeatureExtractor": ("sampling_rate", "do_normalize"),
    "ASTFeatureExtractor": ("sampling_rate", "do_normalize", "mean", "std"),
    "WhisperFeatureExtractor": ("sampling_rate", "n_fft", "hop_length", "padding_value"),
}
"""What each of transformers' feature extractors is asked for. Sizes are not: the model takes what it takes.

Nor is padding, but for Whisper, which reads it: a sound is read as it is read alone, whatever it lies in a batch with.
"""
_ABOVE_ZERO = ("sampling_rate", "n_fft", "hop_length", "std")
_MOST = {"sampling_rate": 1_000_000, "n_fft": 65_536, "hop_length": 65_536}
_PROCESSOR, _PREPROCESSOR = "processor_config.json", "preprocessor_config.json"
_FILES = f"{_PROCESSOR} or {_PREPROCESSOR}"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extractor:
    """A feature extractor with the settings that matter here."""

    kind: str
    settings: Mapping[str, Any]
    """Plain JSON: everything that decides what the model reads of a sound."""
    sizes: Mapping[str, int]
    """What the model takes: `num_frames` and `num_bins` of a spectrogram; nothing for waveforms."""

    @property
    def sample_rate(self) -> int:
        """Samples a second that the model was trained on."""
        return int(self.settings["sampling_rate"])

    @property
    def window(self) -> int | None:
        """The most samples that the model reads; `None` where nothing limits them."""
        if self.kind == "ASTFeatureExtractor":
            return KaldiFilterbank.samples(self.sizes["num_frames"])
        return self.sizes["num_frames"] * self.settings["hop_length"] if self.sizes else None

    def reader(self) -> nn.Module:
        """Turns waveforms into what the model reads: the same as transformers' own, for a batch on its device."""
        settings, sizes = self.settings, self.sizes
        if self.kind == "ASTFeatureExtractor":
            scale = (settings["mean"], settings["std"]) if settings["do_normalize"] else None
            return KaldiFilterbank(sizes["num_frames"], sizes["num_bins"], self.sample_rate, scale)
        if self.kind == "WhisperFeatureExtractor":
            lengths = settings["n_fft"], settings["hop_length"]
            return WhisperMel(**sizes, sample_rate=self.sample_rate, lengths=lengths, fill=settings["padding_value"])
        return Standardised(bool(settings["do_normalize"]))


def read_extractor(place: files.Place, config: Any) -> Extractor:
    """What lies with a model, by the rules of transformers; what no file says is transformers' default, and said.

    Raises `InputError` for files that cannot be read, or that ask for what is not done here.
    """
    kind = {SPECTROGRAM: "ASTFeatureExtractor", WHISPER: "WhisperFeatureExtractor"}.get(
        config.model_type, "Wav2Vec2FeatureExtractor"
    )
    sizes, named = _sizes(config)
    try:
        with files.quiet():
            said = _said(place, config, kind)
            found = _class(kind)(**{**said, **named})
    except InputError:
        raise
    except Exception as error:  # files that are damaged, or say what cannot be: each raises its own
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"transformers cannot read how {place.source} reads sounds ({_FILES}): {reason} Mend or remove these files."
        ) from error
    settings = {name: getattr(found, name) for name in _USED[kind]}
    _check(place, kind, found, settings)
    _say_what_is_guessed(place, kind, said, settings)
    _say_what_is_not_used(place, kind, said, {**named, **_seconds(found, sizes)})
    return Extractor(kind, settings, sizes)


def _class(kind: str) -> Any:
    import transformers

    return getattr(transformers, kind)


def _sizes(config: Any) -> tuple[dict[str, int], dict[str, int]]:
    """The size of the spectrogram that a model takes, and how its feature extractor names that."""
    if config.model_type == SPECTROGRAM:
        frames, bins = int(config.max_length), int(config.num_mel_bins)
        return {"num_frames": frames, "num_bins": bins}, {"max_length": frames, "num_mel_bins": bins}
    if config.model_type == WHISPER:
        bins = int(config.num_mel_bins)
        return {"num_frames": 2 * int(config.max_source_positions), "num_bins": bins}, {"feature_size": bins}
    return {}, {}


def _seconds(found: Any, sizes: Mapping[str, int]) -> dict[str, float]:
    """The length that Whisper's extractor would have to be set to for this model."""
    if not hasattr(found, "chunk_length"):
        return {}
    return {"chunk_length": sizes["num_frames"] * found.hop_length / found.sampling_rate}


def _said(place: files.Place, config: Any, kind: str) -> dict[str, Any]:
    """What the model's files say, once it is clear that transformers would take them for an extractor of this kind."""
    from transformers import AutoFeatureExtractor, FeatureExtractionMixin

    if not _has_extractor(place.folder):
        return {}
    options = {"local_files_only": True, "trust_remote_code": False}
    own = type(AutoFeatureExtractor.from_pretrained(place.folder, config=config, **options)).__name__
    if own != kind:
        raise InputError(
            f"{place.source} reads sounds by {own}, but models of the type {config.model_type!r} are read by {kind} "
            "here. Choose another model."
        )
    said, _ = FeatureExtractionMixin.get_feature_extractor_dict(place.folder, local_files_only=True)
    return dict(said)


def _has_extractor(folder: Path) -> bool:
    """Whether a file is about an extractor, alone or within what is said of the whole processor."""
    processor = folder / _PROCESSOR
    parts = set(bounded.json_value(processor)) if processor.is_file() else set()
    return (folder / _PREPROCESSOR).is_file() or bool(parts & {"feature_extractor", "audio_processor"})


def _check(place: files.Place, kind: str, found: Any, settings: Mapping[str, Any]) -> None:
    problems = [
        f"{name} must be a number{' above 0' if name in _ABOVE_ZERO else ''}"
        f"{f' and at most {_MOST[name]:,}' if name in _MOST else ''}, but is {value!r}"[:300]
        for name, value in settings.items()
        if not isinstance(value, (int, float))
        or not abs(value) < float("inf")
        or (name in _ABOVE_ZERO and not 0 < value <= _MOST.get(name, float("inf")))
    ]
    if kind == "WhisperFeatureExtractor" and found.padding_side != "right":
        problems.append(f"padding_side must be right, as sounds are padded at their end, but is {found.padding_side!r}")
    if problems:
        raise InputError(*(f"In {_FILES} of {place.source}, {problem}. Mend it there." for problem in problems))


def _say_what_is_guessed(place: files.Place, kind: str, said: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    guessed = [name for name in settings if name not in said and name != "padding_value"]
    if guessed:
        _log.warning(
            "%s does not say how its sounds are read: neither processor_config.json nor preprocessor_config.json gives "
            "%s. Taken are the defaults of transformers' %s: %s.",
            place.source,
            ", ".join(guessed),
            kind,
            ", ".join(f"{name}={settings[name]}" for name in guessed),
        )


def _say_what_is_not_used(place: files.Place, kind: str, said: Mapping[str, Any], taken: Mapping[str, Any]) -> None:
    other = {name: said[name] for name in taken if name in said and said[name] != taken[name]}
    if other:
        _log.warning(
            "%s: the feature extractor says %s, but the model takes %s, and this is what it gets.",
            place.source,
            ", ".join(f"{name}={value}" for name, value in other.items()),
            ", ".join(f"{name}={taken[name]:g}" for name in other),
        )
    own = said.get("auto_map", {}).get("AutoFeatureExtractor") or said.get("feature_extractor_type", kind)
    if own != kind:
        _log.warning(
            "%s asks for a feature extractor %s, which transformers does not have; code from a model's files is never "
            "run. Read by %s, as transformers itself would.",
            place.source,
            own,
            kind,
        )
    if said.get("dither"):
        _log.warning(
            "%s: the feature extractor adds noise (dither=%s); it is left out, so that a sound always gives the same.",
            place.source,
            said["dither"],
        )
    if kind == "ASTFeatureExtractor" and said.get("sampling_rate", 16_000) != 16_000:
        _log.warning(
            "%s: at %s samples a second transformers cuts frames of 400 samples every 160 without torchaudio, and of "
            "25 ms every 10 ms with it. The former is done here.",
            place.source,
            said["sampling_rate"],
        )
