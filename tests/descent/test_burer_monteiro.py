import numpy as np
import pytest
from hypothesis import given, settings

from lorate.descent import (
    majorizer_change,
    minimise_symmetric,
    symmetric_gram,
    symmetric_step_size,
)
from lorate.errors import LorateError

from .lora_problems import ROUNDING, SEEDS, power_of_ten


def random_problem(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """V, S and L of any size; S indefinite, definite, or along VVᵀ."""
    n, r = rng.integers(1, 6), rng.integers(1, 4)
    V = rng.standard_normal((n, r)) * power_of_ten(rng, -4, 4, ())
    S = rng.standard_normal((n, n))
    S = [S + S.T, -S @ S.T, S @ S.T, V @ V.T, -V @ V.T][rng.integers(5)]
    L = float(power_of_ten(rng, -6, 6, ()))
    scale = L * np.sum(V**2) * power_of_ten(rng, -1, 1, ()) if rng.random() < 0.5 else power_of_ten(rng, -6, 6, ())
    return V, S / max(np.linalg.norm(S), 1e-300) * scale, L


@settings(max_examples=8, deadline=None)
@given(seed=SEEDS)
def test_rules_keep_their_guarantee_on_the_worst_loss(seed: int) -> None:
    """<S, X> + L/2 |X|² and the same with curvature -L: all that L-smoothness allows."""
    rng = np.random.default_rng(seed)
    for _ in range(50):
        V, S, L = random_problem(rng)
        D = -2 * S @ V
        gram = symmetric_gram(V, S, D)
        P, Q = D @ V.T + V @ D.T, D @ D.T
        dense = [np.sum(S * P), np.sum(S * Q), np.sum(P**2), np.sum(P * Q), np.sum(Q**2)]
        np.testing.assert_allclose(gram, dense, rtol=1e-9, atol=1e-10 * max(abs(x) for x in dense))
        best = 0.0
        for rule, fraction in (("theory", 0.25), ("sharp", 0.5), ("majorizer", 0.0)):
            eta = symmetric_step_size(V, S, L, rule)
            X = eta * P + eta**2 * Q
            linear, square = np.sum(S * X), L / 2 * np.sum(X**2)
            size = np.sum(np.abs(S * (eta * np.abs(P) + eta**2 * np.abs(Q)))) + square
            promised = fraction * eta * np.sum(D**2)
            assert linear + square <= -promised + ROUNDING * (size + promised)
            best = max(best, promised)
        change = majorizer_change(eta, *gram, L)
        assert -change >= best * (1 - ROUNDING)


@pytest.mark.parametrize("rule", ["theory", "sharp", "majorizer"])
def test_matrix_completion_reaches_the_best_approximation(rule: str) -> None:
    rng = np.random.default_rng(1)
    root = rng.standard_normal((6, 2))
    target = root @ root.T

    def value(M: np.ndarray) -> float:
        return 0.5 * float(np.sum((M - target) ** 2))

    steps = {"theory": 6_000, "sharp": 1_000, "majorizer": 500}[rule]
    run = minimise_symmetric(value, lambda M: M - target, rng.standard_normal((6, 3)), 1.0, steps, rule)
    assert np.all(np.diff(run.values) <= 1e-12 * run.values[0])
    assert run.values[-1] < 1e-4 * run.values[0]
    fraction = {"theory": 0.25}.get(rule, 0.5)
    promised = fraction * run.step_sizes * run.grad_norms**2
    if rule != "majorizer":
        assert np.all(run.values[:-1] - run.values[1:] >= promised - 1e-12 * run.values[0])


def test_origin_is_stationary_and_bad_input_is_refused() -> None:
    run = minimise_symmetric(lambda M: float(np.sum(M)), lambda M: np.ones_like(M), np.zeros((2, 1)), 1.0, 3)
    assert run.step_sizes.tolist() == [0.0] * 3
    assert run.grad_norms.tolist() == [0.0] * 3
    with pytest.raises(LorateError, match="positive finite"):
        symmetric_step_size(np.ones((2, 1)), np.eye(2), 0.0, "sharp")
    with pytest.raises(LorateError, match="Unknown rule"):
        symmetric_step_size(np.ones((2, 1)), np.eye(2), 1.0, "fast")  # type: ignore[arg-type]
    with pytest.raises(LorateError, match="matrix"):
        minimise_symmetric(lambda M: 0.0, lambda M: M, np.ones(3), 1.0, 1)
