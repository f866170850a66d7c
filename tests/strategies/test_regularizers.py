"""L2-SP against its closed form."""

import torch

from headstart.strategies.regularizers import L2SP


def test_l2_sp_finds_the_closed_form_minimum_of_a_quadratic():
    """`c/2 ‖w - t‖² + α/2 ‖w - w⁰‖²` is least at `(c t + α w⁰) / (c + α)`; a fresh weight with β at `c t / (c + β)`."""
    torch.manual_seed(0)
    start, target, c, alpha, beta = torch.randn(3, 4), torch.randn(3, 4), 2.0, 0.7, 0.3
    pretrained, fresh = torch.nn.Parameter(start.clone()), torch.nn.Parameter(torch.randn(3, 4))
    penalty = L2SP(alpha, beta)
    penalty.start([pretrained], [fresh])
    optimizer = torch.optim.SGD([pretrained, fresh], lr=0.2)
    for _ in range(200):
        optimizer.zero_grad()
        loss = sum(c / 2 * (weight - target).square().sum() for weight in (pretrained, fresh)) + penalty.penalty()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(pretrained.data, (c * target + alpha * start) / (c + alpha))
    torch.testing.assert_close(fresh.data, c * target / (c + beta))


def test_l2_sp_is_its_formula():
    w, head = torch.nn.Parameter(torch.tensor([[1.0, 2.0]])), torch.nn.Parameter(torch.tensor([[3.0]]))
    penalty = L2SP(alpha=0.5, beta=0.1)
    penalty.start([w], [head])
    with torch.no_grad():
        w += torch.tensor([[1.0, -2.0]])
    assert penalty.penalty().item() == torch.tensor(0.5 / 2 * 5 + 0.1 / 2 * 9).item()
