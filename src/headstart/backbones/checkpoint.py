"""Finding a model in a checkpoint, whatever training program wrote it, and loading it strictly.

Tensors have full names: `state_dict.module.encoder_q.conv1.weight` is the tensor `module.encoder_q.conv1.weight` of the
mapping `state_dict`. So what wraps a model, be it a mapping or a prefix, is one thing: the place before its own names.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest

import torch
from torch import Tensor, nn

from headstart.backbones.checkpoint_file import CheckpointContents
from headstart.errors import InputError

State = Mapping[str, Tensor]

_PREFERRED = (
    ("state_dict_ema", "model_ema", "state_dict", "model", "current_model_state"),
    ("encoder_q", "encoder_k"),
    ("base_encoder", "momentum_encoder"),
    ("backbone", "momentum_backbone"),
)
"""Where a model lies in a file twice, what comes first, as in the programs that write such files.

timm and torchvision: the average of the weights; Lightning's WeightAveraging keeps it under state_dict. MoCo and
solo-learn: what was trained by gradients. There is no such custom for DINO's student and teacher.
"""
_HEADS = re.compile(
    r"((.*_)?(heads?|fc|classifier|pooler|projection|projector|predictor|prototypes?|queue)(_.*)?"
    r"|decoder(_.*)?|mask(ed)?_(token|embed))"
)
"""Modules that pretraining puts on top of a model, by the names that are usual for them."""
_COUNTED = ".num_batches_tracked"
"""A buffer of batch normalisation that files from before torch 0.4.1 lack; it starts at 0 and is not used."""
_NUM_SHOWN = 10
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Matched:
    """Tensors under a model's own names, with what keeps them from being exactly its own."""

    state: State
    ignored: tuple[str, ...] = ()
    """Names that were left out: the model's old classifier."""
    heads: tuple[str, ...] = ()
    """Others that were left out: what else lay on top of it."""
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshaped: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    """Further reasons, in words."""
    num_right: int = 0
    """How many of the model's tensors are there, in their shape."""
    classifier: State = field(default_factory=dict)
    """The tensors of the old classifier."""

    @property
    def is_exact(self) -> bool:
        return not (self.missing or self.unexpected or self.misshaped or self.other)

    @property
    def problems(self) -> str:
        return (
            "".join(f"; {reason}" for reason in self.other)
            + _listing("; missing keys", self.missing)
            + _listing("; unexpected keys", self.unexpected)
            + _listing("; keys of another shape", self.misshaped)
        )


@dataclass(frozen=True)
class FoundModel:
    """A model in a file."""

    state: State
    place: str
    """What comes before its own names; nothing if it is all that the file holds."""
    is_choice: bool
    """Whether the file holds the model in other places too, with other values."""
    ignored: tuple[str, ...]
    """Names (relative to the place) that were left out there, and the branches of the file elsewhere, as `name.*`."""
    classifier: State = field(default_factory=dict)
    """The tensors of the model's old classifier, which is among them."""


