"""Tokenizers and feature extractors as transformers saves them, set to read as the run did."""

import inspect
from pathlib import Path
from typing import Any

from headstart.backbones.huggingface_audio_model import AudioBackbone
from headstart.backbones.huggingface_model import TextBackbone
from headstart.export.plain_model import PlainModel

_READ = ("input_ids", "token_type_ids", "attention_mask")


def save_reader(model: PlainModel, folder: Path) -> Any:
    """Write the tokenizer or feature extractor of a transformers model, and give it back."""
    if isinstance(model.backbone, TextBackbone):
        reader = _tokenizer(model, model.backbone)
    else:
        assert isinstance(model.backbone, AudioBackbone)
        reader = _extractor(model)
    reader.save_pretrained(folder)
    return reader


def _tokenizer(model: PlainModel, backbone: TextBackbone) -> Any:
    from transformers import AutoTokenizer

    factory: Any = model.factory
    tokenizer: Any = AutoTokenizer.from_pretrained(factory.place.folder, local_files_only=True, trust_remote_code=False)
    tokenizer.model_max_length = model.run.reading.arguments["max_length"]
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    taken = inspect.signature(backbone.model.forward).parameters
    tokenizer.model_input_names = [
        name for name in _READ if name in taken and name in {*tokenizer.model_input_names, "attention_mask"}
    ]
    return tokenizer


def _extractor(model: PlainModel) -> Any:
    import transformers

    extractor, config = model.run.extractor, model.backbone.model.config  # type: ignore[union-attr]
    settings, sizes = dict(extractor.settings), dict(extractor.sizes)
    if extractor.kind == "ASTFeatureExtractor":
        more: dict[str, Any] = {"max_length": sizes["num_frames"], "num_mel_bins": sizes["num_bins"]}
    elif extractor.kind == "WhisperFeatureExtractor":
        seconds = sizes["num_frames"] * settings["hop_length"] / settings["sampling_rate"]
        length = int(seconds) if seconds == int(seconds) else seconds
        more = {"feature_size": sizes["num_bins"], "chunk_length": length, "return_attention_mask": True}
    else:  # of a batch's padding a group norm would see more than a mask can hide
        more = {"return_attention_mask": getattr(config, "feat_extract_norm", "group") == "layer"}
    return getattr(transformers, extractor.kind)(**settings, **more)
