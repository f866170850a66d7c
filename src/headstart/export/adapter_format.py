"""The adapter of a run alone, for peft: small, and of use with the very base model that it was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from headstart.backbones.huggingface_audio_model import AudioBackbone, WhisperEncoder
from headstart.backbones.huggingface_model import TextBackbone, TransformersBackbone
from headstart.backbones.spectrogram_model import SpectrogramBackbone
from headstart.backbones.timm_model import TimmBackbone
from headstart.export import snippets
from headstart.export.format import Code, Format, Written
from headstart.export.native import cell_of, labels
from headstart.export.plain_format import given_sound, one_by_one, pooled_sound, pooled_text
from headstart.export.plain_model import PlainModel
from headstart.export.reader_files import save_reader
from headstart.export.timm_format import TimmFormat, create_arguments
from headstart.strategies.adapters import ADAPTER_NAME, PeftAdapter, is_adapted, is_adapter, layers_of, whole

HEAD = "head.safetensors"


@dataclass(frozen=True)
class _Base:
    """The model that the adapter goes into, as a stranger makes it."""

    code: str
    """An expression for it, with `folder` at hand; the same one made it here."""
    model: nn.Module
    prefix: str
    """Of the backbone's names in it."""
    saved: Sequence[str]
    """Modules that go out whole: the head."""
    task_type: str | None


class AdapterFormat(Format):
    """`adapter_model.safetensors` and `adapter_config.json`, with the head among the modules that are saved whole."""

    name = "adapter"

    def refusal(self, model: PlainModel) -> str | None:
        adapter = model.run.parts.strategy.adapter
        if not isinstance(adapter, PeftAdapter) or not is_adapted(model.run.backbone):
            return "the run has no adapter of its own, or it was merged into the weights"
        backbone = model.backbone
        if isinstance(backbone, SpectrogramBackbone) or not isinstance(backbone, TimmBackbone | TransformersBackbone):
            return "adapters go out of models of transformers and of timm's of pictures; other formats have it merged"
        if model.layers != "last":
            return "its head reads the outputs of all layers, which goes out with no adapter"
        if model.run.reading.description.get("window"):
            return "the window of its base model was cut, which an adapter does not say (backbone.window=full)"
        if isinstance(backbone, TimmBackbone) and (model.is_deep or backbone.preprocessing.channels not in (1, 3)):
            return "its pictures have 16 bits a value, or other channels than colours; other formats have it merged"
        if isinstance(backbone, TimmBackbone) and TimmFormat().refusal(model):
            return str(TimmFormat().refusal(model))
        if _source(model) is None:
            return (
                f"its base model ({model.run.result.weights.source if model.run.result.weights else '?'}) is none that "
                "others can load by name or path; the other formats have it merged"
            )
        return None

    def write(self, model: PlainModel, folder: Path) -> Written:
        base = {"vision": _timm_base, "text": _text_base, "audio": _sound_base}[model.modality](model)
        _save(model, base, folder)
        reader = None if model.modality == "vision" else save_reader(model, folder)
        codes = [_on_sounds(model, base, reader)] if model.modality == "audio" else _codes(model, base, folder)
        return Written("peft", tuple(codes), _words(model, base))


def _source(model: PlainModel) -> str | None:
    """Where a stranger gets the base model from: a name on the hub, or a path."""
    factory: Any = model.factory
    if factory.weights == "none" or str(factory.weights).startswith("package:"):
        return None
    if isinstance(model.backbone, TransformersBackbone):
        place = factory.origin
        own_file = Path(factory.weights).expanduser().is_file()
        return None if own_file else (place.repository or str(place.folder))
    return "hub" if factory.weights == "hub" else str(Path(factory.weights).expanduser().resolve())


def _timm_base(model: PlainModel) -> _Base:
    import timm

    source = _source(model)
    more = {} if source == "hub" else {"pretrained_cfg_overlay": {"file": source}}
    arguments = {**create_arguments(model), "num_classes": len(model.names), "pretrained": True, **more}
    told = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    made: Any = timm.create_model(model.factory.name, **arguments)
    classifier: Any = made.get_classifier()
    saved = [name for name, module in made.named_modules() if module is classifier]
    return _Base(f"timm.create_model({model.factory.name!r}, {told})", made, "", saved, None)


