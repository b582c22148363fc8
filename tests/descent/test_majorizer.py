import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorate.descent import (
    majorizer_change,
    majorizer_coefficients,
    majorizer_step_size,
    minimise_quartic,
    required_smoothness,
)
from lorate.errors import LorateError

from .lora_problems import KINDS, ROUNDING, SEEDS, Problems, column, draw, power_of_ten


def some_direction(p: Problems, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The negative gradient, its signs (as Adam moves), noise, or momentum that points uphill."""
    rng = np.random.default_rng(seed)
    g_A, g_B = p.factor_gradients(p.G)
    which = rng.integers(0, 4, (len(p.A), 1, 1, 1))
    size = power_of_ten(rng, -3, 3, (len(p.A), 1, 1, 1))
    noise_A, noise_B = rng.standard_normal(p.A.shape), rng.standard_normal(p.B.shape)
    D_A = np.choose(which, [-g_A, -np.sign(g_A) * size, noise_A * size, g_A])
    D_B = np.choose(which, [-g_B, -np.sign(g_B) * size, noise_B * size, g_B])
    return D_A, D_B


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, kind=st.sampled_from(KINDS), each_layer=st.booleans())
def test_loss_stays_below_the_majorizer(seed: int, kind: str, each_layer: bool) -> None:
    p = draw(seed, kind)
    D_A, D_B = some_direction(p, seed)
    geometry = p.geometry(D_A, D_B)
    if each_layer:
        eta = majorizer_step_size(*geometry, p.L)
    else:
        eta = majorizer_step_size(*(x.sum(1) for x in geometry), p.smoothness)[:, None] + 0 * p.scaling
    eta = eta * power_of_ten(np.random.default_rng(seed), -1, 1, (len(eta), 1))  # true at every step, not only the best
    change, size = p.change(column(eta) * D_A, column(eta) * D_B)
    coefficients = majorizer_coefficients(*geometry, p.L)
    bound = majorizer_change(eta, *geometry, p.L).sum(1)
    terms = np.abs(coefficients * eta ** np.arange(1, 5)[:, None, None]).sum((0, 2))
    assert np.all(change <= bound + ROUNDING * (size + terms))


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, kind=st.sampled_from(KINDS))
def test_loss_never_rises_at_the_best_step(seed: int, kind: str) -> None:
    p = draw(seed, kind)
    D_A, D_B = some_direction(p, seed)
    geometry = p.geometry(D_A, D_B)
    eta = majorizer_step_size(*geometry, p.L)
    assert np.all(np.isfinite(eta))
    bound = majorizer_change(eta, *geometry, p.L)
    assert np.all(bound <= 0)
    assert np.all(eta[geometry[0] >= 0] == 0)
    together = majorizer_step_size(*(x.sum(1) for x in geometry), p.smoothness)
    common = majorizer_change(together[:, None], *geometry, p.L).sum(1)
    downhill = np.all(geometry[0] < 0, axis=1)  # a layer that stands still for its uphill slope may have helped
    assert np.all((bound.sum(1) <= common + ROUNDING * np.abs(common))[downhill])


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, kind=st.sampled_from(KINDS))
def test_required_smoothness_is_below_the_true_one_and_makes_the_majorizer_tight(seed: int, kind: str) -> None:
    p = draw(seed, kind)
    D_A, D_B = some_direction(p, seed)
    geometry = [x.sum(1) for x in p.geometry(D_A, D_B)]
    eta = majorizer_step_size(*geometry, p.smoothness)
    change, size = p.change(column(eta[:, None]) * D_A, column(eta[:, None]) * D_B)
    terms = np.abs(majorizer_coefficients(*geometry, p.smoothness) * eta ** np.arange(1, 5)[:, None]).sum(0)
    required = required_smoothness(change, eta, *geometry, rounding=ROUNDING * (size + terms))
    assert np.all(required <= p.smoothness * (1 + ROUNDING))
    if kind == "worst":
        exact = required_smoothness(change, eta, *geometry)
        clear = (size + terms) * 1e-6 < np.abs(change)
        moved = p.smoothness * np.maximum(geometry[2] * eta**2, 0) > 1e-3 * (size + terms)
        np.testing.assert_allclose(exact[clear & moved], p.smoothness[clear & moved], rtol=1e-6)


def test_other_parameters_add_to_pp_only() -> None:
    # a head of gradient 3 that moves along -3: phi = -9 eta + L/2 9 eta²
    assert majorizer_step_size(-9.0, 0.0, 9.0, 0.0, 0.0, smoothness=4.0) == pytest.approx(0.25)


def test_no_step_without_slope_or_displacement() -> None:
    assert majorizer_step_size(0.0, -5.0, 1.0, 0.0, 1.0, smoothness=1.0) == 0.0
    assert majorizer_step_size(1.0, 0.0, 1.0, 0.0, 1.0, smoothness=1.0) == 0.0
    assert majorizer_step_size(-1.0, 0.0, 0.0, 0.0, 0.0, smoothness=1.0) == 0.0
    assert minimise_quartic(majorizer_coefficients(-1.0, 0.0, 0.0, 0.0, 0.0, smoothness=1.0)) == np.inf


def test_required_smoothness_of_odd_trials() -> None:
    assert required_smoothness(np.nan, 1.0, -1.0, 0.0, 1.0, 0.0, 0.0) == np.inf
    assert required_smoothness(np.inf, 1.0, -1.0, 0.0, 1.0, 0.0, 0.0) == np.inf
    assert required_smoothness(-2.0, 1.0, -1.0, 0.0, 1.0, 0.0, 0.0) == 0.0
    assert required_smoothness(0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0) == 0.0
    assert required_smoothness(1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0) == np.inf
    assert required_smoothness(1e-9, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, rounding=1e-8) == 0.0


def test_bad_input_is_refused() -> None:
    with pytest.raises(LorateError, match="positive finite"):
        majorizer_step_size(-1.0, 0.0, 1.0, 0.0, 1.0, smoothness=float("nan"))
    with pytest.raises(LorateError, match="pp must be finite"):
        majorizer_step_size(-1.0, 0.0, -1.0, 0.0, 1.0, smoothness=1.0)
    with pytest.raises(LorateError, match="slope must be finite"):
        majorizer_step_size(float("nan"), 0.0, 1.0, 0.0, 1.0, smoothness=1.0)
