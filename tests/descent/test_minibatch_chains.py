"""The theorems for mini-batches along whole runs: means over many chains of a loss whose constants are all known.

F(W) = sum of log cosh(W - C) over 3×3 weights has L = 1, infimum 0, and a gradient tanh(W - C) no longer than 3. A
batch adds N to it, of length sigma in a random direction.
"""

import math

import numpy as np
import pytest

from lorate.descent import (
    adagrad_bound,
    best_fraction,
    growing_noise_bound,
    mean_square_bound,
    one_factor_step_size,
    raw_gradient_bound,
    relative_smoothness,
    relative_step_size,
)
from lorate.errors import LorateError

Array = np.ndarray
CHAINS, M, RANK = 300, 3, 2


class Chains:
    """Independent runs from one start, side by side: ``A`` is [chains, r, n], ``B`` [chains, m, r]."""

    def __init__(self, seed: int, sigma: float, size: float = 1.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.sigma = sigma
        self.C = self.rng.standard_normal((M, M)) * 2
        self.A = np.broadcast_to(size * self.rng.standard_normal((RANK, M)), (CHAINS, RANK, M)).copy()
        self.B = np.broadcast_to(size * self.rng.standard_normal((M, RANK)), (CHAINS, M, RANK)).copy()
        self.gap = float(self.loss()[0])

    def loss(self) -> Array:
        x = np.abs(self.B @ self.A - self.C)
        return np.sum(x + np.log1p(np.exp(-2 * x)) - math.log(2), axis=(1, 2))

    def gradient(self) -> Array:
        return np.tanh(self.B @ self.A - self.C)

    def noise(self) -> Array:
        N = self.rng.standard_normal((CHAINS, M, M))
        return self.sigma * N / np.sqrt(squares(N))[:, None, None]

    def lengths(self) -> tuple[Array, Array]:
        return np.linalg.norm(self.A, 2, axis=(1, 2)), np.linalg.norm(self.B, 2, axis=(1, 2))

    def factors(self, G: Array) -> tuple[Array, Array]:
        return self.B.swapaxes(1, 2) @ G, G @ self.A.swapaxes(1, 2)


def squares(x: Array) -> Array:
    return np.sum(x**2, axis=(-2, -1))


def below(values: Array, bound: float) -> None:
    """The mean over the chains is below the bound; by more than its own error, so that luck decides nothing."""
    assert values.mean() + 4 * values.std() / math.sqrt(len(values)) <= bound


def alternate(chains: Chains, steps: int, theta: object) -> Array:
    """Runs with a coin; the squared relative gradients of both factors, [steps, chains]."""
    seen, b_sq = [], 1.0
    for _ in range(steps):
        a, b = chains.lengths()
        G, N = chains.gradient(), chains.noise()
        g_A, g_B = chains.factors(G)
        seen.append(squares(g_B) / a**2 + squares(g_A) / b**2)
        h_A, h_B = chains.factors(G + N)
        moves_b = chains.rng.random(CHAINS) < 0.5
        hat_sq = np.where(moves_b, squares(h_B) / a**2, squares(h_A) / b**2)
        b_sq = b_sq + hat_sq
        step = theta if isinstance(theta, float) else 1 / np.sqrt(b_sq)
        chains.B -= np.where(moves_b, step / a**2, 0.0)[:, None, None] * h_B
        chains.A -= np.where(moves_b, 0.0, step / b**2)[:, None, None] * h_A
    return np.array(seen)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 3.0])
def test_theorem_1_with_a_coin(sigma: float) -> None:
    chains, steps = Chains(1, sigma), 200
    gamma = float(best_fraction(chains.gap, 1.0, sigma, steps))
    seen = alternate(chains, steps, gamma)
    # with a coin the factors that move have half of the sum over both
    below(seen.mean(axis=0) / 2, float(mean_square_bound(chains.gap, 1.0, sigma, steps, gamma)))


@pytest.mark.parametrize("sigma", [0.0, 0.5, 3.0])
def test_theorem_2_with_a_coin(sigma: float) -> None:
    chains, steps = Chains(2, sigma), 200
    seen = alternate(chains, steps, None)
    below(
        np.sqrt(seen.sum(axis=0)), math.sqrt(steps) * adagrad_bound(chains.gap, 1.0, sigma, steps, 1.0, 1.0, coin=True)
    )


