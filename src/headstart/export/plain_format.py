"""Plain weights, and some ten lines that load them with torch and the library that the backbone comes from."""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from headstart.backbones.huggingface_audio_model import WhisperEncoder
from headstart.backbones.huggingface_model import TransformersBackbone
from headstart.backbones.spectrogram_model import SpectrogramBackbone
from headstart.backbones.timm_model import TimmBackbone
from headstart.export import snippets
from headstart.export.format import Code, Format, Written
from headstart.export.plain_model import PlainModel
from headstart.export.reader_files import save_reader
from headstart.export.spectrogram_code import reader as spectrogram_reader
from headstart.export.timm_format import create_arguments
from headstart.record.writing import write_json

WEIGHTS, PREPROCESSING = "model.safetensors", "preprocessing.json"


class PlainFormat(Format):
    """`backbone.*` and `head.*` in one file of safetensors, and how examples are read as JSON."""

    name = "safetensors"

    def refusal(self, model: PlainModel) -> str | None:
        if not isinstance(model.backbone, TimmBackbone | TransformersBackbone):
            return "its backbone is neither timm's nor of transformers"
        if model.layers != "last":
            return "its head reads the outputs of all layers, which takes more than a few lines"
        return None

    def write(self, model: PlainModel, folder: Path) -> Written:
        backbone: Any = model.backbone
        own = {f"backbone.{name}": value for name, value in backbone.model.state_dict().items()}
        head = {f"head.{name}": value for name, value in model.head.state_dict().items()}
        save_file({name: value.contiguous().clone() for name, value in {**own, **head}.items()},
                  folder / WEIGHTS, {"format": "pt"})  # fmt: skip
        write: Any
        if isinstance(backbone, SpectrogramBackbone):
            write = _sounds_in_timm
        elif isinstance(backbone, TimmBackbone):
            write = _pictures
        else:
            write = _texts if model.modality == "text" else _sounds
        library = "timm" if isinstance(backbone, TimmBackbone) else "transformers"
        return Written(library, (Code(f"With torch and {library}", write(model, backbone, folder)),))


def _model(model: PlainModel, backbone: str) -> str:
    """Code that makes the model from an expression for its backbone."""
    return (
        f"backbone = {backbone}\n"
        f"head = {snippets.head_of(model)}\n"
        "model = torch.nn.Sequential(OrderedDict(backbone=backbone, head=head)).eval()\n"
        f'model.load_state_dict(load_file(f"{{folder}}/{WEIGHTS}"))\n'
    )


def _timm(model: PlainModel, **more: Any) -> str:
    arguments = {**create_arguments(model), "num_classes": 0, **more}
    told = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"timm.create_model({model.factory.name.partition('.')[0]!r}, {told})"


def _pictures(model: PlainModel, backbone: TimmBackbone, folder: Path) -> str:
    reading = backbone.preprocessing
    write_json(folder / PREPROCESSING, reading.in_timm)
    scales = model.run.scales
    if reading.channels not in (1, 3) or model.is_deep:
        return (
            f"from collections import OrderedDict\n\n{snippets.PLANES_IMPORTS}"
            f"from safetensors.torch import load_file\n\n{_model(model, _timm(model))}\n\n"
            f"{snippets.planes_reader(reading, scales, model.is_deep)}"
            "with torch.inference_mode():\n    logits = model(pictures)\n"
        )
    return (
        "import json\nfrom collections import OrderedDict\nfrom pathlib import Path\n\n"
        f"{snippets.numpy_for(scales)}import timm\nimport torch\n"
        "from PIL import Image, ImageOps\nfrom safetensors.torch import load_file\n\n"
        f"{_model(model, _timm(model))}\n\n"
        f"{snippets.opened(reading.channels, scales)}\n\n"
        f'read = timm.data.create_transform(**json.loads(Path(folder, "{PREPROCESSING}").read_text()))\n'
        "pictures = torch.stack([read(opened(path)) for path in paths])\n"
        "with torch.inference_mode():\n    logits = model(pictures)\n"
    )


def _sounds_in_timm(model: PlainModel, backbone: SpectrogramBackbone, folder: Path) -> str:
    return (
        "from collections import OrderedDict\n\n"
        "import timm\nimport torch\nfrom safetensors.torch import load_file\n\n"
        f"{_model(model, _timm(model, in_chans=1))}"
        f"{spectrogram_reader(backbone, model.num_samples, folder)}"
        "with torch.inference_mode():\n    logits = model(torch.stack([read(sound) for sound in sounds]))\n"
    )


