"""transformers' models of text as configured: checked, identified and built."""

import hashlib
import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from headstart.backbones import checkpoint, checkpoint_file
from headstart.backbones import huggingface_files as files
from headstart.backbones import weights as weights_files
from headstart.backbones.backbone import Backbone, BackboneFactory, Reading, WeightsRecord
from headstart.backbones.huggingface_depth import Layout, find_layout
from headstart.backbones.pooling import APART, Layers, Pooling
from headstart.config.ranges import Multiplier, Tokens
from headstart.errors import InputError

_LONGEST = 512
"""Most tokens where nothing else limits them and nothing is asked for."""
_VOLATILE = frozenset({"_name_or_path", "transformers_version", "architectures", "torch_dtype", "dtype"})
"""Entries of a configuration that change no number."""


class HuggingFace(BackboneFactory):
    """What text and audio have in common: where the model lies, what it is, its weights, and of which of its layers
    the features are.

    The weights of `layers=weighted` train with the tail, so that they need a strategy that thaws it; where the backbone
    is frozen whole (`strategy=feature_extraction`) they are the head's, on the pooled outputs of each layer.
    """

    def __init__(self, model: str, weights: str, rate: float, weights_key: str | None, layers: Layers) -> None:
        self.name = model
        self.weights = weights
        self.rate = rate
        self.weights_key = weights_key
        self.layers: str = layers

    def for_head_alone(self) -> "HuggingFace":
        if self.layers != "weighted":
            return self
        found = copy(self)
        found.layers = APART
        return found

    def check(self, pretrained: bool) -> None:
        with files.followed(self.place):
            self._check_settings()
            self.layout  # noqa: B018
            self._check_layers()
            self._check_weights(pretrained)
            self.reading()

    def _check_settings(self) -> None:
        """Raise `InputError` for settings that do not go with the model."""
        raise NotImplementedError

    def _layer_problems(self, pooling: str, others: str) -> list[str]:
        if pooling != "pooler" or self.layers == "last":
            return []
        said = "weighted" if self.layers == APART else self.layers
        return [f"backbone.layers={said} goes with backbone.pooling={others}, not with pooler."]

    def _check_layers(self) -> None:
        """Raise `InputError` where the outputs of all layers are asked for and cannot be had."""
        if self.layers == "last":
            return
        try:
            with files.quiet(), torch.random.fork_rng(devices=[]), torch.no_grad():
                with torch.device("meta"):
                    backbone: Any = self.build(False).eval()
                shape = tuple(backbone(backbone.example()).shape)
        except (RuntimeError, NotImplementedError):  # a model that looks at values on its way: its first step will tell
            return
        except (TypeError, ValueError, AttributeError) as error:
            shape, said = (), str(error)
        else:
            said = f"they are {shape[-1]} numbers"
        if shape[-1:] != (backbone.num_features,):
            raise InputError(
                f"backbone.model={self.name} does not give the outputs of its {self.layout.num_blocks} layers as "
                f"vectors of {self.layout.num_features} numbers ({said}). Use backbone.layers=last."
            )

    def _model(self) -> torch.nn.Module:
        """The headless model with random weights, as far as it is used."""
        return self._used(files.create(self.config, self._with_pooler))

    def _used(self, model: Any) -> torch.nn.Module:
        """The part of the headless model that is used."""
        return model

    def record(self, pretrained: bool) -> WeightsRecord:
        if not pretrained or self.weights == "none":
            return WeightsRecord("none")
        if self._file is not None:
            return WeightsRecord(self._file.source, self._file.sha256)
        return WeightsRecord(self.place.source, self.place.sha256() if self._weights_are_here else None)

    @property
    def _weights_are_here(self) -> bool:
        """Whether they need not be fetched."""
        return self.place.repository is None or (self.place.folder / self.place.weights_name()).is_file()

    def _loaded(self, pretrained: bool) -> tuple[torch.nn.Module, WeightsRecord]:
        """The model in training mode, with its weights or random ones."""
        if not pretrained or self.weights == "none":
            return self._used(files.create(self.config, self._with_pooler)).train(), WeightsRecord("none")
        if self._file is not None:
            found, model = self._found_in(self._file)
            checkpoint.load_strictly(model, found.state, self._file.source)
            record = WeightsRecord(self._file.source, self._file.sha256, found.ignored, found.place)
            return model.train(), record
        model, record = files.load(self.place, self.config, self._with_pooler)
        used = self._used(model)
        unused = [] if used is model else [name for name, part in model.named_children() if part is not used]
        return used.train(), replace(record, ignored=(*record.ignored, *unused))

    def _found_in(self, file: weights_files.WeightsFile) -> tuple[checkpoint.FoundModel, torch.nn.Module]:
        """The model's weights in a checkpoint, with a model for them. Raises `InputError` where they do not fit."""
        with torch.random.fork_rng(devices=[]):
            model = self._model()
        contents, expected = checkpoint_file.read(file.path), model.state_dict()

        def by_name(state: checkpoint.State) -> checkpoint.Matched:
            return checkpoint.compare(expected, state)

        def converted(state: checkpoint.State) -> checkpoint.Matched:
            """Under the names that transformers' files have, where these are others (AST), or had once."""
            whole, fit = files.from_pretrained(None, self.config, self._with_pooler, state)
            return replace(fit, state=self._used(whole).state_dict())

        search = partial(checkpoint.find, contents, size=len(expected), source=file.source, key=self.weights_key)
        try:
            found = search(by_name)
        except InputError as misfit:
            try:
                found = search(converted)
            except Exception:  # whatever transformers raises for weights that it cannot convert
                raise misfit from None
        trained = {name: found.state[name] for name, _ in model.named_parameters()}
        checkpoint.check_finite(trained, file.source)
        return found, model

    @property
    def _with_pooler(self) -> bool:
        return False

    def _run(self, model: torch.nn.Module) -> torch.Tensor:
        """Run the model once on nothing in particular: its last hidden states `(1, T, D)`."""
        raise NotImplementedError

    @cached_property
    def place(self) -> files.Place:
        """Where config, tokenizer or feature extractor, and by default the weights are."""
        return self.origin

    @cached_property
    def origin(self) -> files.Place:
        """Where all of that came from, wherever copies of the small files are."""
        own = self.weights not in ("hub", "none") and self._file is None
        return files.locate(self.weights if own else self.name, "backbone.weights" if own else "backbone.model")

    @property
    def model_files(self) -> Mapping[str, Path]:
        names = sorted({*files.SMALL_FILES, *self._own_files})
        return {name: path for name in names if (path := self.place.folder / name).is_file()}

    @property
    def _own_files(self) -> Collection[str]:
        """More of the names under which what reads for the model has its files."""
        return ()

    def with_model_files(self, folder: Path) -> "HuggingFace":
        found, kind = copy(self), type(self)
        for name in [name for name in vars(self) if isinstance(getattr(kind, name, None), cached_property)]:
            del found.__dict__[name]  # what was found out of other files
        found.place = files.Place(self.name, folder)
        return found

    @cached_property
    def layout(self) -> Layout:
        """Where the depth of the model lies. Raises `InputError` if it has none."""
        with files.followed(self.place):
            try:
                return self._layout_on("meta")
            except (RuntimeError, NotImplementedError):  # a model that looks at values on its way
                return self._layout_on("cpu")

    def _layout_on(self, device: str) -> Layout:
        with files.quiet(), torch.random.fork_rng(devices=[]), torch.device(device):
            model = self._model()
            files.check_size(self.place, model)
            layout = find_layout(model, self.config.num_hidden_layers, self._run)
            self._check_training(model)
            return layout

    def _check_training(self, model: torch.nn.Module) -> None:
        """Raise an error if the model cannot run in training mode though it runs otherwise."""

    @cached_property
    def config(self) -> Any:
        """transformers' configuration of the model."""
        return files.read_config(self.place)

    @cached_property
    def _file(self) -> weights_files.WeightsFile | None:
        """The checkpoint that the weights are in, where they do not lie in a folder as transformers writes it."""
        path = Path(self.weights).expanduser()
        named = path.is_file() or (self.weights.endswith(weights_files.SUFFIXES) and not path.is_dir())
        return weights_files.locate(self.weights) if named else None

    @cached_property
    def _choice(self) -> str:
        """Which of the models in a checkpoint this is, for its identity; nothing where there is one only."""
        assert self._file is not None
        found, _ = self._found_in(self._file)
        return f" {found.place}" if found.is_choice else ""

    def _identity(self, pretrained: bool) -> dict[str, Any]:
        config = {name: value for name, value in self.config.to_dict().items() if name not in _VOLATILE}
        text = json.dumps(config, sort_keys=True, default=str)
        weights = None
        if pretrained and self.weights != "none":
            place = self.place
            if self._file is not None:
                weights = f"sha256:{self._file.sha256}{self._choice}"
            else:
                weights = place.source if place.repository else f"sha256:{place.sha256()}"
        return {
            "library": "transformers",
            "model": type(self.config).__name__.removesuffix("Config"),
            "config": hashlib.sha256(text.encode()).hexdigest()[:16],
            "weights": weights,
        }

    def _check_weights(self, pretrained: bool) -> None:
        weights_files.check_key(self.weights_key, self.weights)
        if not pretrained or self.weights == "none":
            return
        if self._file is not None:
            self._choice  # noqa: B018
            return
        if self.weights_key is not None:
            raise InputError(
                f"backbone.weights_key={self.weights_key} says where in a file the model is, but the weights are no "
                "file of your own. Leave it out, or name the file (backbone.weights=PATH)."
            )
        if self._weights_are_here:
            model, record = files.load(self.place, self.config, self._with_pooler)
            checkpoint.check_finite(dict(model.named_parameters()), record.source)
        else:
            self.place.weights_name()


