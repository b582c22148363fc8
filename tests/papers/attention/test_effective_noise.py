import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from lorate.errors import LorateError
from lorate_papers.attention import (
    Pretraining,
    PretrainingOrder,
    active_sequences,
    fresh_sequences,
    optimal_beta,
    reused_sequences,
    solve_pretraining,
)

ORDER = solve_pretraining(Pretraining(0.1, 0.1))


@st.composite
def orders(draw: st.DrawFn) -> PretrainingOrder:
    """Any order parameters that a positive semidefinite covariance allows."""
    kappa0, noise = draw(st.floats(0.1, 3)), draw(st.floats(0, 2))
    Q, cosine, V = draw(st.floats(0.01, 5)), draw(st.floats(0.05, 1)), draw(st.floats(0, 100))
    M = cosine * np.sqrt(Q * (1 + kappa0))
    problem = Pretraining(0.1, 0.1, draw(st.integers(2, 5)), kappa0, 1.0, noise)
    return PretrainingOrder(problem, Q, M, V, 0.5, 0.1, 0.5, 1.0, 1 + kappa0 - 2 * M + Q)


@settings(max_examples=100, deadline=None)
@given(orders())
def test_what_helps_never_hurts(order: PretrainingOrder) -> None:
    plain = fresh_sequences(order)
    best = fresh_sequences(order, optimal_beta(order))
    assert best <= plain + 1e-12
    assert reused_sequences(order) <= plain + 1e-12
    strict, loose = active_sequences(order, 0.1), active_sequences(order, 0.6)
    assert best - 1e-9 <= strict <= loose + 1e-9 <= plain + 2e-9


@settings(max_examples=50, deadline=None)
@given(orders())
def test_reused_without_recalibration_is_the_train_residual(order: PretrainingOrder) -> None:
    share = 1 + order.problem.curvature * order.V
    assert reused_sequences(order) == pytest.approx(fresh_sequences(order) / share**2, rel=1e-9, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(orders(), st.booleans())
def test_optimal_beta_of_reused_sequences(order: PretrainingOrder, fresh_noise: bool) -> None:
    beta = optimal_beta(order, reused=True, fresh_noise=fresh_noise)
    found = minimize_scalar(lambda b: reused_sequences(order, abs(b), fresh_noise), bounds=(0, 2 * beta + 1))
    assert reused_sequences(order, beta, fresh_noise) <= found.fun + 1e-9


def test_limits_of_active_selection() -> None:
    assert active_sequences(ORDER, 1.0) == pytest.approx(fresh_sequences(ORDER), rel=1e-12)
    assert active_sequences(ORDER, 1e-9) == pytest.approx(fresh_sequences(ORDER, optimal_beta(ORDER)), abs=1e-3)
    assert fresh_sequences(ORDER, optimal_beta(ORDER)) < active_sequences(ORDER, 0.1) < fresh_sequences(ORDER)


def test_active_selection_against_drawn_attention() -> None:
    """Variance of A* - A_hat among the draws of smallest ||A_hat||, off the diagonal, T = 2."""
    order = solve_pretraining(Pretraining(0.1, 0.3, 2, noise=0.0))
    Q, M, Q0 = order.Q, order.M, order.problem.Q0
    rng = np.random.default_rng(0)
    student = np.sqrt(Q) * rng.standard_normal((400_000, 3))
    chosen = np.argsort((student**2).sum(1))[:80_000]
    residual = (M / Q - 1) * student[chosen] + np.sqrt(Q0 - M**2 / Q) * rng.standard_normal((80_000, 3))
    assert (residual**2).mean() == pytest.approx(active_sequences(order, 0.2), rel=0.01)


def test_nothing_learned() -> None:
    order = solve_pretraining(Pretraining(0.1, 5.0))
    assert optimal_beta(order) == 1
    assert active_sequences(order, 0.1) == fresh_sequences(order) == 2.25


@pytest.mark.parametrize("fraction", [0, -1, 1.5, float("nan")])
def test_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(LorateError, match="fraction must be"):
        active_sequences(ORDER, fraction)


def test_negative_beta() -> None:
    with pytest.raises(LorateError, match="beta must be at least 0"):
        fresh_sequences(ORDER, -1.0)
