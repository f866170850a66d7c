"""The depth of a transformers model: blocks are the ModuleList of its layers, the rest lies before or after them.

What lies before and what after is told by when each is first used, as the order of definition misleads (wav2vec2's
large models define the norm after the layers before them).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from headstart.backbones.backbone import DepthGroup, Granularity
from headstart.backbones.uses import Tracer, Uses, named_tensors, owns_tensors
from headstart.errors import InputError

STEM, TAIL = "stem", "tail"
_NUM_STAGES = 4


@dataclass(frozen=True)
class Layout:
    """Where the depth of a model lies, by module path; the same for every model of one configuration."""

    blocks: str
    """Path of the ModuleList of layers."""
    num_blocks: int
    tail: frozenset[str] = field(default_factory=frozenset)
    """Paths of the outermost modules that are called after the layers; all others are called before them."""
    num_features: int = 0
    tuple_size: int = 0
    """How many values a layer returns as a tuple; 0 where it returns its hidden states alone."""

    def spans(self, path: str) -> bool:
        """Whether the module at `path` holds more than one group."""
        return self.blocks == path or self.blocks.startswith(f"{path}." if path else "")

    def group(self, path: str) -> str:
        """The group of a tensor, or of a module that lies wholly in one."""
        if path.startswith(f"{self.blocks}."):
            return f"blocks.{path[len(self.blocks) + 1 :].split('.')[0]}"
        return TAIL if any(path == end or path.startswith(f"{end}.") for end in self.tail) else STEM

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """The layers of a live model, in order."""
        return list(model.get_submodule(self.blocks).children())


def find_layout(model: nn.Module, num_layers: int, run: Callable[[nn.Module], Tensor]) -> Layout:
    """The layout of `model`, seen by running it once; `run` gives its last hidden states `(B, T, D)`.

    Raises:
        InputError: if it has no list of `num_layers` layers, each with weights of its own.
    """
    path = _layer_list(model, num_layers)
    layers = list(model.get_submodule(path).children())
    layout = Layout(path, num_layers)
    recorder = Tracer()
    recorder.names = {id(tensor): name for name, tensor in named_tensors(model).items()}
    shapes: list[Any] = []
    hooks = [m.register_forward_pre_hook(recorder.called) for m in model.modules() if not owns_tensors(m)]
    hooks.append(layers[0].register_forward_hook(lambda m, _, output: shapes.append(output)))
    model.eval()
    try:
        with torch.no_grad(), recorder:
            hidden = run(model)
    finally:
        for hook in hooks:
            hook.remove()
    tail = _after_layers(model, layout, recorder.uses)
    size = len(shapes[0]) if isinstance(shapes[0], tuple) else 0
    return Layout(path, num_layers, frozenset(tail), hidden.shape[-1], size)


def depth_groups(
    model: nn.Module, layout: Layout, granularity: Granularity, prefix: str, extra: Mapping[str, nn.Module]
) -> list[DepthGroup]:
    """Every parameter and buffer of `model` in exactly one group, from input to output; tied ones in the first.

    `extra` are modules beside the model, by name, that belong to the tail. Adapters belong to the group of the layer
    that holds them. Groups without tensors are left out.
    """
    names = [STEM, *(f"blocks.{place}" for place in range(layout.num_blocks)), TAIL]
    parameters: dict[str, dict[str, nn.Parameter]] = {name: {} for name in names}
    buffers: dict[str, dict[str, Tensor]] = {name: {} for name in names}
    modules: dict[str, list[nn.Module]] = {name: [] for name in names}
    for name, parameter in model.named_parameters():
        parameters[layout.group(name)][prefix + name] = parameter
    for name, buffer in model.named_buffers():
        buffers[layout.group(name)][prefix + name] = buffer
    for name, module in _outermost(model, layout):
        modules[layout.group(name)].append(module)
    for name, module in extra.items():
        parameters[TAIL].update({f"{name}.{inner}": p for inner, p in module.named_parameters()})
        buffers[TAIL].update({f"{name}.{inner}": b for inner, b in module.named_buffers()})
        modules[TAIL].append(module)
    groups = [
        DepthGroup(name, parameters[name], buffers[name], tuple(modules[name]))
        for name in names
        if parameters[name] or buffers[name]
    ]
    return groups if granularity == "blocks" else _stages(groups)


def spanning_names(model: nn.Module, layout: Layout) -> tuple[list[str], list[str]]:
    """The modules that hold more than one group, and the stem's, whose work the former do in part (dropout).

    By name: an adapter may take a module's place, never its name.
    """
    spanning = [name for name, _ in model.named_modules() if layout.spans(name)]
    return spanning, [name for name, _ in _outermost(model, layout) if layout.group(name) == STEM]


def _layer_list(model: nn.Module, num_layers: int) -> str:
    lists = [
        (sum(p.numel() for p in module.parameters()), name)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == num_layers
    ]
    if not lists:
        raise InputError(
            f"{type(model).__name__} cannot be put in an order of depth: it has no list of {num_layers} layers, each "
            "with weights of its own (ALBERT's share theirs). Choose another backbone.model."
        )
    return max(lists)[1]


def _after_layers(model: nn.Module, layout: Layout, uses: Uses) -> set[str]:
    """The outermost modules first used after all layers, or, where they were not used, defined after them."""
    called = {id(module): time for time, module in reversed(uses.modules)}
    last = max(time for name, time in uses.tensors.items() if layout.group(name) == f"blocks.{layout.num_blocks - 1}")
    found: set[str] = set()
    past_layers = False
    for name, module in _outermost(model, layout):
        if layout.group(name).startswith("blocks."):
            past_layers = True
            continue
        times = [
            uses.tensors[f"{name}.{inner}"] for inner in named_tensors(module) if f"{name}.{inner}" in uses.tensors
        ]
        times += [called[id(inner)] for inner in module.modules() if id(inner) in called]
        if min(times) > last if times else past_layers:
            found.add(name)
    return found


def _outermost(model: nn.Module, layout: Layout) -> Iterator[tuple[str, nn.Module]]:
    """The largest modules that lie wholly in one group, with their paths."""
    for name, module in model.named_modules():
        parent = name.rpartition(".")[0]
        if name and not layout.spans(name) and layout.spans(parent):
            yield name, module


def _stages(groups: list[DepthGroup]) -> list[DepthGroup]:
    """Blocks by quarters of the depth."""
    blocks = [group for group in groups if group.name not in (STEM, TAIL)]
    count = min(_NUM_STAGES, len(blocks))
    joined: list[DepthGroup] = []
    for place in range(count):
        members = blocks[len(blocks) * place // count : len(blocks) * (place + 1) // count]
        joined.append(
            DepthGroup(
                f"stage{place + 1}",
                {name: p for group in members for name, p in group.parameters.items()},
                {name: b for group in members for name, b in group.buffers.items()},
                tuple(module for group in members for module in group.modules),
            )
        )
    start = [group for group in groups if group.name == STEM]
    return [*start, *joined, *(group for group in groups if group.name == TAIL)]
