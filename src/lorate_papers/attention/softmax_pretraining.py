r"""Pre-training with softmax attention: the general form of the equations, averages by quasi-random points.

The attention function enters through a small problem per sequence: fit the noisy label while staying close to a
Gaussian attention matrix Omega. Its averages set the effective noise, scale and threshold of the spectrum. With
linear attention the same equations reduce to `lorate_papers.attention.pretraining`.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lorate_papers.attention.activation import SOFTMAX, Activation
from lorate_papers.attention.arguments import check_points
from lorate_papers.attention.convergence import settle
from lorate_papers.attention.newton import Problems, Rows, minimise
from lorate_papers.attention.pretraining import Pretraining, check_width
from lorate_papers.attention.samples import normals, sobol, symmetric_gaussian
from lorate_papers.attention.spectrum import SpectralIntegrals, integrals

Array = NDArray[np.float64]

TOLERANCE = 1e-6


@dataclass(frozen=True)
class SoftmaxPretrainingOrder:
    """Order parameters of the learned map with softmax attention.

    Attributes:
        problem: the problem solved.
        Q: Tr S_hat^2 / D^2.
        M: Tr S_hat S0 / D^2.
        V: response of the fit to a perturbation.
        scale: b, the shrinkage of the spectrum before the threshold (1 for linear attention).
        tau: standard deviation of the noise on the spectrum.
        threshold: ``Lambda``, where the spectrum b (s0 + tau semicircle) is cut.
        active: fraction of the eigenvalues of S_hat that are positive.
        train_loss: training loss over N without the weight decay.
        excess_error: test error on noise-free labels.
    """

    problem: Pretraining
    Q: float
    M: float
    V: float
    scale: float
    tau: float
    threshold: float
    active: float
    train_loss: float
    excess_error: float

    @property
    def mismatch(self) -> float:
        """||S_hat - S0||^2 / D^2 = Q0 - 2 M + Q."""
        return self.problem.Q0 - 2 * self.M + self.Q


def solve_softmax_pretraining(
    problem: Pretraining, points: int = 2**11, seed: int = 0, activation: Activation = SOFTMAX
) -> SoftmaxPretrainingOrder:
    r"""Order parameters of pre-training for a general attention function, exact for D and ``points`` to infinity.

    $$ \hat V = \frac{2\alpha}{V}\Big(K - \frac{E\,\mathrm{tr} H^{-1}}{V}\Big), \quad
              \hat M = \frac{2\alpha}{V} E\,\mathrm{tr}\big(H^{-1} P^T 2 J(\hat A) J(A^* + \sqrt\Delta Z) P\big), \quad
              \hat Q = 2\alpha E|\hat u - \omega|^2 / V^2 $$

    with H the second derivative of the small problem, then

    $$ b = \hat M / \hat V, \quad \tau = \sqrt{\hat Q} / \hat M, \quad
              \Lambda = 2 \lambda \sqrt\kappa / \hat V, \quad M = b I_M, \quad Q = b^2 I_Q, \quad
              V = I_V / \hat V $$

    with the spectral integrals at (tau, Lambda / b).

    Args:
        problem: what to solve.
        points: quasi-random points, a power of two from 4 on; 2**11 gives about one percent.
        seed: of the points.
        activation: the attention function.

    Raises:
        NotConverged: the iteration did not settle.
        LorateError: kappa is below the fraction of active directions, or ``points`` is not a power of two.

    Source: docs/attention/index.md, "Softmax attention".
    """
    draws = Draws(problem, points, seed)

    def update(state: Array) -> Array:
        Q, M, V = (float(z) for z in state)
        moments = _moments(draws, Q, M, V, activation)
        law, b, _, _ = _spectrum(problem, moments)
        return np.array([b**2 * law.Q, b * law.M, law.V / moments[0]])

    start = np.array([problem.Q0 / 2, problem.Q0 / 2, 1.0])
    Q, M, V = (float(z) for z in settle(update, start, ("Q", "M", "V"), TOLERANCE))
    moments = _moments(draws, Q, M, V, activation)
    law, b, tau, threshold = _spectrum(problem, moments)
    check_width(problem, law)
    omega, teacher = draws.attention(Q, M)
    test = activation.loss(omega, activation.value(teacher))
    return SoftmaxPretrainingOrder(
        problem, Q, M, V, b, tau, threshold, law.active, train_loss=moments[3], excess_error=float(test.mean())
    )


class Draws:
    """Quasi-random attention matrices: of the student, the rest of the teacher's, and the label noise.

    What the student cannot know comes in pairs of opposite sign, so that forces linear in it cancel exactly:
    without the pairs the mean force, which shifts the weight decay of fine-tuning, has an error of ten percent.

    Args:
        problem: gives T and the variance of the label noise.
        points: of the draws, a power of two, at least 4: each half has as many as `sobol` gives.
        seed: of the points.
        fields: T for fine-tuning, whose small problem has fields of T entries too; 0 for pre-training.

    Raises:
        LorateError: ``points`` is not a power of two, or below 4.
    """

    def __init__(self, problem: Pretraining, points: int, seed: int, fields: int = 0) -> None:
        check_points(points, at_least=4)
        T = problem.tokens
        K = T * (T + 1) // 2
        half = normals(sobol(2 * K + T * T + 2 * fields, points // 2, seed))
        known = np.r_[0:K, 2 * K + T * T : 2 * K + T * T + fields]
        opposite = -half
        opposite[:, known] = half[:, known]
        z = np.concatenate([half, opposite])
        self.problem = problem
        self.student = symmetric_gaussian(z[:, :K])
        self.rest = symmetric_gaussian(z[:, K : 2 * K])
        self.noise = math.sqrt(problem.noise) * z[:, 2 * K : 2 * K + T * T].reshape(points, T, T)
        self.teacher_field = z[:, 2 * K + T * T : 2 * K + T * T + fields]
        self.other_field = z[:, 2 * K + T * T + fields :]

    def attention(self, Q: float, M: float) -> tuple[Array, Array]:
        """Student's field Omega and teacher's attention A*, with covariances Q, M and Q0."""
        Q = max(Q, 1e-12)
        rest = math.sqrt(max(self.problem.Q0 - M * M / Q, 0.0))
        return math.sqrt(Q) * self.student, M / math.sqrt(Q) * self.student + rest * self.rest


class AttentionFit(Problems):
    """min ||sigma(A) - Y||^2 + ||A - Omega||^2 / (4 V) over symmetric A, in the coordinates u of unit metric."""

    def __init__(self, omega: Array, target: Array, V: float, activation: Activation) -> None:
        self.omega, self.target, self.V, self.activation = omega, target, V, activation

    def value(self, x: Array, rows: Rows) -> Array:
        """Objective at coordinates ``x``."""
        A = symmetric_gaussian(x)
        away = ((A - self.omega[rows]) ** 2).sum((-2, -1)) / (4 * self.V)
        return np.asarray(self.activation.loss(A, self.target[rows]) + away)

    def derivatives(self, x: Array, rows: Rows) -> tuple[Array, Array, Array]:
        """Gradient, second derivative, and its Gauss-Newton part."""
        A = symmetric_gaussian(x)
        gradient, blocks = self.activation.curvature(A, self.target[rows])
        jacobian = self.activation.jacobian(A)
        ridge = np.eye(x.shape[-1]) / self.V
        total = np.tensordot(gradient, basis(A.shape[-1]), 2) + (x - coordinates(self.omega[rows])) / self.V
        return total, compress(blocks) + ridge, compress(2 * jacobian @ jacobian) + ridge

    def solve(self, starts: list[Array]) -> Array:
        """Fitted attention matrices, shape ``[points, T, T]``; starts are attention matrices."""
        return symmetric_gaussian(minimise(self, [coordinates(start) for start in starts]))


@lru_cache(maxsize=8)
def basis(tokens: int) -> Array:
    """P, the linear map from the coordinates u to the matrix A, shape ``[T, T, T (T + 1) / 2]``."""
    return np.moveaxis(symmetric_gaussian(np.eye(tokens * (tokens + 1) // 2)), 0, -1)


def coordinates(A: Array) -> Array:
    """Coordinates u of a symmetric matrix: the upper triangle, the diagonal over sqrt(2); ||A||^2 = 2 |u|^2."""
    row, column = np.triu_indices(A.shape[-1])
    return np.asarray(A[..., row, column] / np.where(row == column, math.sqrt(2), 1.0))


def compress(blocks: Array) -> Array:
    """P^T blockdiag(blocks) P, shape ``[points, K, K]``."""
    P = basis(blocks.shape[-1])
    T, _, K = P.shape
    return np.asarray(P.reshape(T * T, K).T @ (blocks @ P).reshape(-1, T * T, K))


def fitted_attention(
    draws: Draws, Q: float, M: float, V: float, activation: Activation
) -> tuple[Array, Array, Array, Array]:
    """Omega, A*, the noisy target sigma(A* + sqrt(Delta) Z) and the fitted attention of every draw."""
    omega, teacher = draws.attention(Q, M)
    target = activation.value(teacher + draws.noise)
    return omega, teacher, target, AttentionFit(omega, target, V, activation).solve([omega, teacher])


def _moments(draws: Draws, Q: float, M: float, V: float, activation: Activation) -> tuple[float, float, float, float]:
    """V^, M^, Q^ and the training loss a sequence."""
    V = max(V, 1e-9)
    omega, teacher, target, fitted = fitted_attention(draws, Q, M, V, activation)
    blocks = activation.curvature(fitted, target)[1]
    inverse = np.linalg.inv(compress(blocks) + np.eye(basis(omega.shape[-1]).shape[-1]) / V)
    cross = compress(2 * activation.jacobian(fitted) @ activation.jacobian(teacher + draws.noise))
    scale = 2 * draws.problem.alpha / V
    K = inverse.shape[-1]
    v_hat = scale * (K - float(np.einsum("nii->n", inverse).mean()) / V)
    m_hat = scale * float(np.einsum("nij,nji->n", inverse, cross).mean())
    q_hat = scale / V * float(((fitted - omega) ** 2).sum((-2, -1)).mean()) / 2
    return v_hat, m_hat, q_hat, float(activation.loss(fitted, target).mean())


def _spectrum(
    problem: Pretraining, moments: tuple[float, float, float, float]
) -> tuple[SpectralIntegrals, float, float, float]:
    """Spectral integrals, scale b, noise tau and threshold Lambda at the given averages."""
    v_hat, m_hat, q_hat, _ = moments
    b, tau = m_hat / v_hat, math.sqrt(q_hat) / m_hat
    threshold = 2 * problem.lam * math.sqrt(problem.kappa) / v_hat
    return integrals(problem.kappa0, tau, threshold / b), b, tau, threshold
