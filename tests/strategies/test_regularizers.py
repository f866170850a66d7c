"""Penalties against their formulas and closed forms."""

import pytest
import torch

from headstart.strategies.regularizers import L2SP, BatchSpectralShrinkage


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
        loss = sum(c / 2 * (weight - target).square().sum() for weight in (pretrained, fresh)) + penalty.penalty(
            torch.zeros(2, 3)
        )
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
    assert penalty.penalty(torch.zeros(2, 3)).item() == torch.tensor(0.5 / 2 * 5 + 0.1 / 2 * 9).item()


@pytest.mark.parametrize(("batch", "width", "k"), [(6, 4, 1), (4, 7, 2), (3, 3, 5)])
def test_spectral_shrinkage_is_what_a_decomposition_of_the_gram_matrix_gives(batch: int, width: int, k: int):
    """The least eigenvalues of `F Fᵀ` (or `Fᵀ F`, the smaller), and the gradient `2 eta Σ σ u vᵀ` of these alone."""
    torch.manual_seed(0)
    features = torch.randn(batch, width, dtype=torch.float64).float().requires_grad_()
    penalty = BatchSpectralShrinkage(eta=0.3, k=k).penalty(features)
    penalty.backward()
    exact = features.detach().double()
    gram = exact @ exact.T if batch <= width else exact.T @ exact
    torch.testing.assert_close(penalty.double(), 0.3 * torch.linalg.eigvalsh(gram)[:k].sum(), rtol=1e-4, atol=1e-6)
    u, values, v = torch.linalg.svd(exact, full_matrices=False)
    kept = torch.zeros_like(values)
    kept[-k:] = values[-k:]
    torch.testing.assert_close(features.grad.double(), 2 * 0.3 * u @ torch.diag(kept) @ v, rtol=1e-3, atol=1e-5)


def test_descent_on_spectral_shrinkage_alone_leaves_fewer_directions():
    torch.manual_seed(0)
    features = torch.nn.Parameter(torch.randn(8, 5))
    before = torch.linalg.svdvals(features.detach())
    optimizer = torch.optim.SGD([features], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        BatchSpectralShrinkage(eta=1.0, k=2).penalty(features).backward()
        optimizer.step()
    after = torch.linalg.svdvals(features.detach())
    torch.testing.assert_close(after[:3], before[:3], rtol=1e-4, atol=1e-4)
    assert after[3:].max() < 1e-3