def _text_base(model: PlainModel) -> _Base:
    from transformers import AutoModel, AutoModelForSequenceClassification

    source, cell = _source(model), cell_of(model)
    assert source is not None
    made: Any
    if cell is None:
        made = AutoModel.from_pretrained(source, local_files_only=True)
        return _Base(f"AutoModel.from_pretrained({source!r})", made, "", (), "FEATURE_EXTRACTION")
    arguments = {**labels(model), **cell.changes}
    told = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    made = AutoModelForSequenceClassification.from_pretrained(source, local_files_only=True, **arguments)
    prefix = f"{made.base_model_prefix}."
    whole = [*cell.beside, *(f"{prefix}{name}" for name, value in cell.over.items() if value is not None)]
    saved = list(dict.fromkeys(name.split(".")[-2] if "ln_f" in name else name.split(".")[0] for name in whole))
    code = f"AutoModelForSequenceClassification.from_pretrained({source!r}, {told})"
    return _Base(code, made, prefix, saved, "SEQ_CLS")


def _sound_base(model: PlainModel) -> _Base:
    from transformers import AutoModel, AutoModelForAudioClassification

    source, cell = _source(model), cell_of(model)
    assert source is not None
    made: Any
    if cell is None:
        made, code = AutoModel.from_pretrained(source, local_files_only=True), f"AutoModel.from_pretrained({source!r})"
        if isinstance(model.backbone, WhisperEncoder):
            made, code = made.get_encoder(), f"{code}.get_encoder()"
        return _Base(code, made, "", (), None)
    arguments = {**labels(model), **cell.changes}
    told = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    made = AutoModelForAudioClassification.from_pretrained(source, local_files_only=True, **arguments)
    code = f"AutoModelForAudioClassification.from_pretrained({source!r}, {told})"
    saved = list(dict.fromkeys(name.partition(".")[0] for name in cell.beside))
    return _Base(code, made, f"{made.base_model_prefix}.", saved, None)


def _save(model: PlainModel, base: _Base, folder: Path) -> None:
    from peft import get_peft_model

    adapter = model.run.parts.strategy.adapter
    assert isinstance(adapter, PeftAdapter)
    inner: Any = model.run.backbone.get_submodule("model")
    tuned = {name: value for name, value in inner.named_parameters() if is_adapter(name)}
    config = adapter.config(
        whole([base.prefix + name for name in layers_of(inner)]),
        modules_to_save=list(base.saved) or None,
        task_type=base.task_type,
    )
    with torch.random.fork_rng(devices=[]):
        wrapped: Any = get_peft_model(base.model, config)
    state = dict(wrapped.base_model.model.named_parameters())
    with torch.no_grad():
        for name, value in tuned.items():
            state[base.prefix + name].copy_(value)
        for name, value in _head(model, base).items():
            state[name].copy_(value)
    wrapped.peft_config[ADAPTER_NAME].base_model_name_or_path = _source(model)
    wrapped.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)  # peft's own: ours is written last
    if not base.saved:
        save_file({name: value.contiguous() for name, value in model.head.state_dict().items()}, folder / HEAD)


def _head(model: PlainModel, base: _Base) -> dict[str, Any]:
    """Tensors of the modules that are saved whole, by peft's names for them."""

    def kept(name: str) -> str:
        module = next(one for one in base.saved if name.startswith(f"{one}.") or f".{one}." in name)
        start, found, rest = name.partition(f"{module}.")
        return f"{start}{found}modules_to_save.{ADAPTER_NAME}.{rest}"

    if model.modality == "vision":
        return {kept(f"{base.saved[0]}.{name}"): value for name, value in model.head[0].state_dict().items()}
    cell = cell_of(model)
    if cell is None:
        return {}
    over = {f"{base.prefix}{name}": value for name, value in cell.over.items() if value is not None}
    return {kept(name): value for name, value in {**cell.beside, **over}.items()}


