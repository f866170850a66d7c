"""The depth of a timm model: which tensors form its stem, its blocks and its tail, in the order they are used.

timm's `group_matcher` says which names make a block; everything else (what lies before the first block, between two,
after the last) is placed by *when it is used* in a forward pass, and the blocks are put in that order too. So the
order cannot contradict the data flow, whatever the matcher says. Blocks used in turns (parallel branches) become one.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from headstart.backbones.backbone import DepthGroup, Granularity
from headstart.backbones.uses import Uses, named_tensors, trace_uses
from headstart.errors import InputError

_MERGED_WITH_PREVIOUS = 99999.0
"""timm's mark for what belongs to the block before it."""


@dataclass
class _Span:
    """A block while its order is being found: what it owns, and from when to when it comes into use."""

    name: str
    stage: str
    tensors: list[str]
    first: int
    last: int


def depth_groups(
    model: nn.Module, size: tuple[int, int], granularity: Granularity, prefix: str, channels: int = 3
) -> list[DepthGroup]:
    """Every parameter and buffer of `model` (timm, classifier removed) in exactly one group, from input to output.

    `size` is the picture's height and width in pixels; `prefix` goes before every tensor's name. Adapters injected into
    the model belong to the group of the layer that holds them. Raises `InputError` if the model has no order of depth.
    """
    uses = trace_uses(model, size, channels)
    spans = _merge_overlapping(_blocks(model, uses))
    if not spans:
        raise InputError(f"{type(model).__name__} cannot be put in an order of depth: no blocks were found in it.")
    names = _partition(model, uses, spans)
    if granularity == "stages":
        names = _join_stages(names, spans)
    return _describe(model, {name: tensors for name, tensors in names.items() if tensors}, uses, prefix)


# --- which names make a block ---------------------------------------------------------------------------------------


def _blocks(model: nn.Module, uses: Uses) -> list[_Span]:
    """Candidate blocks, with the times at which their tensors come into use; unused tensors don't count."""
    fine, coarse = _labeller(model, coarse=False), _labeller(model, coarse=True)
    members: dict[str, list[str]] = {}
    stages: dict[str, str] = {}
    titles: dict[tuple, str] = {}
    for name in named_tensors(model):
        key, title, certain = fine(name)
        if key is None or key[-1:] == (_MERGED_WITH_PREVIOUS,):
            continue
        if certain or key not in titles:
            if key in titles and titles[key] != title and titles[key] in members:
                members[title] = members.pop(titles[key])
                stages[title] = stages.pop(titles[key])
            titles[key] = title
        members.setdefault(titles[key], []).append(name)
        stages.setdefault(titles[key], coarse(name)[1] or titles[key])
    if members and all(_is_layer(model, block) for block in members):
        members = _pooling_stages(members, uses)
        stages = {name: name for name in members}
    return [
        _Span(block, stages[block], names, min(times), max(times))
        for block, names in members.items()
        if (times := [uses.tensors[name] for name in names if name in uses.tensors])
    ]


Label = tuple[tuple[object, ...] | None, str, bool]
"""A block's key (`None`: no block), its title, and whether the title is the block's own (not a part's beside it)."""


_NUMBERED = re.compile(r"^([A-Za-z_]\w*\.\d+(?:\.blocks\.\d+|\.\d+)?)(?=\.)")
_NUMBERED_COARSE = re.compile(r"^([A-Za-z_]\w*(?:\.\d+)?)(?=\.)")
_CHILD = re.compile(r"^(\w+)(?=\.)")


def _labeller(model: nn.Module, coarse: bool) -> Callable[[str], Label]:
    """By timm's patterns; where a model has none, by its numbered modules, or else by its children."""
    matcher = _group_matcher(model, coarse)
    if isinstance(matcher, Mapping):
        by_pattern = _by_pattern(matcher)
        if any(by_pattern(name)[0] is not None for name in named_tensors(model)):
            return by_pattern
    numbered = _NUMBERED_COARSE if coarse else _NUMBERED
    if not any(_NUMBERED.match(name) for name in named_tensors(model)):
        numbered = _CHILD

    def label(name: str) -> Label:
        match = numbered.match(name)
        return ((match.group(),), match.group(), True) if match else (None, "", False)

    return label


def _group_matcher(model: Any, coarse: bool) -> object:
    try:
        return model.group_matcher(coarse=coarse)
    except (AttributeError, AssertionError, NotImplementedError):
        return None


def _by_pattern(matcher: Mapping[str, object]) -> Callable[[str], Label]:
    """As `timm.models.group_with_matcher` reads the patterns: the first that matches decides."""
    patterns: list[tuple[int, re.Pattern[str], tuple | None]] = []
    for ordinal, spec in enumerate(matcher.values()):
        if isinstance(spec, (tuple, list)):
            patterns += [(ordinal, re.compile(pattern), suffix) for pattern, suffix in spec]
        elif spec is not None:
            patterns.append((ordinal, re.compile(str(spec)), None))

    def label(name: str) -> Label:
        for ordinal, pattern, suffix in patterns:
            if match := pattern.match(name):
                digits = [part for part in match.groups() if part is not None]
                if not digits and suffix is None:
                    break
                key = tuple(map(float, [ordinal, *digits, *(suffix or ())]))
                return key, match.group().rstrip("."), suffix is None
        return None, "", False

    return label


