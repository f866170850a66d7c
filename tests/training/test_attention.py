"""Gradients of attention on a GPU: the same bits each time where runs are deterministic."""

import pytest
import torch
from torch.nn import functional

from headstart.training import attention
from headstart.training.device import set_process_up

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="attention has the same bits anyway but on GPUs")


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("head_size", [64, 60])  # 60 is padded to 64, and the result cut
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_have_the_same_bits(dtype, head_size, masked):
    set_process_up(None, deterministic=True)
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 16, 6, 512, head_size, device="cuda", dtype=dtype)
    mask = torch.rand(16, 1, 1, 512, device="cuda") < 0.9 if masked else None
    weight = torch.randn_like(value)

    def gradients():
        parts = [tensor.clone().requires_grad_() for tensor in (query, key, value)]
        (functional.scaled_dot_product_attention(*parts, attn_mask=mask) * weight).sum().backward()
        return [part.grad for part in parts]

    first = gradients()
    for _ in range(10):
        assert all(map(torch.equal, first, gradients()))
    assert torch.is_deterministic_algorithms_warn_only_enabled()  # other operations are as before


def test_the_rule_is_strict_for_attention_alone():
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        value = torch.randn(2, 3, 8, 16, requires_grad=True)
        scaled = value * 2
        found = functional.scaled_dot_product_attention(scaled, scaled, scaled)
        assert "DotProduct" in found.grad_fn.name()
        attention._restrict(found)
        seen = []
        for node in (found.grad_fn, scaled.grad_fn):
            node.register_prehook(lambda _: seen.append(torch.is_deterministic_algorithms_warn_only_enabled()))
        found[..., :12].square().sum().backward()
        assert seen == [False, True]
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@needs_gpu
def test_attention_is_torchs_own_where_runs_need_not_be_deterministic():
    set_process_up(None, deterministic=True)
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    set_process_up(None, deterministic=False)
    assert torch.backends.cuda.cudnn_sdp_enabled()
