import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorate.descent import SHARP_FRACTION, guaranteed_decrease, layer_curvature, sharp_step_size
from lorate.errors import LorateError

from .lora_problems import KINDS, ROUNDING, SEEDS, column, draw, spectral, squares


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, kind=st.sampled_from(KINDS), fraction=st.sampled_from([1.0, 0.999, 0.5, 1e-3]))
def test_each_layer_descends_by_its_guarantee(seed: int, kind: str, fraction: float) -> None:
    p = draw(seed, kind)
    G = p.G
    curvature = layer_curvature(spectral(p.A), spectral(p.B), spectral(G), p.L, p.scaling)
    eta = fraction * sharp_step_size(spectral(p.A), spectral(p.B), spectral(G), p.L, p.scaling)
    eta = np.where(np.isfinite(eta), eta, 0.0)  # a layer with A = B = G = 0 stays where it is
    g_A, g_B = p.factor_gradients(G)
    change, size = p.change(-column(eta) * g_A, -column(eta) * g_B)
    promised = guaranteed_decrease(eta, squares(g_A) + squares(g_B), curvature).sum(1)
    assert np.all(change <= -promised + ROUNDING * (size + promised))


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, kind=st.sampled_from(KINDS))
def test_one_step_size_for_all_layers(seed: int, kind: str) -> None:
    p = draw(seed, kind)
    norms = [np.sqrt(squares(x)) for x in (p.A, p.B, p.G)]
    eta = sharp_step_size(*norms, p.L, p.scaling).min(axis=1)  # Frobenius norms: valid too
    g_A, g_B = p.factor_gradients(p.G)
    step = eta[:, None, None, None]
    change, size = p.change(-step * g_A, -step * g_B)
    promised = SHARP_FRACTION * eta * np.sum(squares(g_A) + squares(g_B), axis=1)
    assert np.all(change <= -promised + ROUNDING * (size + promised))


def test_one_half_is_attained_so_no_longer_step_is_proved() -> None:
    # B = 0 on L/2 |W - C|²: the step 1/a is the exact minimiser along the gradient
    eta = sharp_step_size(1.0, 0.0, 0.0, smoothness=3.0)
    gradient_sq, curvature = 5.0, layer_curvature(1.0, 0.0, 0.0, smoothness=3.0)
    exact = -eta * gradient_sq + 3.0 / 2 * eta**2 * gradient_sq
    assert -exact == pytest.approx(SHARP_FRACTION * eta * gradient_sq)
    assert guaranteed_decrease(1.01 * eta, gradient_sq, curvature) == -np.inf


def lost_fraction(A: torch.Tensor, B: torch.Tensor, G: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """(<G, Q> + L/2 |P + Q|²) / |g|² at step 1, for the L that makes the curvature 1 when |G| is q."""
    G = G / torch.linalg.matrix_norm(G, 2)[:, None, None] * q[:, None, None]
    L = (1 - q) / (torch.linalg.matrix_norm(A, 2) ** 2 + torch.linalg.matrix_norm(B, 2) ** 2)
    g_B, g_A = G @ A.mT, B.mT @ G
    move = g_B @ A + B @ g_A - g_B @ g_A
    cost = (G * (g_B @ g_A)).sum((1, 2)) + L / 2 * move.square().sum((1, 2))
    return cost / (g_A.square().sum((1, 2)) + g_B.square().sum((1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize(("m", "n", "r"), [(1, 1, 1), (2, 2, 1), (2, 2, 2), (3, 3, 2), (4, 4, 2), (4, 3, 4)])
@pytest.mark.parametrize("fixed", [None, 0.25, 0.5, 0.75])
def test_adversary_cannot_break_the_constant(m: int, n: int, r: int, fixed: float | None) -> None:
    """Gradient ascent on the lost fraction over all problems of a shape: half of the slope at most, and nearly that."""
    generator = torch.Generator().manual_seed(m + 10 * n + 100 * r)
    A, B, G = (torch.randn(300, *shape, generator=generator, dtype=torch.float64) for shape in ((r, n), (m, r), (m, n)))
    logit = 3 * torch.randn(300, generator=generator, dtype=torch.float64)
    variables = [x.requires_grad_() for x in (A, B, G, logit)]
    optimizer = torch.optim.Adam(variables, lr=0.05)
    worst = 0.0
    for _ in range(500):
        q = torch.sigmoid(logit) if fixed is None else torch.full_like(logit, fixed)
        lost = lost_fraction(A, B, G, q)
        worst = max(worst, float(lost.detach().max()))
        optimizer.zero_grad()
        (-lost.sum()).backward()
        optimizer.step()
    assert worst <= 0.5 + 1e-12
    if fixed is None:
        assert worst > 0.499


def test_layers_without_gradient_and_bad_input() -> None:
    assert sharp_step_size(0.0, 0.0, 0.0, 1.0) == np.inf
    assert guaranteed_decrease(np.inf, 0.0, 0.0) == 0.0
    with pytest.raises(LorateError, match="positive finite"):
        sharp_step_size(1.0, 1.0, 1.0, smoothness=0.0)
    with pytest.raises(LorateError, match="a_norm must be finite"):
        layer_curvature(np.nan, 1.0, 1.0, smoothness=1.0)
