"""A graph for onnxruntime and its kin, made by torch.export: what the run reads in, outputs out."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headstart.backbones.huggingface_audio_model import AudioBackbone, SpectrogramTransformer, WhisperEncoder
from headstart.backbones.huggingface_model import TextBackbone
from headstart.backbones.spectrogram_model import SpectrogramBackbone
from headstart.backbones.timm_model import TimmBackbone
from headstart.config.sides import height_width
from headstart.errors import InputError
from headstart.export import snippets
from headstart.export.format import Code, Format, Written
from headstart.export.plain_model import PlainModel
from headstart.export.reader_files import save_reader
from headstart.export.spectrogram_code import reader as spectrogram_reader

FILE = "model.onnx"
NEEDED = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18
_NUM_EXAMPLES = 2
"""Of a batch of one, some models would keep the one."""


class OnnxFormat(Format):
    """`model.onnx` with its weights, for any number of examples at once, and texts and sounds of any length."""

    name = "onnx"

    def refusal(self, model: PlainModel) -> str | None:
        missing = [name for name in NEEDED if find_spec(name) is None]
        if missing:
            raise InputError(f"--to onnx needs {', '.join(missing)}: pip install 'headstart[onnx]'")
        if model.layers != "last":
            return "its head reads the outputs of all layers, which a graph is not made of"
        if not isinstance(model.backbone, TimmBackbone | TextBackbone | AudioBackbone):
            return "its backbone is neither timm's nor of transformers"
        return None

    def write(self, model: PlainModel, folder: Path) -> Written:
        backbone: Any = model.backbone
        if isinstance(backbone, SpectrogramBackbone):
            graph, code = _spectrograms(model, backbone, folder)
        elif isinstance(backbone, TimmBackbone):
            graph, code = _pictures(model, backbone)
        elif isinstance(backbone, TextBackbone):
            graph, code = _texts(model, backbone, folder)
        else:
            graph, code = _sounds(model, backbone, folder)
        _save(graph, _facts(model), folder / FILE)
        return Written("onnx", (Code("With onnxruntime", code),), batch_sizes=(1, 3))


class _Graph:
    """A module with an example of what it takes, by name, and which dimensions may change."""

    def __init__(self, module: nn.Module, inputs: dict[str, Tensor], free: dict[str, dict[int, str]]) -> None:
        self.module, self.inputs, self.free = module, inputs, free


def _save(graph: _Graph, facts: dict[str, str], path: Path) -> None:
    import logging
    import warnings

    names = {name for dims in graph.free.values() for name in dims.values()}
    dims = {name: torch.export.Dim(name, min=1) if name == "batch" else torch.export.Dim.DYNAMIC for name in names}
    shapes = tuple({place: dims[name] for place, name in graph.free[key].items()} for key in graph.inputs)
    quiet, level = logging.getLogger("torch.onnx"), logging.getLogger("torch.onnx").level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                graph.module.eval(),
                tuple(graph.inputs.values()),
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=list(graph.inputs),
                output_names=["logits"],
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # torch.export raises all kinds for what it cannot follow
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"torch.export cannot make a graph of this model: {reason}") from error
    finally:
        quiet.setLevel(level)
    program.model.metadata_props.update(facts)
    program.save(str(path), external_data=False)


def _facts(model: PlainModel) -> dict[str, str]:
    """Metadata of the file: how examples are read, and what the outputs are for."""
    reading = {**model.run.reading.description}
    preprocessing = getattr(model.backbone, "preprocessing", None)
    if preprocessing is not None and model.modality == "vision":
        channels = preprocessing.channels
        what = {1: "grey (B, 1, H, W)", 3: "RGB (B, 3, H, W)"}.get(channels, f"(B, {channels}, H, W)")
        kind = "float32 from 0 to 1" if model.is_deep else "uint8"
        reading |= {"pixels": f"{kind} {what}; normalising is in the graph", **preprocessing.sizing}
    return {
        "headstart.task": model.task,
        "headstart.names": json.dumps(list(model.names)),
        "headstart.reading": json.dumps(reading, default=str),
        "headstart.run_id": model.run.result.run_id,
    }


# --- pictures --------------------------------------------------------------------------------------------------------


class _Pictures(nn.Module):
    """Pixels `(B, C, H, W)`, uint8 or floats from 0 to 1 → outputs; normalising included."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: TimmBackbone, head: nn.Module) -> None:
        super().__init__()
        self.model, self.head = backbone.model.to(memory_format=torch.contiguous_format), head  # type: ignore[call-overload]
        for name in ("mean", "std"):
            values = torch.tensor(getattr(backbone.preprocessing, name)).reshape(1, -1, 1, 1)
            self.register_buffer(name, values)

    def forward(self, pixels: Tensor) -> Tensor:
        values = pixels if pixels.is_floating_point() else pixels.float() / 255
        return self.head(self.model((values - self.mean) / self.std))


