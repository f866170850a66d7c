"""When each tensor of a model comes into use in a forward pass."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_METADATA = frozenset({"shape", "dtype", "device", "requires_grad", "is_cuda", "is_meta", "layout", "ndim", "grad"})
_QUERIES = frozenset({"size", "dim", "numel", "is_floating_point", "stride", "is_contiguous", "is_complex"})


@dataclass
class Uses:
    """When each tensor, by name, and each module without tensors was first used in a forward pass."""

    tensors: dict[str, int] = field(default_factory=dict)
    modules: list[tuple[int, nn.Module]] = field(default_factory=list)


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers (non-persistent ones too), each once, by name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def trace_uses(model: nn.Module, size: tuple[int, int], channels: int = 3) -> Uses:
    """Run `model` in eval mode on the meta device (no arithmetic, nothing in it changes) and note what is used when."""
    tracer = Tracer()
    modes = [(module, module.training) for module in model.modules()]
    hooks = [m.register_forward_pre_hook(tracer.called) for m in model.modules() if not owns_tensors(m)]
    floats = next(model.parameters()).dtype
    try:
        for module, _ in modes:
            module.training = False
        with _on_meta(model) as names, torch.no_grad(), torch.random.fork_rng(devices=[]), tracer:
            tracer.names = names
            model(torch.empty(1, channels, *size, dtype=floats, device="meta"))
    finally:
        for module, training in modes:
            module.training = training
        for hook in hooks:
            hook.remove()
    return tracer.uses


@contextmanager
def _on_meta(model: nn.Module) -> Iterator[dict[int, str]]:
    """Put meta tensors in the place of the model's, and the model's very own back; gives their names by id.

    (`torch.func.functional_call` does not put them back where a module is shared, as in CoaT.)
    """
    names = {id(tensor): name for name, tensor in named_tensors(model).items()}
    stand_ins: dict[int, Tensor] = {}
    taken: list[tuple[nn.Module, str, Tensor]] = []
    try:
        for module in model.modules():
            for slots in (module._parameters, module._buffers):
                for name, tensor in slots.items():
                    if tensor is None:
                        continue
                    if id(tensor) not in stand_ins:
                        stand_in = torch.empty_like(tensor, device="meta", requires_grad=False)
                        is_parameter = isinstance(tensor, nn.Parameter)
                        stand_ins[id(tensor)] = nn.Parameter(stand_in, False) if is_parameter else stand_in
                    taken.append((module, name, tensor))
        for module, name, tensor in taken:
            setattr(module, name, stand_ins[id(tensor)])  # not into the dict: LSTMs keep a list beside it
        yield {id(stand_in): names[tensor] for tensor, stand_in in stand_ins.items()}
    finally:
        for module, name, tensor in taken:
            setattr(module, name, tensor)


class Tracer(TorchFunctionMode):
    """Notes each tensor's first use as an operand of any torch function, however its module comes to use it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Mapping[int, str] = {}
        self.uses = Uses()
        self.clock = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        asked = getattr(getattr(func, "__self__", None), "__name__", "") if name == "__get__" else name
        if asked not in _METADATA and asked not in _QUERIES:
            self.clock += 1
            for operand in _flatten((args, kwargs)):
                if (tensor := self.names.get(id(operand))) is not None:
                    self.uses.tensors.setdefault(tensor, self.clock)
        return func(*args, **kwargs)

    def called(self, module: nn.Module, inputs: object) -> None:
        self.clock += 1
        self.uses.modules.append((self.clock, module))


def _flatten(values: object) -> Iterator[object]:
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, (tuple, list)):
        for value in values:
            yield from _flatten(value)
    else:
        yield values


def owns_tensors(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None or next(module.buffers(), None) is not None
