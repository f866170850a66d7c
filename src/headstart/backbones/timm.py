"""timm's vision models as configured: checked, identified and built."""

import inspect
import logging
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import cache, cached_property, partial
from typing import Annotated, Any, Literal, get_args

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from headstart.backbones import checkpoint, checkpoint_file, hub, weights
from headstart.backbones.backbone import Backbone, BackboneFactory, Reading, WeightsRecord, in_json
from headstart.backbones.channels import adapted, channel_values
from headstart.backbones.timm_create import Created, create, skipped_init
from headstart.backbones.timm_model import CropMode, Interpolation, Preprocessing, TimmBackbone
from headstart.backbones.timm_trial import Trial, TrialError, try_out
from headstart.compat import declare_torchvision_operators
from headstart.config.ranges import Extent, Fraction, Multiplier, ProperFraction, Spread
from headstart.config.sides import Sides, as_setting, height_width, sides_of, told
from headstart.errors import InputError, unknown
from headstart.names import listed, plural

log = logging.getLogger(__name__)

_OURS = frozenset(
    {"pretrained", "num_classes", "checkpoint_path", "cache_dir", "features_only", "in_chans", "img_size", "scriptable"}
    | {"pretrained_cfg", "pretrained_cfg_overlay", "drop_rate", "drop_path_rate", "exportable", "no_jit", "model_name"}
)
"""Arguments of `timm.create_model` that are set here and cannot be given."""
CropShare = Annotated[float, Ge(0.1), Le(1)]
"""Share of a resized picture's shorter side that is kept."""
_CROP_MODES: dict[str | None, CropMode] = {"crop": "center", "squash": "squash", "letterbox": "border"}
"""timm's words for those of `data.fit`."""
_UNITS = (14, 16, 32)
"""Of what models' sizes usually are multiples."""
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class Timm(BackboneFactory):
    """Any image model of timm (https://github.com/huggingface/pytorch-image-models), by its name there.

    `weights` is `hub` (timm's default), `package:<name>` (an installed package's), a path, or `none`; `weights_key`
    says where in a file the model is (`teacher`, `state_dict_ema`), if it holds several (see `checkpoint`).
    Preprocessing is timm's own for the weights; `size` (pixels: a side, or height and width), `mean`, `std`,
    `interpolation`, `crop_pct` and `crop_mode` override it (`center` cuts off what sticks out, `squash` ignores the
    shape, `border` fills).
    `channels_last` is a memory format, faster for convolutions. `arguments` go to `timm.create_model`.
    """

    modality: Literal["vision"] = "vision"
    reads_one_size = True
    channels = 3
    """Of the pictures that it reads; weights for three are adapted to others as timm does it."""

    def __init__(
        self,
        model: str,
        weights: str = "hub",
        drop_rate: ProperFraction = 0.0,
        drop_path_rate: ProperFraction = 0.0,
        size: Extent | None = None,
        mean: list[Fraction] | None = None,
        std: list[Spread] | None = None,
        interpolation: Interpolation | None = None,
        crop_pct: CropShare | None = None,
        channels_last: bool = True,
        arguments: dict[str, Any] | None = None,
        rate: Multiplier = 1.0,
        crop_mode: CropMode | None = None,
        weights_key: str | None = None,
    ) -> None:
        self.name = model
        self.rate = rate
        self.weights = weights
        self.weights_key = weights_key
        self.drop_rate = drop_rate
        self.drop_path_rate = drop_path_rate
        self.size = None if size is None else sides_of(size)
        self.mean = mean
        self.std = std
        self.interpolation = interpolation
        self.crop_pct = crop_pct
        self.crop_mode = crop_mode
        self.channels_last = channels_last
        self.arguments = dict(arguments or {})

    def for_pictures(self, size: Sides | None, fit: str | None = None, channels: int = 3) -> "Timm":
        if (size, fit, channels) == (None, None, self.channels):
            return self
        own = self._own
        if size is not None:
            own["size"] = size
        if fit is not None:
            own |= self._fitted(fit)
        made = Timm(self.name, **own)
        made.channels = channels
        return made

    @property
    def _own(self) -> dict[str, Any]:
        """Its settings but for its name."""
        return {name: value for name, value in vars(self).items() if name in _settings()}

    def _fitted(self, fit: str) -> dict[str, Any]:
        """Settings of ours that `data.fit` comes to."""
        mode = _CROP_MODES[fit]
        if self.crop_mode not in (None, mode):
            raise InputError(
                f"data.fit={fit} and backbone.crop_mode={self.crop_mode} say how pictures are fitted, each in its own "
                "way. Leave one of them out."
            )
        kept = {} if fit == "crop" or self.crop_pct is not None else {"crop_pct": 1.0}  # all of the picture
        return {"crop_mode": mode, **kept}

    # --- what is asked before building --------------------------------------------------------------------------------

    def check(self, pretrained: bool) -> None:
        self.probe  # noqa: B018
        weights.check_key(self.weights_key, self.weights)
        if not pretrained or self.weights == "none":
            return
        if not isinstance(self._located, hub.HubFile) or self._located.path is not None:  # nothing is downloaded here
            self._choice  # noqa: B018

    def identity(self, pretrained: bool) -> dict[str, Any]:
        identity: dict[str, Any] = {
            **({} if self.preprocessing.crop_mode == "center" else {"crop_mode": self.preprocessing.crop_mode}),
            "library": "timm",
            "model": self.name,
            "arguments": self._create_arguments(),
            "mean": list(self.preprocessing.mean),
            "std": list(self.preprocessing.std),
            "channels_last": self.channels_last,
            "weights": None,
        }
        if pretrained and self.weights != "none":
            file = self._located
            if isinstance(file, hub.HubFile):
                identity["weights"] = file.source
            else:
                identity["weights"] = f"sha256:{file.sha256}{self._choice}"
        return identity

    def record(self, pretrained: bool) -> WeightsRecord:
        if not pretrained or self.weights == "none":
            return WeightsRecord("none")
        file = self._located
        path = file.local if isinstance(file, hub.HubFile) else file.path
        return WeightsRecord(file.source, None if path is None else weights.file_sha256(path))

    def shapes(self, num_examples: int, **reading: Any) -> dict[str, Tensor]:
        shape = num_examples, self.channels, *height_width(reading["size"])
        kind = torch.uint8 if reading.get("depth", 8) == 8 else torch.float32
        return {"pixels": torch.empty(shape, dtype=kind, device="meta")}

    def reading(self) -> Reading:
        arguments = self.preprocessing.sizing
        return Reading(arguments, in_json(arguments))

    @property
    def patch_step(self) -> int:
        """Pixels from one patch to the next, where the model reads patches that do not overlap; else 1."""
        return self.probe.patches.step

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """The weights' own, where it is not overridden."""
        config = self._config
        return Preprocessing(
            size=self.size or self._own_size,
            mean=tuple(self.mean or self._per_channel(config.mean)),
            std=tuple(self.std or self._per_channel(config.std)),
            interpolation=self.interpolation or config.interpolation,
            crop_pct=self.crop_pct or config.crop_pct,
            crop_mode=self.crop_mode or config.crop_mode,
        )

    def _per_channel(self, values: Sequence[float]) -> tuple[float, ...]:
        return tuple(values if self.channels == 3 else channel_values(values, self.channels))

    # --- building -----------------------------------------------------------------------------------------------------

    def build(self, pretrained: bool) -> TimmBackbone:
        """Under `torch.device("meta")`, `pretrained=False` allocates nothing: for plans."""
        load = pretrained and self.weights != "none"
        probe = self.probe
        created = self._create(without_init=load)
        record = WeightsRecord("none")
        if load:
            found, record = self.fitting_state(created)
            checkpoint.load_strictly(created.model, found.state, record.source)
        return TimmBackbone(created.model, probe.shape[1], self.preprocessing, record, self.channels_last)

    def rebuild(self, num_features: int) -> Backbone:
        if not num_features:  # which an unusual head does not tell
            return super().rebuild(num_features)
        model = self._create(without_init=True).model  # a run has tried it out
        return TimmBackbone(model, num_features, self.preprocessing, WeightsRecord("none"), self.channels_last)

    def _create(self, size: Sides | None = None, without_init: bool = False) -> Created:
        """The model with timm's conversion of its checkpoints, whose weights are still to be loaded."""
        with skipped_init() if without_init else nullcontext():
            return create(self.name, num_classes=0, **self._create_arguments(size))

    def _create_arguments(self, size: Sides | None = None) -> dict[str, Any]:
        arguments = dict(self.arguments)
        if self.channels != 3:
            arguments["in_chans"] = self.channels
        if self._config.fixed_input_size:
            sides = size or self.preprocessing.size
            arguments["img_size"] = sides if isinstance(sides, int) else list(sides)
        if self.drop_rate:
            arguments["drop_rate"] = self.drop_rate
        if self.drop_path_rate:
            arguments["drop_path_rate"] = self.drop_path_rate
        return arguments

    @cached_property
    def _config(self) -> Any:
        """timm's record of the (default) pretrained weights. Raises `InputError` for a name timm does not know."""
        return _weights_config(self.name)

    @cached_property
    def probe(self) -> Trial:
        """The model without memory, and the shape of its features; made once, to check the settings."""
        _ = self._config  # a name that timm does not know is told first
        problems = [
            f"backbone.arguments cannot set {name!r}: it is set here." for name in sorted(_OURS & {*self.arguments})
        ]
        for key, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != self.channels:
                each = "each of red, green, blue" if self.channels == 3 else "each channel"
                problems.append(
                    f"backbone.{key} must have {plural(self.channels, 'value')}, one for {each}, but got {values}."
                )
        problems += self._preprocessing_problems()
        if problems:
            raise InputError(*problems)
        size = self.preprocessing.size
        try:
            trial = self._tried(size)
        except TrialError as error:  # an argument it does not take, a size it cannot have
            raise InputError(
                f"timm cannot make backbone.model={self.name} with {self._create_arguments() or 'its defaults'}"
                f" for pictures of {told(size)} px: {error}{self._other_sizes(error.step)}"
            ) from error
        if len(trial.shape) != 2:
            raise InputError(f"backbone.model={self.name} gives features of shape {trial.shape}, but must give (B, D).")
        if any(trial.patches.unread) and size != self._own_size:  # what weights were trained at is right for them
            raise InputError(
                f"backbone.model={self.name} reads patches of {trial.patches.step} px, so that of pictures of "
                f"{told(size)} px {_rest(size, trial.patches.unread)} of the picture, would not be read."
                f"{self._other_sizes(trial.patches.step)}"
            )
        return trial

    @property
    def _own_size(self) -> Sides:
        """What the weights were trained at."""
        return sides_of(self._config.input_size[-2:])

    def _tried(self, size: Sides) -> Trial:
        make = partial(self._create, size, without_init=True)
        return try_out(make, size, size == self._own_size, self.channels)

    def _other_sizes(self, step: int) -> str:
        """Advice: the sizes nearest to the one asked for that the model reads in full, and that of its weights."""
        size, own = self.preprocessing.size, self._own_size
        if size == own or not self._reads(own, whole=False):  # then it is not for the size
            return ""
        nearest = [next(filter(self._reads, _near(size, step, up)), None) for up in (False, True)]
        near = " or ".join(as_setting(one) for one in nearest if one is not None and one != own)
        return (
            f" Set data.size (for sounds backbone.size) to {near + ', or to ' if near else ''}{as_setting(own)}, its "
            "weights' own."
        )

    def _reads(self, size: Sides, whole: bool = True) -> bool:
        try:
            return not (any(self._tried(size).patches.unread) and whole)
        except TrialError:
            return False

    def _preprocessing_problems(self) -> list[str]:
        """What of the weights' own preprocessing cannot be had here, and is not overridden."""
        problems = []
        if self.preprocessing.interpolation not in get_args(Interpolation):
            problems.append(
                f"backbone.interpolation must be one of {', '.join(get_args(Interpolation))}, but the weights of "
                f"backbone.model={self.name} say {self.preprocessing.interpolation!r}: choose one."
            )
        return problems

    # --- weights ------------------------------------------------------------------------------------------------------

    @cached_property
    def _located(self) -> weights.WeightsFile | hub.HubFile:
        if self.weights != "hub":
            return weights.locate(self.weights)
        if self._config.hf_hub_id is None:
            raise InputError(
                f"timm has no weights on the hub for backbone.model={self.name}. Give a file"
                f"{f' (say, from {self._config.url})' if self._config.url else ''}, or backbone.weights=none."
            )
        return hub.find(self._config.hf_hub_id, [self._config.hf_hub_filename or _HUB_FILES[0], *_HUB_FILES])

    @cached_property
    def _choice(self) -> str:
        """Which of the models in a file this is, for its identity; nothing where there is one only."""
        found, _ = self.fitting_state(self.probe)
        return f" {found.place}" if found.is_choice else ""

    def fitting_state(self, created: Created) -> tuple[checkpoint.FoundModel, WeightsRecord]:
        """The file's tensors under the model's names, without the old classifier; `InputError` if they don't fit.

        For other pictures than those of three channels, the tensors are a file's for three, adapted, or one's for as
        many.
        """
        if self.channels == 3:
            return self._fitting(created)
        try:
            found, record = self._in_colour._fitting(self._in_colour.probe)
        except InputError:
            with suppress(InputError):
                return self._fitting(created)
            raise
        state, changed = adapted(found.state, created.model, self.channels)
        self._say_adapted(changed, record.source)
        return replace(found, state=state), record

    @cached_property
    def _in_colour(self) -> "Timm":
        """The same for pictures in red, green and blue, which weights are usually for."""
        return Timm(self.name, **{**self._own, "mean": None, "std": None})

    def _say_adapted(self, changed: Sequence[str], source: str) -> None:
        how = "are summed" if self.channels == 1 else f"are repeated in turn and multiplied by 3/{self.channels}"
        mean, std = (", ".join(f"{value:.3g}" for value in values[:4]) + (", …" if len(values) > 4 else "")
                     for values in (self.preprocessing.mean, self.preprocessing.std))  # fmt: skip
        log.warning(
            "Pictures have %s, and %s is for three: its kernels for red, green and blue %s (%s). Mean %s, std %s.",
            *(plural(self.channels, "channel"), source, how, listed(changed), mean, std),
        )

    def _fitting(self, created: Created) -> tuple[checkpoint.FoundModel, WeightsRecord]:
        """As `fitting_state`, of just these channels."""
        file = self._located
        model: Any = created.model
        path = file.fetch() if isinstance(file, hub.HubFile) else file.path
        contents, expected = checkpoint_file.read(path), model.state_dict()
        classifier = model.pretrained_cfg.get("classifier") or ()
        classifiers = (classifier,) if isinstance(classifier, str) else tuple(classifier)

        def fit(state: checkpoint.State) -> checkpoint.Matched:
            if isinstance(file, weights.WeightsFile) and file.by_order:
                renamed = checkpoint.by_order(state, self._with_classifier)
                if not renamed.is_exact:
                    return renamed
                state = renamed.state
            state = checkpoint.convert(state, model, created.filter_fn)
            return checkpoint.compare(expected, state, classifiers)

        found = checkpoint.find(contents, fit, len(expected), file.source, self.weights_key)
        trained = {name: found.state[name] for name, _ in model.named_parameters()}
        checkpoint.check_finite(trained, file.source)
        return found, WeightsRecord(file.source, weights.file_sha256(path), found.ignored, found.place)

    def source_classifier(self) -> nn.Linear:
        if self.weights == "none":
            return super().source_classifier()
        found, record = self.fitting_state(self.probe)
        width = self.probe.shape[1]
        matrices = [value.flatten(1) for value in found.classifier.values() if value.ndim > 1]
        vectors = [value for value in found.classifier.values() if value.ndim == 1]
        if len(matrices) != 1 or len(vectors) > 1 or matrices[0].shape[1] != width:
            raise InputError(
                f"strategy.regularizer=CoTuning tunes the classifier that the backbone was pretrained with, but in "
                f"{record.source} there is none that is one linear layer on the {width} features of {self.name}. Use "
                "other weights, or another strategy."
            )
        layer = nn.utils.skip_init(nn.Linear, width, len(matrices[0]))
        with torch.no_grad():
            layer.weight.copy_(matrices[0])
            layer.bias.copy_(vectors[0]) if vectors else layer.bias.zero_()
        return layer

    @cached_property
    def _with_classifier(self) -> dict[str, Tensor]:
        """The whole model's tensors, without memory."""
        with torch.device("meta"):
            arguments = {**self._create_arguments(), "in_chans": 3}
            return create(self.name, **arguments).model.state_dict()


