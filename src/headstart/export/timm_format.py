"""A folder that `timm.create_model("local-dir:…")` loads, and transformers as well."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from headstart.backbones.spectrogram_model import SpectrogramBackbone
from headstart.backbones.timm_create import create
from headstart.backbones.timm_model import Preprocessing, TimmBackbone
from headstart.errors import InputError
from headstart.export import snippets
from headstart.export.format import Code, Format, Written
from headstart.export.plain_model import PlainModel
from headstart.record.writing import write_json

WEIGHTS = "model.safetensors"
_TRAINING_ONLY = ("drop_rate", "drop_path_rate")
_IN_TIMM = """\
import timm
import torch
from PIL import Image, ImageOps


OPENED

model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
pictures = torch.stack([transform(opened(path)) for path in paths])
with torch.inference_mode():
    logits = model(pictures)
"""
_IN_TRANSFORMERS = """\
import torch
from PIL import Image, ImageOps
from transformers import AutoImageProcessor, AutoModelForImageClassification


OPENED

model = AutoModelForImageClassification.from_pretrained(folder).eval()
processor = AutoImageProcessor.from_pretrained(folder)
pictures = [opened(path) for path in paths]
with torch.inference_mode():
    logits = model(**processor(pictures, return_tensors="pt")).logits
"""


class TimmFormat(Format):
    """Weights and config.json as timm's hub has them: of a timm model with a linear head."""

    name = "timm"

    def refusal(self, model: PlainModel) -> str | None:
        if not isinstance(model.backbone, TimmBackbone) or isinstance(model.backbone, SpectrogramBackbone):
            return "timm reads pictures, and this model does not" if model.modality != "vision" else "it is not timm's"
        if not model.is_linear:
            return "models of timm end in one linear layer, and this one has a head of several (head=mlp)"
        return None

    def write(self, model: PlainModel, folder: Path) -> Written:
        backbone = model.backbone
        assert isinstance(backbone, TimmBackbone)
        arguments = create_arguments(model)
        whole = with_classifier(model, arguments)
        save_file({name: value.contiguous() for name, value in whole.state_dict().items()}, folder / WEIGHTS,
                  {"format": "pt"})  # fmt: skip
        write_json(folder / "config.json", _config(model, backbone, whole, arguments))
        return Written("timm", _codes(model, backbone.preprocessing))


def _codes(model: PlainModel, reading: Preprocessing) -> tuple[Code, ...]:
    scales = model.run.scales
    if reading.channels in (1, 3) and not model.is_deep:
        opened, numpy = snippets.opened(reading.channels, scales), snippets.numpy_for(scales)
        both = {"With timm": _IN_TIMM, "With transformers": _IN_TRANSFORMERS}
        return tuple(Code(title, numpy + source.replace("OPENED", opened)) for title, source in both.items())
    return (  # transformers' processor takes pictures of 8 bits that Pillow has in one piece
        Code(
            "With timm",
            f"{snippets.PLANES_IMPORTS}\n"
            'model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()\n\n\n'
            f"{snippets.planes_reader(reading, scales, model.is_deep)}"
            "with torch.inference_mode():\n    logits = model(pictures)\n",
        ),
    )


def create_arguments(model: PlainModel) -> dict[str, Any]:
    """Arguments of `timm.create_model` that make the model's backbone."""
    arguments = model.factory.identity(False)["arguments"]
    return {name: value for name, value in arguments.items() if name not in _TRAINING_ONLY}


def with_classifier(model: PlainModel, arguments: dict[str, Any]) -> Any:
    """timm's own model with the run's weights, the head in the place of its classifier."""
    backbone = model.backbone
    assert isinstance(backbone, TimmBackbone)
    with torch.random.fork_rng(devices=[]):
        whole: Any = create(model.factory.name, num_classes=len(model.names), **arguments).model
    state = backbone.model.state_dict()
    missing, unexpected = whole.load_state_dict(state, strict=False)
    found = whole.get_classifier()
    classifiers = [layer for layer in (found if isinstance(found, tuple | list) else [found]) if layer is not None]
    last = model.head[0]
    for layer in classifiers:
        fits = isinstance(layer, nn.Linear) and layer.weight.shape == last.weight.shape and layer.bias is not None
        if not fits:
            raise InputError(f"The classifier of timm's {model.factory.name} is no linear layer that the head fits.")
        layer.load_state_dict(last.state_dict())
    own = {id(tensor) for layer in classifiers for tensor in layer.state_dict(keep_vars=True).values()}
    strange = [name for name in missing if id(whole.state_dict(keep_vars=True)[name]) not in own]
    if strange or unexpected:
        raise InputError(
            f"timm's {model.factory.name} with a classifier has other tensors than without: "
            f"{', '.join([*strange, *unexpected][:5])}."
        )
    return whole.eval()


def _config(model: PlainModel, backbone: TimmBackbone, whole: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    known = whole.pretrained_cfg
    kept = ("first_conv", "classifier", "fixed_input_size", "pool_size", "min_input_size", "license", "origin_url")
    return {
        "architecture": model.factory.name.partition(".")[0],
        "num_classes": len(model.names),
        "num_features": backbone.num_features,
        # transformers gives the number of classes, and its own pooling, by itself, and would give them twice
        "model_args": arguments,
        "problem_type": model.problem_type,
        "label_names": list(model.names),
        "pretrained_cfg": {
            **{name: known[name] for name in kept if known.get(name) is not None},
            "tag": "headstart",
            "custom_load": False,
            **backbone.preprocessing.in_timm,
            "num_classes": len(model.names),
        },
    }
