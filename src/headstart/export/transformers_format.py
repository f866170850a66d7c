"""A folder for transformers' Auto classes and pipelines: its own classifier where that does the same, else ours."""

import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from headstart.backbones.huggingface_model import TransformersBackbone
from headstart.backbones.timm_model import TimmBackbone
from headstart.export import snippets
from headstart.export.format import PIPELINES, Code, Format, Written
from headstart.export.native import labels, native
from headstart.export.plain_model import PlainModel
from headstart.export.reader_files import save_reader
from headstart.record.writing import write_json

MODULE = "pooled_classifier.py"
"""The model's code, where transformers has none that does the same; nothing imports it but who wants to."""
_CLASSES = {"text": "AutoModelForSequenceClassification", "audio": "AutoModelForAudioClassification"}


class TransformersFormat(Format):
    """What `save_pretrained` writes: config.json, weights, tokenizer or feature extractor."""

    name = "transformers"

    def refusal(self, model: PlainModel) -> str | None:
        if isinstance(model.backbone, TimmBackbone):
            more = " (--to timm writes a folder that transformers reads too)" if model.modality == "vision" else ""
            return f"the model is timm's{more}"
        if not isinstance(model.backbone, TransformersBackbone):
            return "the model is none of transformers"
        if model.layers != "last" and native(model) is None:
            return "its head reads the outputs of all layers, which no classifier that transformers has for it does"
        return None

    def write(self, model: PlainModel, folder: Path) -> Written:
        reader = save_reader(model, folder)
        whole = native(model)
        if whole is None:
            _write_pooled(model, folder)
        else:
            if model.modality == "text" and whole.config.pad_token_id is None:
                whole.config.pad_token_id = reader.pad_token_id
            whole.save_pretrained(folder)
        before = "" if whole is not None else f"{snippets.IMPORT_POOLED}\n"
        codes = (
            Code(f"With {_CLASSES[model.modality]}", before + _loaded(model)),
            Code("With pipeline", before + _piped(model)),
        )
        return Written("transformers", codes, tuple(_words(model, whole)))


def _write_pooled(model: PlainModel, folder: Path) -> None:
    backbone = model.backbone
    assert isinstance(backbone, TransformersBackbone)
    inner: Any = backbone.model.config
    own = {f"backbone.{name}": value for name, value in backbone.model.state_dict().items()}
    head = {f"head.{name}": value for name, value in model.head.state_dict().items()}
    save_file({name: value.contiguous().clone() for name, value in {**own, **head}.items()},
              folder / "model.safetensors", {"format": "pt"})  # fmt: skip
    config = {
        "model_type": "headstart_pooled",
        "architectures": ["PooledClassifier"],
        "dtype": "float32",
        "backbone": inner.to_dict(),
        "pooling": backbone.pooling,
        "widths": model.widths,
        **labels(model),
    }
    write_json(folder / "config.json", config)
    shutil.copy(Path(__file__).with_name(MODULE), folder / MODULE)


def _loaded(model: PlainModel) -> str:
    auto = _CLASSES[model.modality]
    reader = {"text": "AutoTokenizer", "audio": "AutoFeatureExtractor"}[model.modality]
    if model.modality == "text":
        run = (
            f'batch = reader({snippets.texts(model)}, padding=True, truncation=True, return_tensors="pt")\n'
            "with torch.inference_mode():\n"
            "    logits = model(**batch).logits\n"
        )
    else:
        run = (
            "with torch.inference_mode():  # one sound at a time, as padding is not silence to every model\n"
            "    logits = torch.cat([\n"
            '        model(**reader(sound, sampling_rate=reader.sampling_rate, return_tensors="pt")).logits\n'
            "        for sound in sounds\n"
            "    ])\n"
        )
    return (
        "import torch\n"
        f"from transformers import {', '.join(sorted((auto, reader)))}\n\n"
        f"reader = {reader}.from_pretrained(folder)\n"
        f"model = {auto}.from_pretrained(folder).eval()\n"
        f"{run}"
    )


def _piped(model: PlainModel) -> str:
    kind = PIPELINES[model.modality]
    cut = ", truncation=True" if model.modality == "text" else ""
    return (
        "from transformers import pipeline\n\n"
        f'classify = pipeline("{kind}", model=folder{cut})\n'
        f'found = [classify(one, top_k=None, function_to_apply="none") for one in {snippets.piped(model)}]\n'
        'scores = [{row["label"]: row["score"] for row in rows} for rows in found]\n'
        "labels = classify.model.config.id2label\n"
        "logits = [[row[labels[i]] for i in range(len(labels))] for row in scores]\n"
    )


def _words(model: PlainModel, whole: Any) -> list[str]:
    words = []
    if whole is None:
        words.append(
            f"transformers has no classifier with this pooling and head: `{MODULE}` beside the weights is one, in "
            "plain torch. Nothing runs it unless you import it, as the code above does; without it transformers says "
            "that it does not know the type."
        )
    else:
        words.append(f"The model is transformers' own {type(whole).__name__}: no code beside it.")
    usual = {"multiclass": "softmax", "multilabel": "sigmoid", "regression": "none"}[model.task]
    words.append(f'`function_to_apply="none"` gives the outputs as they are; "{usual}" gives what the run reports.')
    return words
