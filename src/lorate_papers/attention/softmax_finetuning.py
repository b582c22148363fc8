"""Rank-one fine-tuning with softmax attention: the equations of `state_evolution`, averages by quasi-random points.

There is no effective noise that sums up pre-training here; it enters through Q and M, and for reused sequences
through V.
"""

import math

import numpy as np
from numpy.typing import NDArray

from lorate_papers.attention.activation import SOFTMAX, Activation
from lorate_papers.attention.arguments import check
from lorate_papers.attention.newton import Problems, Rows, minimise
from lorate_papers.attention.pretraining import PretrainingOrder
from lorate_papers.attention.softmax_pretraining import Draws, SoftmaxPretrainingOrder, fitted_attention
from lorate_papers.attention.state_evolution import (
    JUMP,
    FieldMoments,
    FinetuningOrder,
    StateEvolution,
    solve_from_all_starts,
)

Array = NDArray[np.float64]
Order = PretrainingOrder | SoftmaxPretrainingOrder

TOLERANCE = 1e-6


def solve_softmax_finetuning(
    order: Order,
    alpha: float,
    lam: float,
    *,
    reused: bool = False,
    centred: bool = True,
    q0: float = 1.0,
    points: int = 2**11,
    seed: int = 0,
    activation: Activation = SOFTMAX,
) -> FinetuningOrder:
    """Order parameters (q, m, v) of a rank-one adapter for a general attention function.

    Args:
        order: what pre-training left, with the same attention function.
        alpha: sequences over the dimension, N' / D, positive.
        lam: weight decay ``lambda'`` on w, not negative.
        reused: fine-tune on sequences of pre-training, with the same label noise; otherwise on fresh ones.
        centred: the adapter's own mean |w|^2 / D is subtracted from the attention, as the teacher's is.
        q0: |w0|^2 / D of the teacher, positive.
        points: quasi-random points, a power of two from 4 on; 2**11 gives about one percent.
        seed: of the points.
        activation: the attention function.

    Raises:
        NotConverged: no start point led to a fixed point, as happens where the solution is unstable.
        LorateError: an argument is out of its range.

    Source: docs/attention/index.md, "Softmax attention".
    """
    check("alpha", alpha, above=0)
    check("lam", lam, at_least=0)
    check("q0", q0, above=0)
    problem = order.problem
    evolution = _GeneralEvolution(alpha, lam, problem.tokens, centred, q0)
    draws = Draws(problem, points, seed, fields=problem.tokens)
    omega, teacher = draws.attention(order.Q, order.M)
    if reused:
        omega = fitted_attention(draws, order.Q, order.M, order.V, activation)[3]
    evolution.prepare(draws, omega, teacher, activation)
    return solve_from_all_starts(lambda start: evolution.solve(start, TOLERANCE))


def finetuned_error(
    order: Order,
    tuned: FinetuningOrder,
    *,
    centred: bool = True,
    points: int = 2**13,
    seed: int = 1,
    activation: Activation = SOFTMAX,
) -> float:
    r"""Test error after fine-tuning on noise-free labels of fresh sequences, for a general attention function.

    $$ E\,\|\sigma(\Omega + \chi\chi^T - q I) - \sigma(A^* + \chi_*\chi_*^T - q_0 I)\|_F^2 $$

    over Gaussian attention matrices with covariances Q, M and Q0 and fields with covariances q, m and q0; without the
    two subtracted means if not centred.

    Args:
        order: what pre-training left.
        tuned: what fine-tuning left.
        centred: as in fine-tuning.
        points: quasi-random points, a power of two from 4 on.
        seed: of the points.
        activation: the attention function.

    Raises:
        LorateError: ``points`` is not a power of two, or below 4.
    """
    T = order.problem.tokens
    draws = Draws(order.problem, points, seed, fields=T)
    omega, teacher = draws.attention(order.Q, order.M)
    chi0 = math.sqrt(tuned.q0) * draws.teacher_field
    spread = math.sqrt(max(tuned.q - tuned.m**2 / tuned.q0, 0.0))
    field = tuned.m / tuned.q0 * chi0 + spread * draws.other_field
    shift = np.eye(T) if centred else np.zeros((T, T))
    student = omega + outer(field) - tuned.q * shift
    return float(activation.loss(student, activation.value(teacher + outer(chi0) - tuned.q0 * shift)).mean())