def _pictures(model: PlainModel, backbone: TimmBackbone) -> tuple[_Graph, str]:
    shape = _NUM_EXAMPLES, backbone.preprocessing.channels, *height_width(backbone.preprocessing.size)
    pixels = torch.rand(shape) if model.is_deep else torch.randint(0, 256, shape, dtype=torch.uint8)
    graph = _Graph(_Pictures(backbone, model.head), {"pixels": pixels}, {"pixels": {0: "batch"}})
    more = "" if backbone.preprocessing.channels in (1, 3) and not model.is_deep else ", ImageSequence"
    code = (
        f"import numpy\nimport onnxruntime\nfrom PIL import Image, ImageOps{more}\n\n\n"
        f"{snippets.picture_reader(backbone.preprocessing, model.run.scales, model.is_deep)}\n\n"
        f'session = onnxruntime.InferenceSession(f"{{folder}}/{FILE}")\n'
        "pixels = numpy.stack([read(path) for path in paths])\n"
        'logits = session.run(None, {"pixels": pixels})[0]\n'
    )
    return graph, code


class _Rest(nn.Module):
    """What a timm model reads, already made → outputs."""

    def __init__(self, model: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.model, self.head = model.to(memory_format=torch.contiguous_format), head  # type: ignore[call-overload]

    def forward(self, spectrograms: Tensor) -> Tensor:
        return self.head(self.model(spectrograms))


def _spectrograms(model: PlainModel, backbone: SpectrogramBackbone, folder: Path) -> tuple[_Graph, str]:
    length = torch.full((_NUM_EXAMPLES,), model.num_samples)
    shown = backbone.pictures({"waveform": torch.randn(_NUM_EXAMPLES, model.num_samples), "lengths": length})
    inputs = {"spectrograms": shown.contiguous()}
    graph = _Graph(_Rest(backbone.model, model.head), inputs, {"spectrograms": {0: "batch"}})
    code = (
        "import onnxruntime\nimport torch\nfrom safetensors.torch import load_file\n\n"
        f"{spectrogram_reader(backbone, model.num_samples, folder)}"
        f'session = onnxruntime.InferenceSession(f"{{folder}}/{FILE}")\n'
        "spectrograms = torch.stack([read(sound) for sound in sounds]).numpy()\n"
        'logits = session.run(None, {"spectrograms": spectrograms})[0]\n'
    )
    return graph, code


# --- texts -----------------------------------------------------------------------------------------------------------


class _Texts(nn.Module):
    """Token ids, their mask and, where the model tells them apart, their types → outputs."""

    def __init__(self, backbone: TextBackbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        return self.head(self.backbone(inputs))


def _texts(model: PlainModel, backbone: TextBackbone, folder: Path) -> tuple[_Graph, str]:
    reader: Any = save_reader(model, folder)
    _only_its_graph(backbone)
    length = min(7, model.run.reading.arguments["max_length"])
    ids = torch.full((_NUM_EXAMPLES, length), int(reader.pad_token_id or 0) + 1)
    mask = torch.ones_like(ids)
    mask[1, length - 2 :] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in reader.model_input_names:
        inputs["token_type_ids"] = torch.zeros_like(ids)
    graph = _Graph(_Texts(backbone, model.head), inputs, {name: {0: "batch", 1: "length"} for name in inputs})
    code = (
        "import onnxruntime\nfrom transformers import AutoTokenizer\n\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        f'session = onnxruntime.InferenceSession(f"{{folder}}/{FILE}")\n'
        f'batch = tokenizer({snippets.texts(model)}, padding=True, truncation=True, return_tensors="np")\n'
        "names = [taken.name for taken in session.get_inputs()]\n"
        'logits = session.run(None, {name: batch[name].astype("int64") for name in names})[0]\n'
    )
    return graph, code


def _only_its_graph(backbone: Any) -> None:
    """Attention as plain products, which every length goes through alike."""
    backbone.model.set_attn_implementation("eager")


# --- sounds ----------------------------------------------------------------------------------------------------------


class _Waveforms(nn.Module):
    """Waveforms `(B, T)`, none of them padded → outputs; bringing them to mean 0 and variance 1 included."""

    def __init__(self, backbone: AudioBackbone, head: nn.Module) -> None:
        super().__init__()
        self.model: Any = backbone.model
        self.normalise, self.head = bool(backbone.reader.normalise), head

    def forward(self, waveform: Tensor) -> Tensor:
        if self.normalise:
            centred = waveform - waveform.mean(1, keepdim=True)
            waveform = centred / ((centred**2).mean(1, keepdim=True) + 1e-7).sqrt()
        return self.head(self.model(waveform).last_hidden_state.mean(1))


class _Features(nn.Module):
    """Spectrograms as a feature extractor gives them → outputs; of Whisper, with how many frames hold sound."""

    def __init__(self, backbone: AudioBackbone, head: nn.Module) -> None:
        super().__init__()
        self.model: Any = backbone.model
        self.pooling, self.head = backbone.pooling, head

    def forward(self, features: Tensor, frames: Tensor | None = None) -> Tensor:
        output = self.model(features)
        if self.pooling == "pooler":
            return self.head(output.pooler_output)
        hidden = output.last_hidden_state
        if frames is None:
            return self.head(hidden.mean(1))
        real = (torch.arange(hidden.shape[1]) < frames[:, None]).to(hidden.dtype)[..., None]
        return self.head((hidden * real).sum(1) / frames[:, None])


def _sounds(model: PlainModel, backbone: AudioBackbone, folder: Path) -> tuple[_Graph, str]:
    session = f'session = onnxruntime.InferenceSession(f"{{folder}}/{FILE}")\n'
    _only_its_graph(backbone)
    if not isinstance(backbone, SpectrogramTransformer | WhisperEncoder):
        inputs = {"waveform": torch.randn(_NUM_EXAMPLES, min(model.num_samples, 16_000))}
        graph = _Graph(_Waveforms(backbone, model.head), inputs, {"waveform": {0: "batch", 1: "length"}})
        code = (
            f"import numpy\nimport onnxruntime\n\n{session}"
            "# sounds of one length can go in together, others one at a time: padding is not silence to the model\n"
            'outputs = [session.run(None, {"waveform": sound[None]})[0] for sound in sounds]\n'
            'twice = session.run(None, {"waveform": numpy.stack([sounds[0], sounds[0]])})[0]\n'
            "logits = numpy.concatenate([twice[1:], *outputs[1:]])\n"
        )
        return graph, code
    save_reader(model, folder)
    config: Any = backbone.model.config
    read = 'read(sound, sampling_rate=read.sampling_rate, return_tensors="np")'
    imported = "from transformers import AutoFeatureExtractor\n\n"
    load = f"{imported}{session}read = AutoFeatureExtractor.from_pretrained(folder)\n"
    if isinstance(backbone, SpectrogramTransformer):
        shown = torch.randn(_NUM_EXAMPLES, config.max_length, config.num_mel_bins)
        graph = _Graph(_Features(backbone, model.head), {"features": shown}, {"features": {0: "batch"}})
        code = (
            f"import numpy\nimport onnxruntime\n{load}"
            f"features = numpy.concatenate([{read}.input_values for sound in sounds])\n"
            'logits = session.run(None, {"features": features})[0]\n'
        )
        return graph, code
    shown = torch.randn(_NUM_EXAMPLES, config.num_mel_bins, 2 * config.max_source_positions)
    frames = torch.tensor([config.max_source_positions, config.max_source_positions // 2])
    free = {"features": {0: "batch"}, "frames": {0: "batch"}}
    graph = _Graph(_Features(backbone, model.head), {"features": shown, "frames": frames}, free)
    most = 2 * config.max_source_positions
    code = (
        f"import numpy\nimport onnxruntime\n{load}"
        f"features = numpy.concatenate([{read}.input_features for sound in sounds])\n"
        f"frames = [(min(-(-len(sound) // read.hop_length), {most}) + 1) // 2 for sound in sounds]\n"
        'logits = session.run(None, {"features": features, "frames": numpy.array(frames)})[0]\n'
    )
    return graph, code