def _rest(size: Sides, unread: tuple[int, int]) -> str:
    """In words: what of a picture is not read, and how much that is."""
    rows, columns = unread
    each = [plural(count, name) for count, name in ((rows, "row"), (columns, "column")) if count]
    lines = f"{rows} rows and columns" if rows == columns else " and ".join(each)
    height, width = height_width(size)
    return f"the last {lines}, {1 - (1 - rows / height) * (1 - columns / width):.0%}"


def _near(size: Sides, step: int, up: bool) -> list[Sides]:
    """Sizes whose sides are multiples of what models' usually are, above or below; the nearest first."""
    found = set()
    for unit in (step, *_UNITS):
        sides = height_width(size)
        made = tuple(-(-side // unit) * unit if up else side // unit * unit for side in sides)
        if made == sides:
            made = tuple(side + unit if up else side - unit for side in sides)
        if min(made) > 0:
            found.add(made)
    return [sides_of(one) for one in sorted(found, reverse=not up)]


@cache
def _settings() -> frozenset[str]:
    return frozenset(inspect.signature(Timm).parameters)


@cache
def _weights_config(name: str) -> Any:
    declare_torchvision_operators()
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise unknown("backbone.model", name, timm.list_models())
    tagged = timm.list_models(f"{architecture}.*", pretrained=True)
    if tag and name not in tagged:
        raise unknown("weights of backbone.model", name, tagged)
    return timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
