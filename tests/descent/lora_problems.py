"""Batches of adversarial LoRA problems: losses whose smoothness is known, factors of every size and degeneracy.

Arrays are ``[problems, layers, ...]``. A loss is a function of the joint displacement ``x`` of the weights from where
they are, shape ``[problems, d]``; it returns its change, the sum of the absolute values of the terms the change was
added up from (the measure of what rounding may do), and its gradient. Changes, not values: nothing is lost by
subtracting two large losses or two large weights, so the allowance for rounding can be small. With each loss comes how
far it can fall at most.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

Array = np.ndarray
LossFunction = Callable[[Array], tuple[Array, Array, Array]]
KINDS = ("convex", "indefinite", "worst", "cosines", "logistic")
SEEDS = st.integers(0, 2**32 - 1)
ROUNDING = 1e-12  # allowed violation, as a fraction of the sum of absolute values of all terms


@dataclass
class Problems:
    A: Array  # [problems, layers, r, n]
    B: Array  # [problems, layers, m, r]
    scaling: Array  # [problems, layers]
    smoothness: Array  # [problems]
    loss: LossFunction
    gap: Array  # [problems]; infinite if the loss is unbounded, or not known to be bounded

    def displacement(self, D_A: Array, D_B: Array) -> Array:
        """How the weights move with the factors, layer by layer."""
        return self.scaling[..., None, None] * (D_B @ self.A + self.B @ D_A + D_B @ D_A)

    def change(self, D_A: Array, D_B: Array) -> tuple[Array, Array]:
        """Change of the loss, and the sum of the absolute values of its terms."""
        s = self.scaling[..., None, None]
        move = self.displacement(D_A, D_B)
        change, size, gradient = self.loss(move.reshape(len(move), -1))
        terms = s * (np.abs(D_B) @ np.abs(self.A) + np.abs(self.B) @ np.abs(D_A) + np.abs(D_B) @ np.abs(D_A))
        # the displacement is known up to rounding of its own terms, which the gradient turns into loss
        return change, size + np.sum(np.abs(gradient) * terms.reshape(len(move), -1), axis=1)

    @property
    def G(self) -> Array:
        """Gradient of the frozen weights, per layer."""
        count, layers, _, n = self.A.shape
        flat = self.loss(np.zeros((count, layers * self.B.shape[-2] * n)))[2]
        return flat.reshape(count, layers, -1, n)

    def factor_gradients(self, G: Array) -> tuple[Array, Array]:
        s = self.scaling[..., None, None]
        return s * self.B.swapaxes(-1, -2) @ G, s * G @ self.A.swapaxes(-1, -2)

    @property
    def L(self) -> Array:
        """Smoothness, one column to broadcast over the layers."""
        return self.smoothness[:, None]

    def geometry(self, D_A: Array, D_B: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Slope, <G, Q>, |P|², <P, Q> and |Q|² of each layer, from dense matrices."""
        g_A, g_B = self.factor_gradients(self.G)
        s = self.scaling[..., None, None]
        P, Q = s * (D_B @ self.A + self.B @ D_A), s * (D_B @ D_A)
        slope = np.sum(g_A * D_A, axis=(-2, -1)) + np.sum(g_B * D_B, axis=(-2, -1))
        return slope, np.sum(self.G * Q, axis=(-2, -1)), squares(P), np.sum(P * Q, axis=(-2, -1)), squares(Q)


def column(x: Array) -> Array:
    return x[..., None, None]


def squares(x: Array) -> Array:
    return np.sum(x**2, axis=(-2, -1))


def spectral(x: Array) -> Array:
    return np.linalg.norm(x, 2, axis=(-2, -1))


def power_of_ten(rng: np.random.Generator, low: float, high: float, shape: tuple[int, ...]) -> Array:
    return 10.0 ** rng.uniform(low, high, shape)


def draw(seed: int, kind: str, count: int = 1000, *, unit_scaling: bool = False) -> Problems:
    rng = np.random.default_rng(seed)
    layers, m, n, r = (int(x) for x in (rng.integers(1, 4), *rng.integers(1, 5, 3)))
    smoothness = power_of_ten(rng, -6, 6, (count,))
    scaling = np.ones((count, layers)) if unit_scaling else power_of_ten(rng, -3, 3, (count, layers))
    A, B = (rng.standard_normal((count, layers, *shape)) for shape in ((r, n), (m, r)))
    rank_one = rng.random((count, layers)) < 0.2
    A = np.where(rank_one[..., None, None], A[..., :1, :] * rng.standard_normal((count, layers, r, 1)), A)
    # sizes: from factors that do not matter next to G to ones that make G not matter
    A *= power_of_ten(rng, -5, 5, (count, 1, 1, 1)) * power_of_ten(rng, -2, 2, (count, layers, 1, 1))
    B *= power_of_ten(rng, -5, 5, (count, 1, 1, 1)) * power_of_ten(rng, -2, 2, (count, layers, 1, 1))
    for factor in (A, B):
        factor[rng.random((count, layers)) < 0.1] = 0.0
    balanced = rng.random(count) < 0.4  # |G| close to L |V|²: neither term of the curvature dominates
    size = np.max(np.sqrt(squares(A) + squares(B)) * np.sqrt(scaling), axis=1)
    target = np.where(balanced, smoothness * size**2 * power_of_ten(rng, -1, 1, (count,)), 1.0)
    target = np.where(balanced & (target > 0), target, power_of_ten(rng, -6, 6, (count,)))
    d = layers * m * n
    start = (scaling[..., None, None] * (B @ A)).reshape(count, d)
    gradient = rng.standard_normal((count, d))
    aligned = rng.random(count) < 0.3  # W points along or against G: the second-order term is at its largest
    sign = rng.choice([-1.0, 1.0], (count, 1))
    gradient = np.where((aligned & np.any(start != 0, axis=1))[:, None], sign * start, gradient)
    gradient *= (target / np.maximum(np.linalg.norm(gradient, axis=1), 1e-300))[:, None]
    loss, gap = LOSSES[kind](rng, gradient, smoothness)
    return Problems(A, B, scaling, smoothness, loss, gap)


