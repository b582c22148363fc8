import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorate.descent import factor_load, one_factor_step_size, sharp_step_size
from lorate.errors import LorateError

from .lora_problems import KINDS, ROUNDING, SEEDS, column, draw, power_of_ten, spectral, squares


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, kind=st.sampled_from(KINDS))
def test_any_pair_of_step_sizes_within_the_load(seed: int, kind: str) -> None:
    p = draw(seed, kind)
    rng = np.random.default_rng(seed)
    norms = (spectral(p.A), spectral(p.B), spectral(p.G), p.L, p.scaling)
    eta_A, eta_B = power_of_ten(rng, -3, 3, p.scaling.shape), power_of_ten(rng, -3, 3, p.scaling.shape)
    # the load is homogeneous in the pair: divide it to get a random load of at most one
    load = factor_load(eta_A, eta_B, *norms)
    shrink = np.where(rng.random(load.shape) < 0.5, 1.0, rng.random(load.shape)) / np.maximum(load, 1e-250)
    shrink = np.where(load > 0, shrink, 1.0)
    eta_A, eta_B = eta_A * shrink, eta_B * shrink
    g_A, g_B = p.factor_gradients(p.G)
    change, size = p.change(-column(eta_A) * g_A, -column(eta_B) * g_B)
    moved = eta_A * squares(g_A) + eta_B * squares(g_B)
    promised = np.sum((1 - factor_load(eta_A, eta_B, *norms) / 2) * moved, axis=1)
    assert np.all(change <= -promised + ROUNDING * (size + moved.sum(1)))


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, kind=st.sampled_from(KINDS))
def test_one_factor_descends_and_guarantees_more_than_sharp(seed: int, kind: str) -> None:
    p = draw(seed, kind)
    g_A, g_B = p.factor_gradients(p.G)
    norms = (spectral(p.A), spectral(p.B))
    eta_A, eta_B = one_factor_step_size(*norms, np.sqrt(squares(g_A)), np.sqrt(squares(g_B)), p.L, p.scaling)
    assert np.all((eta_A == 0) | (eta_B == 0))
    change, size = p.change(-column(eta_A) * g_A, -column(eta_B) * g_B)
    layers = (eta_A * squares(g_A) + eta_B * squares(g_B)) / 2
    assert np.all(change <= -layers.sum(1) + ROUNDING * (size + layers.sum(1)))
    sharp = sharp_step_size(*norms, spectral(p.G), p.L, p.scaling)
    gradient_sq = squares(g_A) + squares(g_B)
    promised = np.where(gradient_sq > 0, sharp, 0.0) * gradient_sq / 2
    assert np.all(layers >= promised * (1 - ROUNDING))


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_pair_with_the_largest_guarantee(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, g_A, g_B, G, L, s = (power_of_ten(rng, -k, k, (1000, 1)) for k in (3, 3, 3, 3, 3, 6, 3))
    eta_A, eta_B = one_factor_step_size(a, b, g_A, g_B, L, s)
    best = (eta_A * g_A**2 + eta_B * g_B**2) / 2
    angle = np.linspace(0, np.pi / 2, 91)[None]
    # in the units in which either corner has load one
    pair = np.cos(angle) / (s**2 * L * b**2), np.sin(angle) / (s**2 * L * a**2)
    load = factor_load(*pair, a, b, G, L, s)
    others = (pair[0] * g_A**2 + pair[1] * g_B**2) / load / 2
    assert np.all(others <= best * (1 + 1e-12))


def test_zero_factors_do_not_lend_steps() -> None:
    eta_A, eta_B = one_factor_step_size([0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0], 1.0)
    assert eta_A.tolist() == [0.0, 1.0, 0.0]
    assert eta_B.tolist() == [0.0, 0.0, 1.0]
    with pytest.raises(LorateError, match="grad_b_norm"):
        one_factor_step_size(1.0, 1.0, 1.0, -1.0, 1.0)