def _texts(model: PlainModel, backbone: TransformersBackbone, folder: Path) -> str:
    save_reader(model, folder)
    _save_config(backbone, folder)
    write_json(folder / PREPROCESSING, {"max_length": model.run.reading.arguments["max_length"],
                                        "padding": "right", "pooling": backbone.pooling})  # fmt: skip
    return (
        "from collections import OrderedDict\n\nimport torch\nfrom safetensors.torch import load_file\n"
        "from transformers import AutoConfig, AutoModel, AutoTokenizer\n\n"
        f"{_model(model, 'AutoModel.from_config(AutoConfig.from_pretrained(folder))')}"
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        f'batch = tokenizer({snippets.texts(model)}, padding=True, truncation=True, return_tensors="pt")\n'
        "with torch.inference_mode():\n    output = backbone(**batch)\n"
        f"{pooled_text(backbone)}    logits = head(pooled)\n"
    ).replace("head = ", _without_pooler(backbone) + "head = ", 1)


def pooled_text(backbone: TransformersBackbone) -> str:
    """Indented code from `output` and `batch` to `pooled`."""
    return {
        "cls": "    pooled = output.last_hidden_state[:, 0]\n",
        "pooler": "    pooled = output.pooler_output\n",
        "mean": '    mask = batch["attention_mask"].unsqueeze(-1)\n'
        "    pooled = (output.last_hidden_state * mask).sum(1) / mask.sum(1)\n",
        "last": '    last = batch["attention_mask"].sum(1) - 1\n'
        "    pooled = output.last_hidden_state[torch.arange(len(last)), last]\n",
    }[backbone.pooling]


def _without_pooler(backbone: TransformersBackbone) -> str:
    """A line that takes out the pooler that a configuration brings and the run had not."""
    import torch
    from transformers import AutoModel

    if any(name.startswith("pooler.") for name in backbone.model.state_dict()):
        return ""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        usual = AutoModel.from_config(backbone.model.config)
    return "backbone.pooler = None  # which was not used\n" if getattr(usual, "pooler", None) is not None else ""


def _save_config(backbone: TransformersBackbone, folder: Path) -> None:
    config: Any = backbone.model.config
    config.save_pretrained(folder)


def _sounds(model: PlainModel, backbone: TransformersBackbone, folder: Path) -> str:
    reader: Any = save_reader(model, folder)
    _save_config(backbone, folder)
    reading = model.run.reading.description
    write_json(folder / PREPROCESSING, {**reading, "pooling": backbone.pooling})
    made = "AutoModel.from_config(AutoConfig.from_pretrained(folder))"
    if isinstance(backbone, WhisperEncoder):
        made += ".get_encoder()"
    return (
        "from collections import OrderedDict\n\nimport torch\nfrom safetensors.torch import load_file\n"
        "from transformers import AutoConfig, AutoFeatureExtractor, AutoModel\n\n"
        f"{_model(model, made)}"
        f"{one_by_one(f'head({pooled_sound(backbone, reader)})', f'backbone({given_sound(backbone)})')}"
    )


def one_by_one(logits: str, output: str) -> str:
    """Code from `sounds` to `logits`, from expressions for one sound's `output` and its logits."""
    return (
        "read = AutoFeatureExtractor.from_pretrained(folder)\n"
        "logits = []\n"
        "for sound in sounds:  # one at a time, as padding is not silence to every model\n"
        "    with torch.inference_mode():\n"
        f"        output = {output}\n"
        f"        logits.append({logits})\n"
        "logits = torch.cat(logits)\n"
    )


def given_sound(backbone: TransformersBackbone) -> str:
    """An expression for what a model is given of `sound`."""
    name = "input_features" if isinstance(backbone, WhisperEncoder) else "input_values"
    return f'read(sound, sampling_rate=read.sampling_rate, return_tensors="pt").{name}'


def pooled_sound(backbone: TransformersBackbone, reader: Any) -> str:
    """An expression from `output` and `sound` to the pooled features."""
    if backbone.pooling == "pooler":
        return "output.pooler_output"
    if isinstance(backbone, WhisperEncoder):  # without the silence it is filled up with
        frames = f"(min(-(-len(sound) // {int(reader.hop_length)}), {backbone.reader._num_frames}) + 1) // 2"
        return f"output.last_hidden_state[:, : {frames}].mean(1)"
    return "output.last_hidden_state.mean(1)"