def _codes(model: PlainModel, base: _Base, folder: Path) -> list[Code]:
    if base.task_type is None:
        channels = model.run.reading.arguments.get("channels", 3)
        source = (
            f"{snippets.numpy_for(model.run.scales)}import timm\nimport torch\nfrom peft import PeftModel\n"
            "from PIL import Image, ImageOps\n\n\n"
            f"{snippets.opened(channels, model.run.scales)}\n\n"
            f"base = {base.code}\n"
            "model = PeftModel.from_pretrained(base, folder).eval()\n"
            f"read = timm.data.create_transform(**{_transform(model)})\n"
            "pictures = torch.stack([read(opened(path)) for path in paths])\n"
            "with torch.inference_mode():\n    logits = model(pictures)\n"
        )
        return [Code("With timm and PeftModel", source)]
    batch = (
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        f'batch = tokenizer({snippets.texts(model)}, padding=True, truncation=True, return_tensors="pt")\n'
    )
    if base.task_type == "SEQ_CLS":
        ending = "with torch.inference_mode():\n    logits = model(**batch).logits\n"
        padded = "model.config.pad_token_id = tokenizer.pad_token_id\n"
        arguments = base.code.partition(", ")[2].removesuffix(")")
        return [
            Code(
                "With PeftModel",
                "import torch\nfrom peft import PeftModel\n"
                "from transformers import AutoModelForSequenceClassification, AutoTokenizer\n\n"
                f"base = {base.code}\nmodel = PeftModel.from_pretrained(base, folder).eval()\n{batch}{padded}{ending}",
            ),
            Code(
                "With AutoPeftModelForSequenceClassification",
                "import torch\nfrom peft import AutoPeftModelForSequenceClassification\n"
                "from transformers import AutoTokenizer\n\n"
                f"model = AutoPeftModelForSequenceClassification.from_pretrained(folder, {arguments}).eval()\n"
                f"{batch}{padded}{ending}",
            ),
        ]
    assert isinstance(model.backbone, TextBackbone)
    return [
        Code(
            "With PeftModel",
            "import torch\nfrom peft import PeftModel\nfrom safetensors.torch import load_file\n"
            "from transformers import AutoModel, AutoTokenizer\n\n"
            f"base = {base.code}\nmodel = PeftModel.from_pretrained(base, folder).eval()\n"
            f"head = {snippets.head_of(model)}\n"
            f'head.load_state_dict(load_file(f"{{folder}}/{HEAD}"))\n'
            f"{batch}"
            f"with torch.inference_mode():\n    output = model(**batch)\n{pooled_text(model.backbone)}"
            "    logits = head(pooled)\n",
        )
    ]


def _on_sounds(model: PlainModel, base: _Base, reader: Any) -> Code:
    backbone = model.backbone
    assert isinstance(backbone, AudioBackbone)
    made = f"base = {base.code}\nmodel = PeftModel.from_pretrained(base, folder).eval()\n"
    given = given_sound(backbone)
    if base.saved:
        auto, more, run = "AutoModelForAudioClassification", "", one_by_one("output.logits", f"model({given})")
    else:
        auto, more = "AutoModel", "from safetensors.torch import load_file\n"
        made += f'head = {snippets.head_of(model)}\nhead.load_state_dict(load_file(f"{{folder}}/{HEAD}"))\n'
        run = one_by_one(f"head({pooled_sound(backbone, reader)})", f"model({given})")
    return Code(
        "With PeftModel",
        f"import torch\nfrom peft import PeftModel\n{more}from transformers import AutoFeatureExtractor, {auto}\n\n"
        f"{made}{run}",
    )


def _transform(model: PlainModel) -> dict[str, Any]:
    assert isinstance(model.backbone, TimmBackbone)
    return model.backbone.preprocessing.in_timm


def _words(model: PlainModel, base: _Base) -> tuple[str, ...]:
    where = (
        "The head is among the modules that peft saves whole."
        if base.saved
        else f"transformers has no classifier with this pooling and head: the head lies beside the adapter in `{HEAD}`."
    )
    adapter = model.run.parts.strategy.adapter
    assert isinstance(adapter, PeftAdapter)
    return (f"An adapter ({adapter.title}) alone: it works with the base model that it was trained on. {where}",)
