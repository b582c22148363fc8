import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from descent.lora_problems import KINDS, LOSSES, ROUNDING, SEEDS, Array, LossFunction, column, power_of_ten, squares
from lorate.descent import (
    majorizer_change,
)
from lorate.errors import LorateError
from lorate_papers.symmetric import minimise_symmetric, symmetric_gram, symmetric_step_size


def draw_symmetric(seed: int, kind: str, count: int = 1000) -> tuple[Array, Array, Array, LossFunction]:
    """V, S, L and the change of f with that of VVᵀ.

    V is of any size, of rank one or zero now and then; S is indefinite, definite, or along VVᵀ, from next to nothing to
    outweighing L |V|².
    """
    rng = np.random.default_rng(seed)
    n, r = int(rng.integers(1, 6)), int(rng.integers(1, 5))
    V = rng.standard_normal((count, n, r)) * power_of_ten(rng, -4, 4, (count, 1, 1))
    V = np.where(rng.random((count, 1, 1)) < 0.2, V[..., :1] * rng.standard_normal((count, 1, r)), V)
    V[rng.random(count) < 0.05] = 0.0
    root = rng.standard_normal((count, n, n))
    definite, along = root @ root.swapaxes(1, 2), V @ V.swapaxes(1, 2)
    S = np.choose(rng.integers(5, size=(count, 1, 1)), [root + root.swapaxes(1, 2), -definite, definite, along, -along])
    L = power_of_ten(rng, -6, 6, (count,))
    size = np.where(rng.random(count) < 0.5, L * squares(V) * power_of_ten(rng, -1, 1, (count,)), 0.0)
    size = np.where(size > 0, size, power_of_ten(rng, -6, 6, (count,)))
    S = S / np.maximum(np.sqrt(squares(S)), 1e-300)[:, None, None] * size[:, None, None]
    # waves of no gradient would have no length
    S[~S.any(axis=(1, 2))] = np.eye(n)
    loss, _ = LOSSES[kind](rng, S.reshape(count, -1), L)
    start = loss(np.zeros((count, n * n)))[2].reshape(S.shape)  # waves have a gradient of their own
    return V, (start + start.swapaxes(1, 2)) / 2, L, loss


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, kind=st.sampled_from(KINDS))
def test_rules_keep_their_guarantee(seed: int, kind: str) -> None:
    V, S, L, loss = draw_symmetric(seed, kind)
    D = -2 * S @ V
    gram = symmetric_gram(V, S, D)
    P = D @ V.swapaxes(1, 2) + V @ D.swapaxes(1, 2)
    Q = D @ D.swapaxes(1, 2)
    promised = {}
    for rule, fraction in (("theory", 0.25), ("sharp", 0.5), ("majorizer", None)):
        eta = symmetric_step_size(V, S, L, rule)
        assert np.all(np.isfinite(eta) & ((eta > 0) == (gram[0] < 0)))
        promised[rule] = -majorizer_change(eta, *gram, L) if fraction is None else fraction * eta * squares(D)
        X = column(eta) * P + column(eta**2) * Q
        change, size, gradient = loss(X.reshape(len(X), -1))
        absolute, other = np.abs(D), np.abs(V).swapaxes(1, 2)
        terms = column(eta) * 2 * absolute @ other + column(eta**2) * absolute @ absolute.swapaxes(1, 2)
        size = size + np.sum(np.abs(gradient) * terms.reshape(len(X), -1), axis=1) + np.abs(promised[rule])
        assert np.all(change <= -promised[rule] + ROUNDING * size), rule
    for rule in ("theory", "sharp"):
        assert np.all(promised["majorizer"] >= promised[rule] * (1 - ROUNDING))


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS)
def test_gram_numbers_are_those_of_dense_matrices(seed: int) -> None:
    V, S, _, _ = draw_symmetric(seed, "worst")
    D = np.random.default_rng(seed).standard_normal(V.shape)
    P, Q = D @ V.swapaxes(1, 2) + V @ D.swapaxes(1, 2), D @ D.swapaxes(1, 2)
    dense = [np.sum(x * y, axis=(1, 2)) for x, y in ((S, P), (S, Q), (P, P), (P, Q), (Q, Q))]
    s, p, q = np.sqrt(squares(S)), 2 * np.sqrt(squares(D) * squares(V)), squares(D)  # P's terms may cancel
    sizes = [s * p, s * q, p * p, p * q, q * q]
    for ours, theirs, size in zip(symmetric_gram(V, S, D), dense, sizes, strict=True):
        assert np.all(np.abs(ours - theirs) <= 1e-12 * size)


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
    for rule in ("theory", "sharp", "majorizer"):
        with pytest.raises(LorateError, match="gradient must be finite"):
            minimise_symmetric(lambda M: 0.0, lambda M: M * np.nan, np.ones((2, 1)), 1.0, 1, rule)  # type: ignore[arg-type]