def _quadratic(gradient: Array, hessian: Array) -> LossFunction:
    """<gradient, x> + x H x / 2."""

    def loss(x: Array) -> tuple[Array, Array, Array]:
        curved = np.einsum("pij,pj->pi", hessian, x)
        size = np.abs(gradient * x) + np.abs(x) * np.einsum("pij,pj->pi", np.abs(hessian), np.abs(x)) / 2
        return np.sum(gradient * x + x * curved / 2, axis=1), size.sum(1), gradient + curved

    return loss


def _with_spectrum(gradient: Array, basis: Array, eigenvalues: Array) -> tuple[LossFunction, Array]:
    """The quadratic with these eigenvectors; unbounded below for some spectra: the lemmas are local."""
    along = np.einsum("pik,pi->pk", basis, gradient)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = np.sum(np.where(eigenvalues > 0, along**2 / (2 * eigenvalues), np.inf), axis=1)
    return _quadratic(gradient, (basis * eigenvalues[:, None, :]) @ basis.swapaxes(1, 2)), gap


def _random_basis(rng: np.random.Generator, gradient: Array) -> Array:
    return np.linalg.qr(rng.standard_normal((*gradient.shape, gradient.shape[1])))[0]


def _convex(rng: np.random.Generator, gradient: Array, smoothness: Array) -> tuple[LossFunction, Array]:
    return _with_spectrum(gradient, _random_basis(rng, gradient), smoothness[:, None] * rng.random(gradient.shape))


def _indefinite(rng: np.random.Generator, gradient: Array, smoothness: Array) -> tuple[LossFunction, Array]:
    eigenvalues = smoothness[:, None] * rng.choice([-1.0, 1.0, 0.0], gradient.shape)
    return _with_spectrum(gradient, _random_basis(rng, gradient), eigenvalues)


def _worst(rng: np.random.Generator, gradient: Array, smoothness: Array) -> tuple[LossFunction, Array]:
    """Curvature L in every direction: smoothness holds with equality."""
    basis = np.broadcast_to(np.eye(gradient.shape[1]), (*gradient.shape, gradient.shape[1]))
    return _with_spectrum(gradient, basis, np.broadcast_to(smoothness[:, None], gradient.shape))


def _waves(rng: np.random.Generator, gradient: Array, smoothness: Array, curvature: float) -> tuple[Array, Array]:
    """Directions omega and amplitudes with curvature * sum |a_k| omega_k omega_k^T of norm L, felt within a step."""
    count, d = gradient.shape
    length = np.linalg.norm(gradient, axis=1) / smoothness
    omega = rng.standard_normal((count, 5, d)) / length[:, None, None] * power_of_ten(rng, -1, 1, (count, 5, 1))
    amplitude = rng.standard_normal((count, 5))
    bound = curvature * np.linalg.norm(np.einsum("pk,pki,pkj->pij", np.abs(amplitude), omega, omega), 2, axis=(1, 2))
    return omega, amplitude * (smoothness / bound)[:, None]


def _cosines(rng: np.random.Generator, gradient: Array, smoothness: Array) -> tuple[LossFunction, Array]:
    """sum of a_k cos(omega_k x + phase_k)."""
    omega, amplitude = _waves(rng, gradient, smoothness, 1.0)
    phase = rng.uniform(0, 2 * np.pi, amplitude.shape)

    def loss(x: Array) -> tuple[Array, Array, Array]:
        angle = np.einsum("pkd,pd->pk", omega, x)
        reach = np.einsum("pkd,pd->pk", np.abs(omega), np.abs(x))
        change = -2 * amplitude * np.sin(phase + angle / 2) * np.sin(angle / 2)
        slope = np.einsum("pk,pkd->pd", -amplitude * np.sin(phase + angle), omega)
        return change.sum(1), np.sum(np.abs(amplitude) * reach, axis=1), slope

    return loss, np.sum(np.abs(amplitude) + amplitude * np.cos(phase), axis=1)


def _logistic(rng: np.random.Generator, gradient: Array, smoothness: Array) -> tuple[LossFunction, Array]:
    """sum of a_k log(1 + exp(omega_k x)), amplitudes of both signs: convex and concave parts."""
    omega, amplitude = _waves(rng, gradient, smoothness, 0.25)

    def loss(x: Array) -> tuple[Array, Array, Array]:
        z = np.einsum("pkd,pd->pk", omega, x)
        reach = np.einsum("pkd,pd->pk", np.abs(omega), np.abs(x))
        change = np.where(z > 1, np.logaddexp(0, z) - np.log(2), np.log1p(np.expm1(np.minimum(z, 1)) / 2))
        slope = np.einsum("pk,pkd->pd", amplitude * np.exp(-np.logaddexp(0, -z)), omega)
        return np.sum(amplitude * change, axis=1), np.sum(np.abs(amplitude) * reach, axis=1), slope

    return loss, np.full(len(gradient), np.inf)


LOSSES = {
    "convex": _convex,
    "indefinite": _indefinite,
    "worst": _worst,
    "cosines": _cosines,
    "logistic": _logistic,
}
