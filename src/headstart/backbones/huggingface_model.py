"""Live transformers models in the shape of every backbone."""

import inspect
import logging
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstart.backbones.backbone import Backbone, DepthGroup, Granularity, Inputs, WeightsRecord
from headstart.backbones.huggingface_depth import STEM, TAIL, Layout, depth_groups, spanning_names
from headstart.backbones.pooling import APART, LayerMix, Pooling, pool

FEATURES = "features"
"""The name of the activations after the last group: the pooled features."""
HIDDEN, MASK = "hidden", "mask"
"""Names of activations before it: hidden states, and where they are no padding `(B, T)`."""


_UNFIT = (TypeError, RuntimeError, ValueError, AttributeError, IndexError)
"""What models raise that a cut does not fit; NotImplementedError is a RuntimeError."""
log = logging.getLogger(__name__)


class _ReachedError(Exception):
    """Ends a forward pass at the boundary that was asked for."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


class TransformersBackbone(Backbone):
    """A transformers model without its head; subclasses say how inputs become hidden states.

    `layers` says of which of them the features are (see `pooling.Layers`), or `apart`: pooled side by side, for a head
    that weighs them. What the model itself does outside its layers (dropout of embeddings, SpecAugment) follows the
    stem: it is off where the stem is frozen.
    """

    def __init__(
        self, model: nn.Module, layout: Layout, pooling: Pooling, record: WeightsRecord, layers: str = "last"
    ) -> None:
        super().__init__()
        self.model: nn.Module = model
        self.layout = layout
        self.pooling = pooling
        self.weights = record
        self.layers = layers
        num_states = layout.num_blocks + 1
        self.mix = LayerMix(num_states) if layers == "weighted" else None
        self.num_weighed = num_states if layers == APART else 1
        self.num_features = layout.num_features * (num_states if layers in ("concat", APART) else 1)
        self._exact: list[str] | None = None
        self._spanning: tuple[list[str], list[str]] | None = None
        self._last_name: str | None = None

    @abstractmethod
    def states(self, inputs: Inputs) -> tuple[Any, Tensor | None]:
        """The model's output, and a mask `(B, T)` that is 1 (or true) where its hidden states are no padding."""

    @abstractmethod
    def context(self, inputs: Inputs, hidden: Tensor) -> dict[str, Tensor]:
        """What `resume` needs beside hidden states: batch-first tensors, `MASK` where there is padding."""

    @abstractmethod
    def resume(self, hidden: Tensor, context: Inputs) -> tuple[Any, Tensor | None]:
        """As `states`, from the hidden states that enter the layers; what makes them from inputs is passed over."""

    @abstractmethod
    def example(self) -> dict[str, Tensor]:
        """A small batch with padding, on the model's device, to prove cuts with."""

    @property
    def unset(self) -> dict[str, str]:
        names = [] if self.mix is None else [f"mix.{name}" for name, _ in self.mix.named_parameters()]
        return dict.fromkeys(names, "backbone.layers=weighted")

    def pooled(self, output: Any, mask: Tensor | None) -> Tensor:
        """Features `(B, num_features)` of the model's output."""
        if self.pooling == "pooler":
            return output.pooler_output
        if self.layers == "last":
            return pool(output.last_hidden_state, mask, self.pooling)
        if self.mix is not None:
            return pool(self.mix(output.hidden_states), mask, self.pooling)
        return torch.cat([pool(state, mask, self.pooling) for state in output.hidden_states], 1)

    def weigh(self, weights: Tensor) -> None:
        """From now on weigh the layers (`apart` until now) as a head with these weights would."""
        self.num_features, self.num_weighed, self.layers = self.layout.num_features, 1, "weighted"
        self.mix, self._last_name = LayerMix(len(weights)), None
        self.mix.weights.data.copy_(weights)

    def forward(self, inputs: Inputs) -> Tensor:
        self._settle()
        return self.pooled(*self.states(inputs))

    def groups(self, granularity: Granularity = "blocks") -> list[DepthGroup]:
        return depth_groups(
            self.model, self.layout, granularity, "model.", {} if self.mix is None else {"mix": self.mix}
        )

    def real_positions(self, inputs: Inputs, values: Tensor) -> Tensor | None:
        return self.context(inputs, values).get(MASK)

    # --- cuts: the model's own forward, begun late or ended early ----------------------------------------------------

    @property
    def _wanted(self) -> dict[str, Any]:
        """What the model is asked for beside its last hidden states."""
        return {} if self.layers == "last" else {"output_hidden_states": True}

    @property
    def boundaries(self) -> list[str]:
        if self.layers != "last":
            return [self._last]
        if self._exact is None:
            self._exact = list(self._proven())
        return [*self._exact, self._last]

    @property
    def _last(self) -> str:
        if self._last_name is None:
            self._last_name = self.groups()[-1].name
        return self._last_name

    def prefix(self, inputs: Inputs, boundary: str) -> dict[str, Tensor]:
        if boundary == self._last:
            return {FEATURES: self(inputs)}
        self._settle()
        layers = self.layout.layers(self.model)
        if boundary == STEM:
            hook = layers[0].register_forward_pre_hook(_stop_before, with_kwargs=True)
        else:
            hook = layers[self._place(boundary)].register_forward_hook(_stop_after)
        try:
            self.states(inputs)
        except _ReachedError as reached:
            context = self.context(inputs, reached.hidden)
            if MASK not in context:
                return {HIDDEN: reached.hidden, **context}
            # what padding gives is nothing to keep
            return {HIDDEN: reached.hidden.masked_fill(context[MASK][..., None] == 0, 0), **context}
        finally:
            hook.remove()
        raise AssertionError(f"no layer was reached before {boundary}")

    def suffix(self, activations: Inputs, boundary: str) -> Tensor:
        if boundary == self._last:
            return activations[FEATURES]
        self._settle()
        hidden = activations[HIDDEN]
        passed = 0 if boundary == STEM else self._place(boundary) + 1
        with _standing_in(self.layout.layers(self.model), passed, hidden, self.layout.tuple_size):
            return self.pooled(*self.resume(hidden, activations))

    def _place(self, boundary: str) -> int:
        assert boundary.startswith("blocks."), f"no boundary {boundary!r}; see boundaries"
        return int(boundary.removeprefix("blocks."))

    def _proven(self) -> Iterator[str]:
        """The boundaries at which the two halves gave the whole's features of a small batch, bit for bit.

        On the meta device, which has no bits, those at which they ran.
        """
        twin = deepcopy(self).eval()  # some models change with what they are shown
        try:
            with torch.no_grad():
                example = twin.example()
                whole = twin(example)
                for name in [group.name for group in twin.groups()][:-1]:
                    if name != TAIL and twin._same(example, name, whole):
                        yield name
        except _UNFIT as error:
            log.debug("No cut of %s was tried: %r", type(self.model).__name__, error)

    def _same(self, example: Inputs, boundary: str, whole: Tensor) -> bool:
        try:
            features = self.suffix(self.prefix(example, boundary), boundary)
            return whole.is_meta or torch.equal(features, whole)
        except _UNFIT:
            return False  # its layers hand on more than hidden states: it cannot be cut here

    def _settle(self) -> None:
        """Bring what spans several groups in line with the stem, whose work it does itself."""
        if self._spanning is None:
            self._spanning = spanning_names(self.model, self.layout)
        spanning, stem = self._spanning
        on = self.training and any(self.model.get_submodule(name).training for name in stem)
        for name in spanning:
            self.model.get_submodule(name).training = on


