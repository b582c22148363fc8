r"""Two smooth functions of a symmetric matrix, to be minimised over $M = VV^T$."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lorate.descent.checks import FloatArray


@dataclass(frozen=True)
class Problem:
    """A function f of symmetric matrices."""

    value: Callable[[FloatArray], float]  # f of a matrix, shape ``[n, n]``
    gradient: Callable[[FloatArray], FloatArray]  # its gradient, symmetric
    smoothness: float  # L of f in the Frobenius norm
    size: int  # n
    solution: FloatArray | None = None  # the matrix that f is smallest at, where it is known


def matrix_sensing(size: int, rank: int, measurements: int, seed: int) -> Problem:
    r"""Find a matrix of low rank from linear measurements: $f(M) = \frac1{2N}\sum_i(\langle A_i, M\rangle - y_i)^2$.

    The $A_i$ are Gaussian and symmetric, $y_i = \langle A_i, M^*\rangle$ without noise, so f is 0 at $M^*$; L is the
    largest eigenvalue of $\frac1N\sum_i A_i \otimes A_i$ on symmetric matrices.

    Args:
        size: n.
        rank: of $M^*$, which is scaled to Frobenius norm 1.
        measurements: N; a few times n times the rank for the matrix to be found.
        seed: of matrix and measurements.
    """
    draw = np.random.default_rng(seed)
    factor = draw.normal(size=(size, rank))
    solution = factor @ factor.T
    solution /= np.linalg.norm(solution)
    A = draw.normal(size=(measurements, size, size))
    rows = ((A + A.transpose(0, 2, 1)) / 2).reshape(measurements, -1)
    y = rows @ solution.ravel()
    smoothness = float(np.linalg.norm(rows, 2) ** 2 / measurements)

    def value(M: FloatArray) -> float:
        return float(np.sum((rows @ M.ravel() - y) ** 2)) / (2 * measurements)

    def gradient(M: FloatArray) -> FloatArray:
        return ((rows @ M.ravel() - y) @ rows / measurements).reshape(size, size)

    return Problem(value, gradient, smoothness, size, solution)


def smooth_max_cut(size: int, degree: float, penalty: float, seed: int) -> Problem:
    r"""A smooth form of the max-cut relaxation, with $\rho$ for the constraint $\mathrm{diag}\,M = 1$.

    $$ f(M) = \tfrac1n\langle C, M\rangle + \tfrac\rho{2n}\|\mathrm{diag}\,M - 1\|^2 $$

    C is the adjacency matrix of a random graph. f is bounded below on positive semi-definite matrices, $L = \rho/n$,
    and its minimum is not known in closed form.

    Args:
        size: n nodes.
        degree: mean degree of a node.
        penalty: $\rho$.
        seed: of the graph.
    """
    draw = np.random.default_rng(seed)
    upper = np.triu(draw.random((size, size)) < degree / (size - 1), 1)
    C = (upper + upper.T).astype(float)

    def value(M: FloatArray) -> float:
        return float(np.sum(C * M) + penalty / 2 * np.sum((np.diag(M) - 1) ** 2)) / size

    def gradient(M: FloatArray) -> FloatArray:
        return np.asarray(C + penalty * np.diag(np.diag(M) - 1)) / size

    return Problem(value, gradient, penalty / size, size)


PROBLEMS: dict[str, Callable[..., Problem]] = {"sensing": matrix_sensing, "max-cut": smooth_max_cut}