def outer(chi: Array) -> Array:
    """Outer product chi chi^T, shape ``[points, T, T]``."""
    return np.asarray(chi[:, :, None] * chi[:, None, :])


def slope(chi: Array) -> Array:
    """Derivative of (chi chi^T)_ab in chi_c, shape ``[points, T (a), T (b), T (c)]``."""
    unit = np.eye(chi.shape[-1])
    return np.asarray(unit[None, :, None, :] * chi[:, None, :, None] + unit[None, None, :, :] * chi[:, :, None, None])


def contract(left: Array, blocks: Array, right: Array) -> Array:
    """left^T blockdiag(blocks) right for two slopes, shape ``[points, T, T]``."""
    count, T = left.shape[:2]
    return np.asarray(left.reshape(count, T * T, T).swapaxes(1, 2) @ (blocks @ right).reshape(count, T * T, T))


class FieldFit(Problems):
    """min ||sigma(offset + chi chi^T) - target||^2 + |chi - field|^2 / (2 v) over chi in R^T."""

    def __init__(self, offset: Array, target: Array, field: Array, v: float, activation: Activation) -> None:
        self.offset, self.target, self.field, self.v = offset, target, field, v
        self.activation = activation

    def value(self, x: Array, rows: Rows) -> Array:
        """Objective at fields ``x``."""
        away = ((x - self.field[rows]) ** 2).sum(-1) / (2 * self.v)
        return np.asarray(self.activation.loss(self.offset[rows] + outer(x), self.target[rows]) + away)

    def derivatives(self, x: Array, rows: Rows) -> tuple[Array, Array, Array]:
        """Gradient, second derivative, and its Gauss-Newton part."""
        A = self.offset[rows] + outer(x)
        gradient, blocks = self.activation.curvature(A, self.target[rows])
        jacobian, along = self.activation.jacobian(A), slope(x)
        ridge = np.eye(x.shape[-1]) / self.v
        symmetric = gradient + gradient.swapaxes(-1, -2)
        total = (symmetric @ x[..., None])[..., 0] + (x - self.field[rows]) / self.v
        hessian = contract(along, blocks, along) + symmetric + ridge
        return total, hessian, contract(along, 2 * jacobian @ jacobian, along) + ridge


class _GeneralEvolution(StateEvolution):
    """Averages of the small problem at fixed quasi-random points."""

    def prepare(self, draws: Draws, frozen: Array, teacher: Array, activation: Activation) -> None:
        T = self.tokens
        self.activation, self.frozen = activation, frozen
        self.chi0 = math.sqrt(self.q0) * draws.teacher_field
        self.other = draws.other_field
        centre = self.q0 * np.eye(T) if self.centred else 0.0
        noisy = teacher + outer(self.chi0) - centre + draws.noise
        self.target, self.target_jacobian = activation.value(noisy), activation.jacobian(noisy)

    def moments(self, q: float, m: float, v: float) -> FieldMoments:
        field = m / self.q0 * self.chi0 + math.sqrt(max(q - m * m / self.q0, 0.0)) * self.other
        offset = self.frozen - (q * np.eye(self.tokens) if self.centred else 0.0)
        problem = FieldFit(offset, self.target, field, v, self.activation)
        chi = minimise(problem, [field, self.chi0, -self.chi0, 0.3 * field])
        A = offset + outer(chi)
        gradient = self.activation.curvature(A, self.target)[0]
        response = v * problem.derivatives(chi, np.arange(len(chi)))[1]  # K = v H
        inverse = np.linalg.inv(response)
        cross = 2 * self.activation.jacobian(A) @ self.target_jacobian
        pull = contract(slope(chi), cross, slope(self.chi0))
        return FieldMoments(
            trace_inverse=float(np.einsum("nii->n", inverse).mean()),
            alignment=float(np.einsum("nij,nji->n", inverse, pull).mean()),
            force=float(((chi - field) ** 2).sum(-1).mean()) / v**2,
            trace_gradient=float(np.einsum("nii->n", gradient).mean()),
            replicon=float(((inverse - np.eye(self.tokens)) ** 2).sum((-2, -1)).mean()),
            jumps=float((np.linalg.eigvalsh(response)[:, 0] < JUMP).mean()),
            loss=float(self.activation.loss(A, self.target).mean()),
        )