def _is_layer(model: nn.Module, name: str) -> bool:
    """Whether `name` is a single layer (an adapter around it aside)."""
    module: Any = model
    for part in name.split("."):
        if not hasattr(module, part):
            return False
        module = getattr(module, part)
    if hasattr(module, "get_base_layer"):
        module = module.get_base_layer()
    return next(module.children(), None) is None


def _pooling_stages(layers: dict[str, list[str]], uses: Uses) -> dict[str, list[str]]:
    """A plain chain of layers (VGG), cut after each pooling."""
    pools = [time for time, module in uses.modules if isinstance(module, (nn.MaxPool2d, nn.AvgPool2d))]
    if not pools:
        return layers
    stages: dict[str, list[str]] = {}
    for names in layers.values():
        time = min((uses.tensors[name] for name in names if name in uses.tensors), default=0)
        stages.setdefault(f"stage{1 + sum(pool < time for pool in pools)}", []).extend(names)
    early = [name for name, time in uses.tensors.items() if time < pools[0]]  # the matcher's stem is of stage 1
    stages["stage1"] = list(dict.fromkeys([*early, *stages.get("stage1", [])]))
    return stages


# --- their order, and everything else ---------------------------------------------------------------------------------


def _merge_overlapping(spans: list[_Span]) -> list[_Span]:
    """Blocks in order of use; those that are in use in turns become one, as no cut lies between them."""
    merged: list[_Span] = []
    for span in sorted(spans, key=lambda span: (span.first, span.last)):
        if merged and span.first <= merged[-1].last:
            previous = merged[-1]
            previous.tensors += span.tensors
            previous.last = max(previous.last, span.last)
            if not previous.name.endswith("+"):
                previous.name += "+"
        else:
            merged.append(span)
    return merged


def _partition(model: nn.Module, uses: Uses, spans: list[_Span]) -> dict[str, list[str]]:
    """Group name → its tensors' names, in order of depth; every tensor once."""
    owner = {name: span.name for span in spans for name in span.tensors}
    joins_previous = _joins_previous(model)
    for name, time in uses.tensors.items():
        if name not in owner:
            owner[name] = _place(time, spans, joins_previous(name))
    nearest: dict[str, str] = {}  # a module's path → the group of the first used tensor in it
    for name in owner:
        for path in _parents(name):
            nearest.setdefault(path, owner[name])
    for name in named_tensors(model):
        if name not in owner:  # unused in eval mode (a BatchNorm's counter): it goes with its neighbours
            owner[name] = next(nearest[path] for path in _parents(name) if path in nearest)
    groups: dict[str, list[str]] = {name: [] for name in ("stem", *(span.name for span in spans), "tail")}
    for name in named_tensors(model):
        groups[owner[name]].append(name)
    return groups


def _place(time: int, spans: list[_Span], joins_previous: bool) -> str:
    """The group of something in no block that comes into use at `time`."""
    if time < spans[0].first:
        return "stem"
    if time > spans[-1].last:
        return "tail"
    before = [span for span in spans if span.first <= time]
    if time <= before[-1].last or joins_previous:
        return before[-1].name
    return spans[len(before)].name


def _joins_previous(model: nn.Module) -> Callable[[str], bool]:
    label = _labeller(model, coarse=False)
    return lambda name: (label(name)[0] or ())[-1:] == (_MERGED_WITH_PREVIOUS,)


def _parents(name: str) -> list[str]:
    """Paths of the modules around a tensor, the innermost first, the model (`""`) last."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, -1, -1)]


def _join_stages(groups: Mapping[str, list[str]], spans: list[_Span]) -> dict[str, list[str]]:
    """Neighbouring blocks of one stage as one group."""
    joined: dict[str, list[str]] = {"stem": groups["stem"]}
    current, name = None, ""
    for span in spans:
        if span.stage != current:
            current = name = span.stage
            while name in joined:
                name += "+"
        joined[name] = [*joined.get(name, []), *groups[span.name]]
    joined["tail"] = groups["tail"]
    return joined


def _describe(model: nn.Module, groups: Mapping[str, list[str]], uses: Uses, prefix: str) -> list[DepthGroup]:
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    owner = {id(t): group for group, names in groups.items() for n in names for t in [(parameters | buffers)[n]]}
    modules: dict[str, list[nn.Module]] = {name: [] for name in groups}
    covered: set[int] = set()
    for module in model.modules():  # a parent comes before its children, so the outermost is met first
        owners = {owner[id(tensor)] for tensor in (*module.parameters(), *module.buffers())}
        if len(owners) == 1 and id(module) not in covered:
            modules[owners.pop()].append(module)
            covered.update(map(id, module.modules()))
    starts = [(min(uses.tensors.get(name, 1 << 60) for name in names), group) for group, names in groups.items()]
    for time, module in uses.modules:  # dropout and pooling between the groups go with what comes before them
        if id(module) not in covered:
            covered.update(map(id, module.modules()))
            modules[max((s for s in starts if s[0] <= time), default=starts[0])[1]].append(module)
    return [
        DepthGroup(
            name=group,
            parameters={prefix + name: parameters[name] for name in names if name in parameters},
            buffers={prefix + name: buffers[name] for name in names if name in buffers},
            modules=tuple(modules[group]),
        )
        for group, names in groups.items()
    ]
