"""Cutting a model in two at a boundary between its depth groups, exactly.

Only the glue between the groups is traced (torch.fx); whatever lies wholly in one group is called as it stands, so
control flow, hooks and adapters inside it work as ever. A cut runs the very same modules and functions in the same
order as the whole model, and is offered only after a small random batch came out bit for bit the same.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn

from headstart.backbones.backbone import DepthGroup

FEATURES = "features"
"""The name of the activations after the last group: the pooled features."""


@dataclass(frozen=True)
class Cut:
    """Two graphs over one model: pixels → activations, activations → features."""

    before: fx.Graph
    after: fx.Graph
    names: tuple[str, ...]
    """Of the activations, in the order the graphs give and take them."""
    layouts: tuple[tuple[int, ...], ...] = ()
    """Each activation's dimensions from the widest stride to the narrowest: how the suffix needs it in memory."""
    overwrites: bool = False
    """Whether the suffix starts by changing the activations in place, so that it has to be given a copy."""


class Cuts:
    """The exact cuts of one model, found when first asked for.

    `pixels` gives a normalised random batch for the proof; `groups` is the partition in order of depth.
    """

    def __init__(self, model: nn.Module, groups: Sequence[DepthGroup], pixels: Callable[[], Tensor]) -> None:
        self._glue = _Glue(model)
        self._names = [group.name for group in groups]
        self._pixels = pixels
        self._depths: dict[str, set[int]] = {}  # of every tensor and of every module, by qualified name
        for depth, group in enumerate(groups):
            for name in (*group.parameters, *group.buffers):
                for end in (i for i, char in enumerate(f"{name}.") if char == "."):
                    self._depths.setdefault(name[:end], set()).add(depth)
        self._spanning = [m for path, m in self._glue.named_modules() if not path or len(self._depths_of(path)) > 1]
        self._graphs: dict[tuple[bool, ...], fx.Graph | None] = {}
        self._cuts: dict[tuple[str, tuple[bool, ...]], Cut | None] = {}
        self._proven: dict[str, Cut | None] = {}

    def boundaries(self) -> list[str]:
        """The groups after which the model can be cut; the last one always."""
        with _eval_mode(self._glue), torch.no_grad():
            pixels = self._pixels()
            whole = self._glue(pixels)
        return [name for name in self._names if name == self._names[-1] or self._proof(name, (pixels, whole))]

    def prefix(self, pixels: Tensor, boundary: str) -> dict[str, Tensor]:
        """Normalised pixels → activations after `boundary`."""
        if boundary == self._names[-1]:
            return {FEATURES: self._glue(pixels)}
        cut = self._cut(boundary)
        return dict(zip(cut.names, self._run(cut.before, pixels), strict=True))

    def suffix(self, activations: Mapping[str, Tensor], boundary: str) -> Tensor:
        """Activations after `boundary` → pooled features."""
        if boundary == self._names[-1]:
            return activations[FEATURES]
        cut = self._cut(boundary)
        values = [_laid_out(activations[name], layout) for name, layout in zip(cut.names, cut.layouts, strict=True)]
        if cut.overwrites:
            values = [value.clone() for value in values]
        return self._run(cut.after, *values)

    def _run(self, graph: fx.Graph, *values: Tensor):
        return fx.Interpreter(self._glue, graph=graph).run(*values, enable_io_processing=False)

    # The glue may depend on the training flags of the modules it is made of (functional dropout): one trace for each.

    def _cut(self, boundary: str) -> Cut:
        assert boundary in self._names, f"no group {boundary!r} in {self._names}"
        proven = self._proof(boundary)
        assert proven is not None, f"the model cannot be cut after {boundary!r}; see boundaries"
        mode = self._mode()
        if (boundary, mode) not in self._cuts:
            cut = self._split(boundary, mode)
            assert cut is not None
            assert cut.names == proven.names
            self._cuts[boundary, mode] = replace(cut, layouts=proven.layouts, overwrites=proven.overwrites)
        found = self._cuts[boundary, mode]
        assert found is not None
        return found

    def _mode(self) -> tuple[bool, ...]:
        return tuple(module.training for module in self._spanning)

    def _depths_of(self, path: str) -> set[int]:
        return self._depths.get(path, set())

    def _graph(self, mode: tuple[bool, ...]) -> fx.Graph | None:
        if mode not in self._graphs:
            self._graphs[mode] = _trace(self._glue, {id(module) for module in self._spanning})
        return self._graphs[mode]

    # --- where to cut -----------------------------------------------------------------------------------------------

    def _split(self, boundary: str, mode: tuple[bool, ...]) -> Cut | None:
        """Cut right before the first thing that the groups above `boundary` own; what lies between goes below."""
        graph = self._graph(mode)
        if graph is None:
            return None
        nodes = list(graph.nodes)
        moving = _depends_on_input(nodes)
        depth = self._names.index(boundary)
        depths = [self._node_depth(node) if node in moving else None for node in nodes]
        above = [position for position, at in enumerate(depths) if at is not None and at > depth]
        below = [position for position, at in enumerate(depths) if at is not None and at <= depth]
        if not above or not below or min(above) < max(below):
            return None
        lower, upper = set(nodes[: min(above)]), nodes[min(above) :]
        crossing = [
            node for node in nodes if node in lower and node in moving and any(user in upper for user in node.users)
        ]
        return _two_graphs(nodes, lower, crossing, moving)

    def _node_depth(self, node: fx.Node) -> int | None:
        """The depth of the tensors that a node owns or takes; `None` for what owns none."""
        owners = [node, *(source for source in node.all_input_nodes if source.op == "get_attr")]
        depths = [self._depths_of(str(o.target)) for o in owners if o.op in ("call_module", "get_attr")]
        return max(set().union(*depths), default=None)

    # --- proof ------------------------------------------------------------------------------------------------------

    def _proof(self, boundary: str, example: tuple[Tensor, Tensor] | None = None) -> Cut | None:
        """The cut if it gave the whole model's features of an `example` (pixels and features), bit for bit."""
        if boundary not in self._proven:
            with _eval_mode(self._glue), torch.no_grad():
                if example is None:
                    pixels = self._pixels()
                    example = pixels, self._glue(pixels)
                self._proven[boundary] = self._prove(boundary, *example)
        return self._proven[boundary]

    def _prove(self, boundary: str, pixels: Tensor, whole: Tensor) -> Cut | None:
        cut = self._split(boundary, self._mode())
        if cut is None:
            return None
        activations = self._run(cut.before, pixels)
        if not all(isinstance(a, Tensor) and a.ndim > 0 and a.shape[0] == pixels.shape[0] for a in activations):
            return None
        layouts = tuple(_layout(activation) for activation in activations)
        stored = [a.clone(memory_format=torch.contiguous_format) for a in activations]
        given = [_laid_out(s, layout).clone() for s, layout in zip(stored, layouts, strict=True)]
        features = self._run(cut.after, *given)
        overwrites = not all(_same(_laid_out(s, order), g) for s, order, g in zip(stored, layouts, given, strict=True))
        return replace(cut, layouts=layouts, overwrites=overwrites) if _same(features, whole) else None


