"""Floating-point operations of training: counted while it runs, and expected by shapes alone."""

import time
from collections.abc import Mapping, Sequence
from math import log, prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from headstart.backbones.backbone import Backbone, DepthGroup
from headstart.strategies.plan import HEAD, Phase, Plan
from headstart.training.rows import rows

Shape = Sequence[int]
PATIENCE = 10.0
"""Seconds that models may run on shapes; a step that takes longer there loops over its input in Python."""


class TooSlowError(RuntimeError):
    """A model took more than `PATIENCE` on shapes alone."""


def counter() -> FlopCounterMode:
    """torch's counter, right about two kinds of operations.

    Its formula for the weight gradient of a convolution takes groups for one, so that a depthwise convolution counts as
    many times as it has channels; and it passes over fused attention on a CPU.
    """
    flash, flash_backward = _fused_attention()
    corrected = {
        torch.ops.aten.convolution_backward: _convolution_backward,
        flash: lambda query, key, value, *rest, **named: sdpa_flop_count(query, key, value),
        flash_backward: lambda grad, query, key, value, *rest, **named: sdpa_backward_flop_count(
            grad, query, key, value
        ),
    }
    count: Any = FlopCounterMode(display=False, custom_mapping=corrected)
    count.mod_tracker = _Total()
    return count


class _Total:
    """In place of what tells torch's counter which module is at work: all is one. `torch.autograd.grad` fails with the
    hooks of torch's own."""

    parents = frozenset({"Global"})

    def __enter__(self) -> "_Total":
        return self

    def __exit__(self, *args: Any) -> None:
        pass


def _fused_attention() -> tuple[Any, Any]:
    """torch's operations of fused attention on a CPU, forward and backward, which it keeps to itself."""
    aten = torch.ops.aten
    return (
        aten._scaled_dot_product_flash_attention_for_cpu,
        aten._scaled_dot_product_flash_attention_for_cpu_backward,
    )


class Known:
    """The work on one example that was counted, by kind and by the inputs' shapes, so that it need not be again.

    Sequences are alike if their lengths are to 5%; the work counted on one is scaled to the length of another.
    """

    def __init__(self) -> None:
        self.per_unit: dict[tuple[Any, ...], float] = {}
        """Operations per example, over the length of its sequence, if it is one."""

    def has(self, kind: Any, inputs: Mapping[str, Tensor]) -> bool:
        return _shape(kind, inputs) in self.per_unit

    def add(self, kind: Any, inputs: Mapping[str, Tensor], flops: float) -> None:
        """Take note of the operations per example."""
        self.per_unit[_shape(kind, inputs)] = flops / _length(inputs)

    def of(self, kind: Any, inputs: Mapping[str, Tensor]) -> float:
        """Operations per example."""
        return self.per_unit[_shape(kind, inputs)] * _length(inputs)


def _shape(kind: Any, inputs: Mapping[str, Tensor]) -> tuple[Any, ...]:
    shapes = []
    for name, tensor in sorted(inputs.items()):
        size = tuple(tensor.shape[1:])
        shapes.append((name, *size) if len(size) != 1 else (name, round(log(max(size[0], 1), 1.05))))
    return (kind, *shapes)


def _length(inputs: Mapping[str, Tensor]) -> int:
    return max((tensor.shape[1] for tensor in inputs.values() if tensor.ndim == 2), default=1) or 1


def expected_work(
    backbone: Backbone,
    head: nn.Module,
    groups: Sequence[DepthGroup],
    plan: Plan,
    inputs: Mapping[str, Tensor],
    begun: Mapping[int, str] | None = None,
    has_copy: bool = False,
) -> list[float]:
    """Operations per example of a step in each phase of `plan`: forward, and backward as far as that phase needs it.

    All on the meta device: `inputs` are a batch of shapes, two examples or more. `begun` names the group, by phase,
    whose stored activations a step starts from; with `has_copy` a frozen copy of the backbone reads every batch too.

    Raises:
        TooSlowError: if that takes more than `PATIENCE`.
    """
    until = time.process_time() + PATIENCE
    num_examples = len(next(iter(inputs.values())))
    table = rows(
        [*groups, DepthGroup(HEAD, dict(head.named_parameters()), {}, (head,))], nn.ModuleList([backbone, head])
    )
    known: dict[Any, float] = {}
    work = []
    for index, phase in enumerate(plan.phases):
        group = (begun or {}).get(index)
        key = group, frozenset(row for row in table if phase.trains(*row))
        if key not in known:
            known[key] = _step(backbone, head, table, phase, inputs, group, until, has_copy) / num_examples
        work.append(known[key])
    return work


def _step(
    backbone: Backbone,
    head: nn.Module,
    table: Any,
    phase: Phase,
    inputs: Any,
    group: str | None,
    until: float,
    has_copy: bool,
) -> float:
    for row, parameters in table.items():
        for parameter in parameters.values():
            parameter.requires_grad_(phase.trains(*row))
            parameter.grad = None
    with counter() as count, OnShapes(until), torch.enable_grad():
        activations: Mapping[str, Tensor] = {}
        if group is None:
            before, features = 0, backbone(inputs)
        else:
            with torch.no_grad():
                activations = backbone.prefix(inputs, group)
            before, features = count.get_total_flops(), backbone.suffix(activations, group)
        if has_copy:
            with torch.no_grad():
                backbone(inputs) if group is None else backbone.suffix(activations, group)
        outputs = head(features)
        if outputs.requires_grad:  # nearest neighbours have nothing to train
            outputs.sum().backward()
    return count.get_total_flops() - before


class OnShapes(TorchFunctionMode):
    """Lets models run on the meta device that would look at values there: to "is this mask full?" they are told no.

    Attention is the one operation there that it is on other devices.

    `until`: when it is given up, by the clock of `time.process_time`; `PATIENCE` from now if not given.
    """

    def __init__(self, until: float | None = None) -> None:
        super().__init__()
        self.until = time.process_time() + PATIENCE if until is None else until

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if time.process_time() > self.until:
            raise TooSlowError(f"the model takes more than {PATIENCE:g} s on shapes alone")
        if func is Tensor.__bool__ and args[0].is_meta:
            return False
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return self.attend(*args, **(kwargs or {}))

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **more: Any,
    ) -> Tensor:
        is_fused = (
            dropout_p == 0.0 and query.shape[-1] == value.shape[-1] and query.ndim == 4 and not more.get("enable_gqa")
        )
        if is_fused and (attn_mask is None or not attn_mask.requires_grad):
            return _fused_attention()[0](query, key, value, 0.0, is_causal)[0]
        return F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, **more)


def _convolution_backward(
    grad_shape: Shape,
    input_shape: Shape,
    weight_shape: Shape,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    output_mask: Sequence[bool],
    **named: Any,
) -> int:
    """Either gradient of a convolution, for its input and for its weight, takes as many operations as the forward."""
    positions = (input_shape if transposed else grad_shape)[2:]
    forward = 2 * input_shape[0] * prod(positions) * prod(weight_shape)
    return forward * (int(output_mask[0]) + int(output_mask[1]))