class TextBackbone(TransformersBackbone):
    """`{"input_ids": (B, L), "attention_mask": (B, L), "token_type_ids": (B, L)?}` → pooled features `(B, D)`."""

    def __init__(
        self, model: nn.Module, layout: Layout, pooling: Pooling, record: WeightsRecord, layers: str = "last"
    ) -> None:
        super().__init__(model, layout, pooling, record, layers)
        taken = inspect.signature(model.forward).parameters
        self._taken = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in taken]

    def states(self, inputs: Inputs) -> tuple[Any, Tensor | None]:
        arguments = {name: inputs[name] for name in self._taken if name in inputs}
        return self.model(**arguments, **self._wanted), inputs["attention_mask"]

    def context(self, inputs: Inputs, hidden: Tensor) -> dict[str, Tensor]:
        return {MASK: inputs["attention_mask"]}

    def num_positions(self, lengths: np.ndarray) -> np.ndarray:
        return lengths

    def resume(self, hidden: Tensor, context: Inputs) -> tuple[Any, Tensor | None]:
        mask = context[MASK]
        return self.model(input_ids=torch.zeros_like(mask), attention_mask=mask), mask

    def example(self) -> dict[str, Tensor]:
        device = next(self.model.parameters()).device
        mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2], device=device)
        vocabulary = self.model.get_input_embeddings().num_embeddings  # type: ignore[operator]
        ids = torch.randint(0, vocabulary, mask.shape, generator=torch.Generator().manual_seed(0)).to(device)
        return {"input_ids": ids, "attention_mask": mask}


def _stop_before(module: nn.Module, args: tuple, kwargs: dict) -> None:
    raise _ReachedError(args[0] if args else kwargs["hidden_states"])


def _stop_after(module: nn.Module, args: tuple, output: Any) -> None:
    raise _ReachedError(output[0] if isinstance(output, tuple) else output)


@contextmanager
def _standing_in(layers: list[nn.Module], passed: int, hidden: Tensor, tuple_size: int) -> Iterator[None]:
    """The first `passed` layers give `hidden` without doing anything; with none passed, the first one is fed it."""
    output = (hidden, *[None] * (tuple_size - 1)) if tuple_size else hidden
    hook = None
    if passed:
        for layer in layers[:passed]:
            layer.forward = lambda *args, **kwargs: output
    else:
        hook = layers[0].register_forward_pre_hook(partial(_feed, hidden), with_kwargs=True)
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()
        for layer in layers[:passed]:
            del layer.forward


def _feed(hidden: Tensor, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    return ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})
