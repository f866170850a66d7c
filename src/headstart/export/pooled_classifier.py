"""A transformers model with a pooling and a head that its own architecture does not have.

This file lies beside the weights of such a model and is never run by itself: whoever uses the model imports it
(`import pooled_classifier`), and from then on `AutoModelFor…Classification`, `pipeline` and the rest know the type
"headstart_pooled". It needs torch and transformers alone.

The head is linear layers with ReLU between them, on one vector to an example: that of the first token (`cls`), the mean
of all (`mean`), that of the last (`last`), or the pretrained pooler's (`pooler`), of what is no padding.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput


class PooledConfig(PreTrainedConfig):
    """`backbone`: the configuration of the model inside; `widths`: of the head, from features to outputs."""

    model_type = "headstart_pooled"

    def __init__(
        self,
        backbone: dict[str, Any] | None = None,
        pooling: str = "mean",
        widths: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        self.backbone = backbone
        self.pooling = pooling
        self.widths = widths
        super().__init__(**kwargs)

    def inner(self) -> Any:
        """The configuration of the model inside."""
        assert self.backbone is not None
        return AutoConfig.for_model(**self.backbone)


class PooledClassifier(PreTrainedModel):
    """Token ids, waveforms or spectrograms → `logits` `(B, O)`."""

    config_class = PooledConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"

    def __init__(self, config: PooledConfig) -> None:
        super().__init__(config)
        inner = config.inner()
        model = AutoModel.from_config(inner)
        if config.pooling != "pooler" and getattr(model, "pooler", None) is not None:
            model.pooler = None
        self.backbone = model.get_encoder() if inner.model_type == "whisper" else model
        widths = config.widths or []
        layers: list[nn.Module] = []
        for one, other in pairwise(widths):
            layers += [nn.Linear(one, other), nn.ReLU()]
        self.head = nn.Sequential(*layers[:-1])
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: all weights are loaded."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        input_values: Tensor | None = None,
        input_features: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        if input_features is not None:
            output, mask = self.backbone(input_features), self._frames(attention_mask, input_features.shape[-1])
        elif input_values is not None and input_values.dim() == 3:
            output, mask = self.backbone(input_values), None
        elif input_values is not None:
            output = self.backbone(input_values, attention_mask=attention_mask)
            mask = None
            if attention_mask is not None:
                frames = output.last_hidden_state.shape[1]
                mask = self.backbone._get_feature_vector_attention_mask(frames, attention_mask)
        else:
            types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            output, mask = self.backbone(input_ids, attention_mask=attention_mask, **types), attention_mask
        return SequenceClassifierOutput(logits=self.head(self._pooled(output, mask)))

    def _frames(self, attention_mask: Tensor | None, length: int) -> Tensor | None:
        """Which of the encoder's frames hold sound; the mask is of the spectrogram's `length` frames, or of samples."""
        if attention_mask is None:
            return None
        hop = attention_mask.shape[1] // length
        filled = (attention_mask.sum(1) + hop - 1).div(hop, rounding_mode="floor")
        used = (filled + 1).div(2, rounding_mode="floor")
        return torch.arange((length + 1) // 2, device=attention_mask.device) < used[:, None]

    def _pooled(self, output: Any, mask: Tensor | None) -> Tensor:
        how, hidden = self.config.pooling, output.last_hidden_state
        if how == "pooler":
            return output.pooler_output
        if how == "cls":
            return hidden[:, 0]
        if mask is None:
            return hidden[:, -1] if how == "last" else hidden.mean(1)
        if how == "last":
            last = mask.long().sum(1).clamp(min=1) - 1
            return hidden[torch.arange(len(hidden), device=hidden.device), last]
        weights = mask.to(hidden.dtype).unsqueeze(-1)
        return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


AutoConfig.register(PooledConfig.model_type, PooledConfig, exist_ok=True)
AutoModelForSequenceClassification.register(PooledConfig, PooledClassifier, exist_ok=True)
AutoModelForAudioClassification.register(PooledConfig, PooledClassifier, exist_ok=True)