class _Glue(nn.Module):
    """The model behind a plain signature, so that optional arguments are not traced as inputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(pixels)


class _GlueTracer(fx.Tracer):
    """Enters only modules that hold more than one group."""

    proxy_buffer_attributes = True

    def __init__(self, spanning: set[int]) -> None:
        super().__init__()
        self._spanning = spanning

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return id(m) not in self._spanning


def _trace(glue: nn.Module, spanning: set[int]) -> fx.Graph | None:
    before = set(vars(glue))
    try:
        graph = _GlueTracer(spanning).trace(glue)
    except Exception:  # whatever a model's code makes of symbolic values: then it cannot be cut inside
        return None
    constants = set(vars(glue)) - before
    for name in constants:  # tensors made while tracing would stay on the device they were made on
        delattr(glue, name)
    return None if constants else graph


def _depends_on_input(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    moving: set[fx.Node] = set()
    for node in nodes:
        if node.op == "placeholder" or any(source in moving for source in node.all_input_nodes):
            moving.add(node)
    return moving


def _two_graphs(
    nodes: Sequence[fx.Node], lower: set[fx.Node], crossing: Sequence[fx.Node], moving: set[fx.Node]
) -> Cut:
    before, after = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        if node in lower:
            copies[node] = before.node_copy(node, copies.__getitem__)
    before.output(tuple(copies[node] for node in crossing))
    names = ("activations",) if len(crossing) == 1 else tuple(f"activations_{i}" for i in range(len(crossing)))
    copies = {node: after.placeholder(name) for node, name in zip(crossing, names, strict=True)}
    for node in nodes:
        if node not in lower or node not in moving:
            copies[node] = after.node_copy(node, copies.__getitem__)
    return Cut(before, after, names)


@contextmanager
def _eval_mode(module: nn.Module):
    modes = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in modes:
            part.training = False
        yield
    finally:
        for part, training in modes:
            part.training = training


def _same(a: Tensor, b: Tensor) -> bool:
    return a.is_meta or torch.equal(a, b)


def _layout(tensor: Tensor) -> tuple[int, ...]:
    strides = tensor.stride()
    return tuple(sorted(range(tensor.ndim), key=lambda d: (-strides[d], d)))


def _laid_out(tensor: Tensor, layout: tuple[int, ...]) -> Tensor:
    """`tensor` with its dimensions in memory in the order of `layout`; copied only if they are not."""
    permuted = tensor.permute(layout)
    if permuted.is_contiguous():
        return tensor
    return permuted.contiguous().permute([layout.index(d) for d in range(tensor.ndim)])