def relative(chains: Chains, steps: int, c: float, theta: float | None, *, frobenius: bool) -> tuple[Array, Array]:
    """Relative and raw gradients of LoRA's simultaneous step, squared, each [steps, chains]."""
    seen, raw, b_sq = [], [], 1.0
    for _ in range(steps):
        a, b = chains.lengths()
        z = (squares(chains.A) + squares(chains.B) if frobenius else a**2 + b**2) + c
        G, N = chains.gradient(), chains.noise()
        g_A, g_B = chains.factors(G)
        raw.append(squares(g_A) + squares(g_B))
        seen.append(raw[-1] / z)
        h_A, h_B = chains.factors(G + N)
        b_sq = b_sq + (squares(h_A) + squares(h_B)) / z
        size = ((1 / np.sqrt(b_sq) if theta is None else theta) / z)[:, None, None]
        chains.A, chains.B = chains.A - size * h_A, chains.B - size * h_B
    return np.array(seen), np.array(raw)


@pytest.mark.parametrize("c", [0.5, 5.0])
@pytest.mark.parametrize("sigma", [0.0, 0.5, 3.0])
def test_theorems_1_and_3_for_both_factors(sigma: float, c: float) -> None:
    chains, steps, h = Chains(3, sigma), 200, 3 + sigma
    theta = 0.01
    L = float(relative_smoothness(1.0, h, c, reach=theta * h))
    assert theta <= 1 / L
    start = float(squares(chains.A)[0] + squares(chains.B)[0])
    bound = float(mean_square_bound(chains.gap, L, sigma, steps, theta * L))
    raw_bound, length = raw_gradient_bound(chains.gap, L, sigma, steps, theta, start, c, c, 1)
    seen, raw = relative(chains, steps, c, theta, frobenius=True)
    below(seen.mean(axis=0), bound)
    below(np.sqrt(raw).mean(axis=0), raw_bound)
    below(squares(chains.A) + squares(chains.B), length)


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_theorem_2_for_both_factors(sigma: float) -> None:
    chains, steps, c = Chains(4, sigma), 200, 1.0
    L = float(relative_smoothness(1.0, 3.0, c, reach=1.0))
    seen, _ = relative(chains, steps, c, None, frobenius=False)
    below(np.sqrt(seen.sum(axis=0)), math.sqrt(steps) * adagrad_bound(chains.gap, L, sigma, steps, 1.0, 1.0))


def test_noise_that_grows_with_the_loss() -> None:
    """One of four samples (W - C)x at a time: Λ = max |x|², so κ = Λ; F* = 0, so σ = 0."""
    chains, steps = Chains(5, 0.0, size=0.5), 100
    x = chains.rng.standard_normal((4, M))
    L, kappa = np.linalg.norm(x, 2) ** 2 / 4, float(np.max(np.sum(x**2, axis=1)))
    gap = float(squares((chains.B[0] @ chains.A[0] - chains.C) @ x.T)) / 8
    gamma = min(1.0, math.sqrt(L / (kappa * steps)))
    seen = []
    for _ in range(steps):
        a, b = chains.lengths()
        W, one = chains.B @ chains.A - chains.C, x[chains.rng.integers(0, 4, CHAINS)]
        g_A, g_B = chains.factors(W @ x.T @ x / 4)
        seen.append((squares(g_B) / a**2 + squares(g_A) / b**2) / 2)
        g_A, g_B = chains.factors((W @ one[..., None]) * one[:, None, :])
        moves_b = chains.rng.random(CHAINS) < 0.5
        chains.B -= np.where(moves_b, gamma / (L * a**2), 0.0)[:, None, None] * g_B
        chains.A -= np.where(moves_b, 0.0, gamma / (L * b**2))[:, None, None] * g_A
    assert np.array(seen).mean(axis=1).min() <= growing_noise_bound(gap, L, 0.0, kappa, steps, gamma)
    assert growing_noise_bound(gap, L, 0.0, kappa, steps, 2 * gamma) == np.inf


def test_the_greedy_choice_of_a_factor_can_stand_still_for_ever() -> None:
    """Proposition 4: F = (W12 - 1)²/2, batches add ±2 W21; B moves in every step, A never, and F stays at 1/2."""
    rng, steps = np.random.default_rng(0), 400
    gamma = steps**-0.5
    A, B = np.array([[1.0, 0.0]]), np.array([[1.0], [0.0]])
    for _ in range(steps):
        G = np.array([[0.0, (B @ A)[0, 1] - 1], [2 * rng.choice([-1.0, 1.0]), 0.0]])
        g_A, g_B = B.T @ G, G @ A.T
        a, b = np.linalg.norm(A), np.linalg.norm(B)
        eta_a, eta_b = one_factor_step_size(a, b, np.linalg.norm(g_A), np.linalg.norm(g_B), 1 / gamma)
        assert eta_a == 0 < eta_b
        A, B = A - eta_a * g_A, B - eta_b * g_B
        assert (B @ A)[0, 1] == 0
    # with a coin the same problem is solved
    A, B = np.array([[1.0, 0.0]]), np.array([[1.0], [0.0]])
    for step in range(4000):
        gamma = min(0.5, 10 / (step + 1))
        G = np.array([[0.0, (B @ A)[0, 1] - 1], [2 * rng.choice([-1.0, 1.0]), 0.0]])
        if rng.random() < 0.5:
            B = B - gamma / np.sum(A**2) * G @ A.T
        else:
            A = A - gamma / np.sum(B**2) * B.T @ G
    assert 0.5 * ((B @ A)[0, 1] - 1) ** 2 < 1e-3