class HuggingFaceText(HuggingFace):
    """Any encoder or decoder of text in transformers (https://github.com/huggingface/transformers).

    Args:
        model: Its name on the hub (`owner/name`, `owner/name@revision`), a folder that `save_pretrained` wrote, or
            `package:<name>` for one that an installed package holds.
        weights: `hub` (those that come with the model), another folder or `package:<name>` (then its configuration and
            tokenizer count too), a checkpoint of this very model, or `none` for random ones.
        pooling: From the tokens' vectors to the text's: that of the first token (`cls`), the mean of all, that of the
            last (for decoders, whose last token alone has seen the whole text), or the pretrained pooler's.
        max_length: Most tokens of a text; `None` for what the model can take, at most 512.
        weights_key: Where in a checkpoint the model is, if it holds several (see `checkpoint`).
        layers: Features of the last layer, of a learned weighting over all of them, or of all side by side.
    """

    modality: Literal["text"] = "text"

    def __init__(
        self,
        model: str,
        weights: str = "hub",
        pooling: Pooling = "mean",
        max_length: Tokens | None = None,
        rate: Multiplier = 0.1,
        weights_key: str | None = None,
        layers: Layers = "last",
    ) -> None:
        super().__init__(model, weights, rate, weights_key, layers)
        self.pooling: Pooling = pooling
        self.max_length = max_length

    def _check_settings(self) -> None:
        if self.config.is_encoder_decoder:
            raise InputError(
                f"backbone.model={self.name} has an encoder and a decoder; choose a model that is one or the other."
            )
        problems = self._layer_problems(self.pooling, "mean, cls or last")
        if self.pooling == "pooler" and not files.accepts_pooler(self.config):
            problems.append(f"backbone.model={self.name} has no pooler: choose backbone.pooling=mean, cls or last.")
        if self.pooling == "cls" and not self.tokenizer.has_cls:
            problems.append(
                f"backbone.model={self.name} puts no token for the whole text before it: choose backbone.pooling=last "
                "or mean."
            )
        known = getattr(self.config, "vocab_size", None)
        if known is not None and self.tokenizer.highest_id >= known:
            problems.append(
                f"backbone.model={self.name} must know all tokens of its tokenizer, but has {known} of them, and the "
                f"tokenizer gives numbers up to {self.tokenizer.highest_id}. Take the tokenizer that belongs to it."
            )
        if self.max_length is not None and self.limit is not None and self.max_length > self.limit:
            problems.append(
                f"backbone.max_length must be at most {self.limit} for this model, but is {self.max_length}."
            )
        if problems:
            raise InputError(*problems)

    def identity(self, pretrained: bool) -> dict[str, Any]:
        layers = {} if self.layers == "last" else {"layers": self.layers}
        return {**self._identity(pretrained), "pooling": self.pooling, "tokenizer": self.tokenizer.identity, **layers}

    def shapes(self, num_examples: int, **reading: Any) -> dict[str, Tensor]:
        ids = torch.empty(num_examples, reading["max_length"], dtype=torch.int64, device="meta")
        return {"input_ids": ids, "attention_mask": torch.empty_like(ids)}

    def reading(self) -> Reading:
        max_length = self.max_length or min(self.limit or _LONGEST, _LONGEST)
        return Reading(
            {"tokenizer": self.tokenizer, "max_length": max_length},
            {"tokenizer": self.tokenizer.identity, "max_length": max_length},
            {} if self.limit is None else {"max_length": self.limit},
        )

    def build(self, pretrained: bool) -> Backbone:
        """Under `torch.device("meta")`, `pretrained=False` allocates nothing: for plans."""
        from headstart.backbones.huggingface_model import TextBackbone

        layout = self.layout
        model, record = self._loaded(pretrained)
        return TextBackbone(model, layout, self.pooling, record, self.layers)

    @property
    def _own_files(self) -> Collection[str]:
        names: Collection[str] = self.tokenizer.file_names
        return names

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer, as the data needs it."""
        from headstart.backbones.huggingface_tokenizer import read_tokenizer

        return read_tokenizer(self.place)

    @cached_property
    def limit(self) -> int | None:
        """Most tokens that the model's positions and tokenizer allow; `None` where nothing limits them."""
        positions = getattr(self.config, "max_position_embeddings", None)
        if positions is not None and self._positions_begin_after_padding():
            positions -= self.config.pad_token_id + 1
        limits = [limit for limit in (positions, self.tokenizer.limit) if limit and limit > 0]
        return min(limits, default=None)

    def _positions_begin_after_padding(self) -> bool:
        """Whether positions count from behind the padding token's id, as RoBERTa's do."""
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            embeddings = getattr(self._model(), "embeddings", None)
        table = getattr(embeddings, "position_embeddings", None)
        return getattr(table, "padding_idx", None) is not None

    @property
    def _with_pooler(self) -> bool:
        return self.pooling == "pooler"

    def _run(self, model: torch.nn.Module) -> torch.Tensor:
        return model(input_ids=torch.zeros(1, 8, dtype=torch.long)).last_hidden_state

    def _check_training(self, model: torch.nn.Module) -> None:
        """Some take texts of one length alone then (Reformer)."""
        with torch.no_grad(), suppress(RuntimeError, NotImplementedError):  # those that look at values draw numbers
            self._run(model.train())