def find(
    contents: CheckpointContents, fit: Callable[[State], Matched], size: int, source: str, key: str | None
) -> FoundModel:
    """The one place in a file whose tensors are exactly the model's, all of them; what is left out is said.

    Args:
        contents: What the file holds.
        fit: How tensors, under the names that they have at a place, fit the model.
        size: How many tensors the model has, about.
        source: The file, for messages.
        key: Where to look, if the user says (`backbone.weights_key`).

    Raises:
        InputError: listing what does not fit at the likeliest place, or the places to choose from.
    """
    tensors = contents.tensors
    tried = {place: fit(below(tensors, place)) for place in _places(tensors, size // 2)}
    exact = _innermost([place for place, found in tried.items() if found.is_exact])
    chosen = exact if key is None else [place for place in exact if _within(place, key)]
    if not chosen:
        raise _misfit(contents, tried, source, key)
    place = _preferred(chosen, tried)
    if place is None:
        raise _ambiguous(chosen, source)
    others = [other for other in exact if other != place and not _equal(tried[place].state, tried[other].state)]
    branches = _branches(tensors, place)
    if place or branches or tried[place].heads:
        _say_what_was_taken(contents, tried[place], place, branches, others, source)
    ignored = (*tried[place].ignored, *tried[place].heads, *(f"{name}.*" for name in branches))
    return FoundModel(tried[place].state, place, bool(others), ignored, tried[place].classifier)


def compare(expected: State, state: State, classifiers: Iterable[str] = ()) -> Matched:
    """How `state` fits a model's `expected` tensors, but for its old classifier and heads on top of it."""
    stems, own = tuple(f"{name}." for name in classifiers), {_top(name) for name in expected}
    extra = [name for name in state if name not in expected]
    ignored = [name for name in extra if stems and name.startswith(stems)]
    heads = [name for name in extra if name not in ignored and _top(name) not in own and _HEADS.fullmatch(_top(name))]
    left_out = {*ignored, *heads}
    kept = {name: tensor for name, tensor in state.items() if name not in left_out}
    kept |= {name: torch.tensor(0) for name in expected if name not in state and name.endswith(_COUNTED)}
    misshaped = [
        f"{name} {tuple(kept[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in kept and kept[name].shape != tensor.shape
    ]
    missing = [name for name in expected if name not in kept]
    return Matched(
        kept,
        tuple(ignored),
        tuple(heads),
        tuple(missing),
        tuple(name for name in extra if name in kept),
        tuple(misshaped),
        num_right=len(expected) - len(missing) - len(misshaped),
        classifier={name: state[name] for name in ignored},
    )


def load_strictly(module: nn.Module, state: State, source: str) -> None:
    """Copy `state` into `module`; every tensor must be there, with its shape, and no other."""
    found = compare(module.state_dict(), state)
    if not found.is_exact:
        raise refusal(source, found.problems)
    module.load_state_dict(found.state, strict=True)


def check_finite(parameters: State, source: str) -> None:
    """Raise `InputError` if any of the trained numbers is none: the file is damaged, or its training had diverged."""
    bad = [name for name, tensor in parameters.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        raise InputError(
            f"The weights {source} must be finite numbers, but some are not{_listing('; in', bad)}. Fetch the file "
            "again, or choose another."
        )


def refusal(what: str, problems: str) -> InputError:
    """What is raised for weights that are not the model's, with a `Matched`'s problems."""
    return InputError(
        f"The weights {what} do not fit the backbone{problems}. Choose weights of this very architecture, or "
        "backbone.weights=none."
    )


def below(tensors: State, place: str) -> dict[str, Tensor]:
    """The tensors at a place, under the names that they have there."""
    start = f"{place}." if place else ""
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


# --- choosing --------------------------------------------------------------------------------------------------------


def _places(tensors: State, fewest: int) -> list[str]:
    """Everything that may come before a model's own names: below it lie at least `fewest` tensors."""
    counts: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        counts.update(".".join(parts[:end]) for end in range(1, len(parts)))
    return ["", *(place for place, count in counts.items() if count >= max(1, fewest))]


def _innermost(places: list[str]) -> list[str]:
    """Without those around another: an architecture's own conversion may have taken a prefix off."""
    return [place for place in places if not any(other != place and _within(other, place) for other in places)]


def _within(place: str, around: str) -> bool:
    return not around or place == around or place.startswith(f"{around}.")


def _preferred(places: list[str], tried: Mapping[str, Matched]) -> str | None:
    """The place that comes before every other one; `None` where that cannot be said and it would matter."""
    first = [place for place in places if all(_comes_first(place, other) for other in places if other != place)]
    if len(first) == 1:
        return first[0]
    same = all(_equal(tried[places[0]].state, tried[other].state) for other in places[1:])
    return places[0] if same else None


def _comes_first(place: str, other: str) -> bool:
    mine, theirs = next(pair for pair in zip_longest(place.split("."), other.split(".")) if pair[0] != pair[1])
    return any(mine in row and theirs in row and row.index(mine) < row.index(theirs) for row in _PREFERRED)


def _equal(one: State, other: State) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def _branches(tensors: State, place: str) -> dict[str, int]:
    """What lies elsewhere in the file: the names at which it leaves the way to `place`, with numbers of tensors."""
    way = place.split(".")
    counts: Counter[str] = Counter()
    for name in tensors:
        if not _within(name, place):
            parts = name.split(".")
            common = next(depth for depth, part in enumerate(parts) if depth >= len(way) or part != way[depth])
            counts[".".join(parts[: common + 1])] += 1
    return dict(counts)


# --- words -----------------------------------------------------------------------------------------------------------


def _say_what_was_taken(
    contents: CheckpointContents,
    taken: Matched,
    place: str,
    branches: Mapping[str, int],
    others: list[str],
    source: str,
) -> None:
    there = Counter(".".join(filter(None, (place, _top(name)))) for name in (*taken.ignored, *taken.heads))
    left = [f"{name} ({count})" for name, count in {**there, **branches}.items()]
    log.warning(
        "backbone.weights=%s: of its %d tensors, the %d of %s are the model's%s%s.%s",
        source,
        len(contents.tensors),
        len(taken.state),
        place or "its top",
        f"; left out: {_shortened(left)}" if left else "",
        f"; objects that are no tensors: {_shortened(contents.passed_over)}" if contents.passed_over else "",
        f" The model is also at {_shortened(others)}, with other values: backbone.weights_key="
        f"{_telling(others[0], place)} takes that."
        if others
        else "",
    )


def _telling(place: str, other: str) -> str:
    """The shortest beginning of a place that tells it from another."""
    parts = place.split(".")
    end = next(depth for depth, pair in enumerate(zip_longest(parts, other.split("."))) if pair[0] != pair[1])
    return ".".join(parts[: end + 1])


def _misfit(contents: CheckpointContents, tried: Mapping[str, Matched], source: str, key: str | None) -> InputError:
    """What keeps the likeliest place from being the model's."""
    places = [place for place in tried if key is None or _within(place, key)]
    if not places:
        here = sorted({".".join(name.split(".")[:1]) for name in contents.tensors})
        return InputError(
            f"backbone.weights_key={key} must name a place in {source} with tensors enough for the model, but there "
            f"are none there. At its top are {_shortened(here)}."
        )
    best = max(places, key=lambda place: (tried[place].num_right, -len(tried[place].unexpected), -len(place)))
    where = f" at {best}" if best else ""
    return refusal(f"{source}{where}", tried[best].problems + _hint(contents))


def _hint(contents: CheckpointContents) -> str:
    names = list(contents.tensors)
    if all("head" in name.split(".")[:2] for name in names):
        return "; it holds a head alone, as of a run whose backbone was frozen: that backbone's weights are what it had"
    if any(".lora_A." in name or ".base_layer." in name for name in names):
        return "; it holds adapters beside the weights: merge them first (strategy.adapter.merge=true)"
    return ""


def _ambiguous(places: list[str], source: str) -> InputError:
    keys = [_telling(place, places[0] if place != places[0] else places[1]) for place in places]
    return InputError(
        f"The weights {source} hold the model {len(places)} times, with different values: at {_shortened(places)}. "
        f"Choose one: {' or '.join(f'backbone.weights_key={key}' for key in keys[:4])}."
    )


def _top(name: str) -> str:
    return name.partition(".")[0]


def _listing(title: str, names: Iterable[str]) -> str:
    names = list(names)
    return f"{title} ({len(names)}): {_shortened(names)}" if names else ""


def _shortened(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _NUM_SHOWN} more" if len(names) > _NUM_SHOWN else ""
    return f"{', '.join(names[:_NUM_SHOWN])}{more}"


# --- other names -----------------------------------------------------------------------------------------------------


def by_order(state: State, reference: State) -> Matched:
    """`state` under the names of `reference`, a full model's state dict with the same tensors in the same order.

    For weights converted from the same architecture under other names. Count and every shape must agree.
    """
    if state.keys() == reference.keys():
        return Matched(state)
    pairs = list(zip(state.items(), reference.items(), strict=False))
    wrong = [f"{a} {tuple(x.shape)} against {b} {tuple(y.shape)}" for (a, x), (b, y) in pairs if x.shape != y.shape]
    reasons = (f"in order, {len(state)} tensors against the model's {len(reference)}",) * (len(state) != len(reference))
    if wrong:
        reasons = (*reasons, _listing("shapes that differ in order", wrong))
    renamed = {ours: tensor for (_, tensor), (ours, _) in pairs}
    return Matched(renamed, other=reasons, num_right=len(pairs) - len(wrong))


def convert(state: State, module: nn.Module, filter_fn: Callable | None) -> dict[str, Tensor]:
    """`state` through an architecture's own conversion (old names, resized position embeddings).

    A conversion that cannot make sense of the tensors leaves them as they are, for `compare` to list.
    """
    if filter_fn is None:
        return dict(state)
    try:
        return dict(filter_fn(dict(state), module))
    except (KeyError, IndexError, AttributeError, RuntimeError, TypeError, ValueError, AssertionError):
        return dict(state)
