"""Theorems for mini-batches: each inequality on adversarial problems, each expectation exactly or over many chains."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorate.descent import (
    relative_smoothness,
)

from .lora_problems import KINDS, ROUNDING, SEEDS, Array, Problems, column, draw, power_of_ten, spectral, squares


@dataclass
class Scaled:
    """A batch of problems in the scaled factors, and gradients at weights' gradients of any kind."""

    problems: Problems
    A: Array
    B: Array

    @classmethod
    def of(cls, p: Problems) -> "Scaled":
        root = np.sqrt(column(p.scaling))
        return cls(p, root * p.A, root * p.B)

    def gradients(self, G: Array) -> tuple[Array, Array]:
        return self.B.swapaxes(-1, -2) @ G, G @ self.A.swapaxes(-1, -2)

    def change(self, D_A: Array, D_B: Array) -> tuple[Array, Array]:
        root = np.sqrt(column(self.problems.scaling))
        return self.problems.change(D_A / root, D_B / root)


def any_direction(s: Scaled, G: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """What stands for a batch's gradient: noise, the gradient, its opposite, or what makes <G, D_B D_A> largest."""
    g_A, g_B = s.gradients(G)
    left, _, right = np.linalg.svd(G)
    sign = rng.choice([-1.0, 1.0], (*G.shape[:2], 1, 1))
    worst_A, worst_B = np.zeros_like(g_A), np.zeros_like(g_B)
    worst_A[..., :1, :] = sign * right[..., :1, :]
    worst_B[..., :, :1] = left[..., :, :1]
    which = rng.integers(0, 4, (len(G), 1, 1, 1))
    noise_A, noise_B = rng.standard_normal(g_A.shape), rng.standard_normal(g_B.shape)
    return np.choose(which, [noise_A, g_A, -g_A, worst_A]), np.choose(which, [noise_B, g_B, -g_B, worst_B])


def total(x: Array) -> Array:
    return x.sum(axis=1)


def inner(x: Array, y: Array) -> Array:
    return np.sum(x * y, axis=(-2, -1))


def lemma_of_one_factor(seed: int, kind: str, count: int) -> None:
    """J falls by at least θ<u, û> - Lθ²|û|²/2 whatever û and θ are, if each layer moves one factor."""
    rng, s = np.random.default_rng(seed), Scaled.of(draw(seed, kind, count))
    G, L = s.problems.G, s.problems.smoothness
    moves_b = rng.random(G.shape[:2]) < 0.5
    partner = np.where(moves_b, spectral(s.A), spectral(s.B))
    n = partner * np.where(rng.random(partner.shape) < 0.5, 1.0, power_of_ten(rng, 0, 3, partner.shape))
    over = inverse(n)
    over_a, over_b = column(np.where(moves_b, 0.0, over)), column(np.where(moves_b, over, 0.0))
    g_A, g_B = s.gradients(G)
    h_A, h_B = any_direction(s, G, rng)
    length = np.sqrt(total(squares(h_A) + squares(h_B)))
    scale = column((target_length(s, rng) / np.maximum(length, 1e-300))[:, None])
    h_A, h_B = scale * h_A * (over_a > 0), scale * h_B * (over_b > 0)
    theta = power_of_ten(rng, -3, 3, (count,)) / L
    move = column(theta[:, None])
    change, size = s.change(-move * over_a * h_A, -move * over_b * h_B)
    linear = theta * total(inner(over_a * g_A, h_A) + inner(over_b * g_B, h_B))
    square = L / 2 * theta**2 * total(squares(h_A) + squares(h_B))
    assert np.all(change <= -linear + square + ROUNDING * (size + np.abs(linear) + square))


def inverse(x: Array) -> Array:
    """1/x, and 0 where a layer does not move."""
    return np.divide(1.0, x, out=np.zeros_like(x), where=x > 0)


def target_length(s: Scaled, rng: np.random.Generator) -> Array:
    """Lengths of û around that of the weights' gradient."""
    return np.sqrt(total(squares(s.problems.G))) * power_of_ten(rng, -3, 3, (len(s.A),))


def lemma_of_both_factors(seed: int, kind: str, count: int) -> None:
    """The same with L' for LoRA's simultaneous step over |A|² + |B|² + c."""
    rng, s = np.random.default_rng(seed), Scaled.of(draw(seed, kind, count))
    G, L = s.problems.G, s.problems.smoothness
    size_sq = spectral(s.A) ** 2 + spectral(s.B) ** 2
    typical = np.maximum(size_sq.max(axis=1), 1e-12)[:, None]
    c = typical * power_of_ten(rng, -3, 3, (count, 1)) * power_of_ten(rng, 0, 1, size_sq.shape)
    root = column(np.sqrt(size_sq + c))
    h_A, h_B = any_direction(s, G, rng)
    length = np.sqrt(total(squares(h_A) + squares(h_B)))
    reach = c.min(axis=1) * power_of_ten(rng, -3, 2, (count,))  # θ|û|
    move = column((reach / np.maximum(length, 1e-300))[:, None])
    constant = relative_smoothness(L, spectral(G).max(axis=1), c.min(axis=1), reach)
    g_A, g_B = s.gradients(G)
    change, size = s.change(-move * h_A / root, -move * h_B / root)
    linear = total(inner(g_A, move * h_A / root) + inner(g_B, move * h_B / root))
    square = constant / 2 * np.where(length > 0, reach, 0.0) ** 2
    assert np.all(change <= -linear + square + ROUNDING * (size + np.abs(linear) + square))


def noise_is_no_larger_in_these_coordinates(seed: int, kind: str, count: int) -> None:
    """|û - u| <= |Ĝ - G|, for one factor a layer and for both."""
    rng, s = np.random.default_rng(seed), Scaled.of(draw(seed, kind, count))
    N = rng.standard_normal(s.problems.G.shape)
    n_A, n_B = s.gradients(N)
    a, b = spectral(s.A), spectral(s.B)
    with np.errstate(divide="ignore", invalid="ignore"):
        assert np.all((squares(n_B) / a**2 <= squares(N) * (1 + 1e-12)) | (a == 0))
        assert np.all((squares(n_A) / b**2 <= squares(N) * (1 + 1e-12)) | (b == 0))
        both = (squares(n_A) + squares(n_B)) / (a**2 + b**2)
    assert np.all((both <= squares(N) * (1 + 1e-12)) | (a + b == 0))


def one_step_of_theorem_1(seed: int, kind: str, count: int) -> None:
    """The exact mean over two equally likely batches G ± N and a coin."""
    rng, s = np.random.default_rng(seed), Scaled.of(draw(seed, kind, count))
    G, L = s.problems.G, s.problems.smoothness
    N = rng.standard_normal(G.shape)
    N *= column((target_length(s, rng) / np.maximum(np.sqrt(total(squares(N))), 1e-300))[:, None])
    sigma_sq = total(squares(N))
    gamma = rng.random(count)
    move = column((gamma / L)[:, None])
    mean, sizes, u_sq = np.zeros(count), np.zeros(count), np.zeros(count)
    for moves_b in (True, False):
        over = column(inverse(spectral(s.A if moves_b else s.B)) ** 2)
        g_A, g_B = s.gradients(G)
        u_sq += total(squares(g_B if moves_b else g_A) * over[..., 0, 0]) / 2
        for sign in (1.0, -1.0):
            h_A, h_B = s.gradients(G + sign * N)
            D_A, D_B = -move * over * h_A * (not moves_b), -move * over * h_B * moves_b
            change, size = s.change(D_A, D_B)
            mean, sizes = mean + change / 4, sizes + size / 4
    bound = -gamma / L * (1 - gamma / 2) * u_sq + gamma**2 * sigma_sq / (2 * L)
    assert np.all(mean <= bound + ROUNDING * (sizes + gamma / L * (u_sq + sigma_sq)))


def core_of_theorem_2(seed: int, count: int) -> None:
    """E<u, û>/b >= |u|²/2b̃ - 2σE|û|²/b², exactly, for noise on up to four points."""
    rng = np.random.default_rng(seed)
    d, points = int(rng.integers(1, 4)), int(rng.integers(2, 5))
    u = rng.standard_normal((count, 1, d)) * power_of_ten(rng, -3, 3, (count, 1, 1))
    weight = rng.dirichlet(np.full(points, 0.3), count) + 1e-9
    weight /= weight.sum(axis=1, keepdims=True)
    n = rng.standard_normal((count, points, d)) * power_of_ten(rng, -3, 3, (count, points, 1))
    n -= np.sum(weight[..., None] * n, axis=1, keepdims=True)  # unbiased
    adverse = rng.random((count, 1, 1)) < 0.5  # noise along u: the step is longest where the batch points away
    n = np.where(adverse, u * np.sum(n * u, axis=-1, keepdims=True) / np.sum(u * u, axis=-1, keepdims=True), n)
    sigma = np.sqrt(np.sum(weight * np.sum(n**2, axis=-1), axis=1))
    before = power_of_ten(rng, -3, 3, (count,))
    hat_sq = np.sum((u + n) ** 2, axis=-1)
    b = np.sqrt(before[:, None] ** 2 + hat_sq)
    u_sq = np.sum(u**2, axis=(1, 2))
    b_tilde = np.sqrt(before**2 + u_sq + sigma**2)
    left = np.sum(weight * np.sum(u * (u + n), axis=-1) / b, axis=1)
    right = u_sq / (2 * b_tilde) - 2 * sigma * np.sum(weight * hat_sq / b**2, axis=1)
    assert np.all(left >= right - 1e-12 * (np.abs(left) + u_sq / b_tilde + sigma))


def growth_of_theorem_3(seed: int, kind: str, count: int) -> None:
    """One step lets the mean of |V|² grow by at most 2θ|u| + θ²(|u|² + σ²/4)/c in each layer."""
    rng, s = np.random.default_rng(seed), Scaled.of(draw(seed, kind, count))
    G = s.problems.G
    N = rng.standard_normal(G.shape) * column(np.sqrt(squares(G)) * power_of_ten(rng, -2, 2, G.shape[:2]))
    y = squares(s.A) + squares(s.B)
    c = np.maximum(y, 1e-12) * power_of_ten(rng, -3, 3, y.shape)
    theta = c * power_of_ten(rng, -3, 3, y.shape) * inverse(np.sqrt(squares(G)))
    z = y + c
    after = 0.0
    for sign in (1.0, -1.0):
        h_A, h_B = s.gradients(G + sign * N)
        factor = column(theta / z)
        after = after + (squares(s.A - factor * h_A) + squares(s.B - factor * h_B)) / 2
    g_A, g_B = s.gradients(G)
    u_sq = (squares(g_A) + squares(g_B)) / z
    bound = y + 2 * theta * np.sqrt(u_sq) + theta**2 / c * (u_sq + squares(N) / 4)
    assert np.all(after <= bound * (1 + 1e-12))


LEMMAS = [
    lemma_of_one_factor,
    lemma_of_both_factors,
    noise_is_no_larger_in_these_coordinates,
    one_step_of_theorem_1,
    growth_of_theorem_3,
]


@settings(max_examples=8, deadline=None)
@given(seed=SEEDS, kind=st.sampled_from(KINDS))
@pytest.mark.parametrize("lemma", LEMMAS)
def test_inequality(lemma: object, seed: int, kind: str) -> None:
    lemma(seed, kind, 100)  # type: ignore[operator]


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_core_of_theorem_2(seed: int) -> None:
    core_of_theorem_2(seed, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lemma", LEMMAS)
def test_inequality_on_25_000_problems(lemma: object, kind: str) -> None:
    for seed in range(50):
        lemma(1000 + seed, kind, 500)  # type: ignore[operator]


@pytest.mark.slow
def test_core_of_theorem_2_on_25_000_problems() -> None:
    for seed in range(50):
        core_of_theorem_2(seed, 500)