@pytest.mark.parametrize("theta", [0.02, 0.5])
def test_slopes_on_the_next_batch_bound_the_change_of_a_convex_loss(theta: float) -> None:
    """Proposition 5, in the weights and in the factors, where ⟨G, D_B D_A⟩ is what is left."""
    chains = Chains(6, 1.0)
    first, weights, factors, products = chains.loss(), np.zeros(CHAINS), np.zeros(CHAINS), np.zeros(CHAINS)
    for _ in range(60):
        before_A, before_B, before = chains.A, chains.B, chains.loss()
        h_A, h_B = chains.factors(chains.gradient() + chains.noise())
        chains.A, chains.B = chains.A - theta * h_A, chains.B - theta * h_B
        D_A, D_B = chains.A - before_A, chains.B - before_B
        X = chains.B @ chains.A - before_B @ before_A
        G = chains.gradient()
        assert np.all(chains.loss() - before <= np.sum(G * X, axis=(1, 2)) + 1e-12)  # convex, pathwise
        fresh = G + chains.noise()
        g_A, g_B = chains.factors(fresh)
        slope = np.sum(g_A * D_A, axis=(1, 2)) + np.sum(g_B * D_B, axis=(1, 2))
        np.testing.assert_allclose(
            np.sum(fresh * X, axis=(1, 2)), slope - np.sum(fresh * (D_B @ D_A), axis=(1, 2)), atol=1e-12
        )
        weights, factors = weights + np.sum(fresh * X, axis=(1, 2)), factors + slope
        # |<G, D_B D_A>| <= |G|₂ |D|²/2: the curvature that a convex loss can have in the factors
        products = products + np.linalg.norm(G, 2, axis=(1, 2)) * (squares(D_A) + squares(D_B)) / 2
    change = chains.loss() - first
    below(change - weights, 0.0)
    below(change - factors - products, 0.0)


def test_the_cross_term_of_the_smoothness_is_needed() -> None:
    """One weight, both factors alike, h = cL: what is lost comes close to L'."""
    L = c = 1.0
    reach = 0.2 * c
    z = c / (2 / 3)
    a = b = math.sqrt((z - c) / 2)
    step = reach / math.sqrt(2 * z)  # of each factor: theta |û| = reach
    h = c * L
    move = 2 * a * step + step**2
    lost = h * move + L / 2 * move**2 - h * 2 * a * step
    bound = float(relative_smoothness(L, h, c, reach)) / 2 * reach**2
    assert 0.99 * bound < lost <= bound
    assert b == a


def test_step_sizes_and_fractions() -> None:
    scaled = relative_step_size(0.3, 2.0 / math.sqrt(5), 1.0 / math.sqrt(5), offset=3.0, scaling=5.0)
    assert scaled == pytest.approx(float(relative_step_size(0.3, 2.0, 1.0, offset=3.0)) / 5)
    assert best_fraction(1.0, 1.0, 0.0, 10) == 1.0
    assert mean_square_bound(1.0, 2.0, 0.0, 10, 1.0) == pytest.approx(0.4)  # gradient descent: 2LΔ/T


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_square_bound(1.0, 1.0, 1.0, 10, 1.5), "fraction must lie in"),
        (lambda: mean_square_bound(-1.0, 1.0, 1.0, 10, 1.0), "gap must be finite and not negative"),
        (lambda: relative_smoothness(1.0, 1.0, 0.0), "offset must be positive"),
        (lambda: adagrad_bound(1.0, 1.0, 1.0, 10, 1.0, 0.0), "start must be positive"),
        (lambda: relative_step_size(-1.0, 1.0, 1.0, 1.0), "theta must be finite"),
    ],
)
def test_bad_input_is_refused(call: object, message: str) -> None:
    with pytest.raises(LorateError, match=message):
        call()  # type: ignore[operator]
