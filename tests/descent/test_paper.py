import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorate.descent import (
    LITERAL_THRESHOLD,
    THEORY_FRACTION,
    paper_descent_bound,
    theory_step_size,
    tight_descent_bound,
)
from lorate.errors import LorateError

from .lora_problems import KINDS, ROUNDING, SEEDS, Problems, column, draw, power_of_ten, squares


def scaled_norms(p: Problems) -> tuple[np.ndarray, np.ndarray]:
    """Squared norm of the stacked scaled factors, and the norm of G over all layers."""
    return np.sum(p.scaling * (squares(p.A) + squares(p.B)), axis=1), np.sqrt(squares(p.G).sum(1))


def some_direction(p: Problems, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random, uphill, or along the factors themselves, from tiny to huge next to them."""
    g_A, g_B = p.factor_gradients(p.G)
    which = rng.integers(0, 3, (len(p.A), 1, 1, 1))
    D_A = np.choose(which, [rng.standard_normal(p.A.shape), g_A, p.A])
    D_B = np.choose(which, [rng.standard_normal(p.B.shape), g_B, rng.choice([-1.0, 1.0]) * p.B])
    length = np.sqrt(np.sum(squares(D_A) + squares(D_B), axis=1))
    size = np.sqrt(np.sum(squares(p.A) + squares(p.B), axis=1)) * power_of_ten(rng, -4, 4, (len(p.A),))
    factor = np.where(length > 0, size / np.maximum(length, 1e-200), 0.0)[:, None, None, None]
    return factor * D_A, factor * D_B


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, kind=st.sampled_from(KINDS))
def test_descent_lemma_for_any_displacement(seed: int, kind: str) -> None:
    p = draw(seed, kind)
    D_A, D_B = some_direction(p, np.random.default_rng(seed))
    change, size = p.change(D_A, D_B)
    slope = p.geometry(D_A, D_B)[0]
    norm_sq, gradient = scaled_norms(p)
    length = np.sqrt(np.sum(p.scaling * (squares(D_A) + squares(D_B)), axis=1))
    known = (0.0, slope.sum(1), length, np.sqrt(norm_sq), gradient, p.smoothness)
    tight, paper = tight_descent_bound(*known), paper_descent_bound(*known)
    assert np.all(change <= tight + ROUNDING * (size + np.abs(slope).sum(1) + np.abs(tight)))
    assert np.all(tight <= paper + ROUNDING * np.abs(slope).sum(1))


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, kind=st.sampled_from(KINDS))
def test_theory_step_descends_by_its_guarantee(seed: int, kind: str) -> None:
    p = draw(seed, kind)
    norm_sq, gradient = scaled_norms(p)
    eta = theory_step_size(norm_sq, gradient, p.smoothness)
    g_A, g_B = p.factor_gradients(p.G)
    step = column(eta[:, None] / p.scaling)
    change, size = p.change(-step * g_A, -step * g_B)
    grad_sq = np.sum((squares(g_A) + squares(g_B)) / p.scaling, axis=1)
    assert np.all(change <= -THEORY_FRACTION * eta * grad_sq + ROUNDING * (size + eta * grad_sq))
    # max(L, 1) proves more than the paper claims
    proved = 1 - 1 / (8 * math.sqrt(2))
    assert np.all(change <= -proved * eta * grad_sq + ROUNDING * (size + eta * grad_sq))


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, kind=st.sampled_from(KINDS))
def test_literal_lemma_holds_from_its_threshold_on(seed: int, kind: str) -> None:
    p = draw(seed, kind)
    smoothness = np.maximum(p.smoothness, LITERAL_THRESHOLD)  # a larger L is a valid L too
    norm_sq, gradient = scaled_norms(p)
    eta = theory_step_size(norm_sq, gradient, smoothness, literal=True)
    g_A, g_B = p.factor_gradients(p.G)
    step = column(eta[:, None] / p.scaling)
    change, size = p.change(-step * g_A, -step * g_B)
    grad_sq = np.sum((squares(g_A) + squares(g_B)) / p.scaling, axis=1)
    assert np.all(change <= -THEORY_FRACTION * eta * grad_sq + ROUNDING * (size + eta * grad_sq))


def quadratic_change(smoothness: float, eta: float, gradient: float, factor: float) -> tuple[float, float]:
    """One step on L/2 (ab - c)² at a = b, with dLoss/dW = -gradient; the change, and eta |grad J|²."""
    after = (factor * (1 + eta * gradient)) ** 2
    move = after - factor**2
    return -gradient * move + smoothness / 2 * move**2, eta * 2 * (gradient * factor) ** 2


def ascent_change(smoothness: float, eta: float, gradient: float, factor: float) -> tuple[float, float]:
    """The same at a = -b: the second-order term of the update now works against the step."""
    move = -((factor * (1 - eta * gradient)) ** 2) + factor**2
    return -gradient * move + smoothness / 2 * move**2, eta * 2 * (gradient * factor) ** 2


@pytest.mark.parametrize("smoothness", [0.1, 0.05, 0.01])
def test_counter_example_to_the_literal_lemma(smoothness: float) -> None:
    gradient, factor = 100.0, 1e-3
    known = (2 * factor**2, gradient, smoothness)
    change, unit = ascent_change(smoothness, float(theory_step_size(*known, literal=True)), gradient, factor)
    assert change > -THEORY_FRACTION * unit
    if smoothness < 0.08:
        assert change > 0  # it even rises
    change, unit = ascent_change(smoothness, float(theory_step_size(*known)), gradient, factor)
    assert change < -THEORY_FRACTION * unit


def test_literal_threshold_is_exact() -> None:
    for smoothness, holds in ((LITERAL_THRESHOLD * 1.001, True), (LITERAL_THRESHOLD * 0.999, False)):
        eta = float(theory_step_size(2e-12, 100.0, smoothness, literal=True))
        change, unit = ascent_change(smoothness, eta, 100.0, 1e-6)
        assert (change <= -THEORY_FRACTION * unit) is holds


def test_constants_of_the_tight_bound_are_attained() -> None:
    # <G, Q> term: a = -b, no curvature to speak of
    eta, gradient, factor = 0.1, 100.0, 1e-3
    change, _ = ascent_change(1e-9, eta, gradient, factor)
    length = eta * math.sqrt(2) * gradient * factor
    slope = -(length**2) / eta
    bound = float(tight_descent_bound(0.0, slope, length, math.sqrt(2) * factor, gradient, 1e-9))
    assert change == pytest.approx(bound, rel=1e-6)
    # terms in L: a = b, no gradient
    change, _ = quadratic_change(2.0, 0.1, 0.0, 3.0)
    assert change == 0
    move, factor = 0.7, 3.0
    change = 2.0 / 2 * ((factor + move) ** 2 - factor**2) ** 2
    bound = float(tight_descent_bound(0.0, 0.0, math.sqrt(2) * move, math.sqrt(2) * factor, 0.0, 2.0))
    assert change == pytest.approx(bound)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_other_parameters_need_the_cap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    L = power_of_ten(rng, -6, 6, (1000,))
    eta = theory_step_size(
        power_of_ten(rng, -9, 3, (1000,)), power_of_ten(rng, -9, 3, (1000,)), L, other_parameters=True
    )
    assert np.all(eta <= 1.5 / L * (1 + 1e-15))
    assert np.all(-eta + L / 2 * eta**2 <= -THEORY_FRACTION * eta * (1 - 1e-12))
    # without the cap the step may be 1 next to the origin, whatever L is
    assert float(theory_step_size(0.0, 0.0, 0.5)) == 1.0


def test_bad_input_is_refused() -> None:
    for smoothness in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(LorateError, match="positive finite"):
            theory_step_size(1.0, 1.0, smoothness)
    with pytest.raises(LorateError, match="weight_grad_norm must be finite"):
        theory_step_size(1.0, math.nan, 1.0)
    with pytest.raises(LorateError, match="slope must be finite"):
        paper_descent_bound(1.0, math.inf, 1.0, 1.0, 1.0, 1.0)
