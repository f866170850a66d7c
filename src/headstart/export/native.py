"""Which of transformers' own classifiers are exactly a run's pooling and head, and the weights they then have.

Every cell here is proved by the check of the export; docs/export.md has the table.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from headstart.backbones.huggingface_audio_model import AudioBackbone
from headstart.backbones.huggingface_model import TransformersBackbone
from headstart.export.plain_model import PlainModel


@dataclass(frozen=True)
class Cell:
    """How a classifier of transformers is made to do what a run's pooling and head do."""

    beside: Mapping[str, Tensor]
    """Tensors beside the backbone's, by their names in the whole model."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Of the configuration."""
    over: Mapping[str, Tensor | None] = field(default_factory=dict)
    """In the place of the backbone's own, by their names there; `None`: left out."""


def native(model: PlainModel) -> Any:
    """transformers' own classifier with the run's weights; `None` where it has none that does the same."""
    backbone, cell = model.backbone, cell_of(model)
    if cell is None:
        return None
    assert isinstance(backbone, TransformersBackbone)
    config: Any = deepcopy(backbone.model.config)
    for name, value in {**cell.changes, **labels(model)}.items():
        setattr(config, name, value)
    with torch.random.fork_rng(devices=[]):
        whole = _auto(model).from_config(config)
    own = {**backbone.model.state_dict(), **cell.over}
    state = {f"{whole.base_model_prefix}.{name}": value for name, value in own.items() if value is not None}
    whole.load_state_dict({**state, **cell.beside}, strict=True)
    return whole.eval()


def cell_of(model: PlainModel) -> Cell | None:
    """How transformers' own classifier is made to do what a run's does; `None` where it cannot."""
    backbone = model.backbone
    if not isinstance(backbone, TransformersBackbone):
        return None
    config: Any = backbone.model.config
    find = _CELLS.get(config.model_type)
    reads = ("last", "weighted") if find is _mean_of_projected else ("last",)
    return None if find is None or backbone.layers not in reads else find(model, backbone)


def labels(model: PlainModel) -> dict[str, Any]:
    """What a configuration says of the outputs."""
    return {
        "id2label": model.labels,
        "label2id": {name: place for place, name in model.labels.items()},
        "problem_type": model.problem_type,
    }


def _auto(model: PlainModel) -> Any:
    import transformers

    name = {"text": "AutoModelForSequenceClassification", "audio": "AutoModelForAudioClassification"}[model.modality]
    return getattr(transformers, name)


def _pooler_then_linear(model: PlainModel, backbone: TransformersBackbone) -> Cell | None:
    """BERT: the pretrained pooler, then one layer."""
    if backbone.pooling != "pooler" or not model.is_linear:
        return None
    return Cell(_named("classifier", model.head[0]))


def _pooler_in_the_head(model: PlainModel, backbone: TransformersBackbone) -> Cell | None:
    """RoBERTa: its classifier is a pooler, as the model's own, and one layer."""
    if backbone.pooling != "pooler" or not model.is_linear:
        return None
    pooler = backbone.model.get_submodule("pooler.dense")
    beside = {**_named("classifier.dense", pooler), **_named("classifier.out_proj", model.head[0])}
    return Cell(beside, over={"pooler.dense.weight": None, "pooler.dense.bias": None})


def _relu_head(model: PlainModel, backbone: TransformersBackbone) -> Cell | None:
    """DistilBERT: the first token, a layer of its width with ReLU, one layer."""
    width = backbone.num_features
    if backbone.pooling != "cls" or model.widths[:-1] != [width, width]:
        return None
    return Cell({**_named("pre_classifier", model.head[0]), **_named("classifier", model.head[2])})


def _context_pooler(model: PlainModel, backbone: TransformersBackbone) -> Cell | None:
    """DeBERTa: the first token, a layer of its width whose activation the configuration chooses, one layer."""
    width = backbone.num_features
    if backbone.pooling != "cls" or model.widths[:-1] not in ([width], [width, width]):
        return None
    first = _identity(width) if model.is_linear else model.head[0]
    changes = {"pooler_hidden_act": "linear" if model.is_linear else "relu", "pooler_hidden_size": width}
    return Cell({**_named("pooler.dense", first), **_named("classifier", model.head[-1])}, changes)


def _last_token(model: PlainModel, backbone: TransformersBackbone) -> Cell | None:
    """GPT-2: the last token, one layer without biases; ours are folded into those of the norm before it."""
    layer: Any = model.head[0]
    if backbone.pooling != "last" or not model.is_linear or layer.out_features > layer.in_features:
        return None
    weight, bias = layer.weight.double(), layer.bias.double()
    shift = torch.linalg.lstsq(weight, bias[:, None]).solution[:, 0]
    if not torch.allclose(weight @ shift, bias, atol=1e-6, rtol=1e-6):  # outputs that depend on one another
        return None
    norm = backbone.model.state_dict()["ln_f.bias"]
    return Cell({"score.weight": layer.weight}, over={"ln_f.bias": (norm.double() + shift).float()})


def _mean_of_projected(model: PlainModel, backbone: TransformersBackbone) -> Cell | None:
    """wav2vec 2.0 and its kin: a projection (here none), the mean over frames, one layer."""
    if backbone.pooling != "mean" or not model.is_linear or not isinstance(backbone, AudioBackbone):
        return None
    width, mix = backbone.num_features, backbone.mix
    changes = {"classifier_proj_size": width, "use_weighted_layer_sum": mix is not None}
    weighted = {} if mix is None else {"layer_weights": mix.weights.detach()}
    layers = {**_named("projector", _identity(width)), **_named("classifier", model.head[0])}
    return Cell({**layers, **weighted}, changes)


def _identity(width: int) -> nn.Linear:
    layer = nn.Linear(width, width)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(width))
        layer.bias.zero_()
    return layer


def _named(name: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{name}.{key}": value.detach() for key, value in module.state_dict().items()}


_CELLS: dict[str, Callable[[PlainModel, TransformersBackbone], Cell | None]] = {
    "bert": _pooler_then_linear,
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert"), _pooler_in_the_head),
    "distilbert": _relu_head,
    **dict.fromkeys(("deberta", "deberta-v2"), _context_pooler),
    "gpt2": _last_token,
    **dict.fromkeys(
        ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio", "wav2vec2-conformer"),
        _mean_of_projected,
    ),
}
"""By transformers' type of the model."""
