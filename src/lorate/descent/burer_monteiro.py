r"""The symmetric case: minimise $f(VV^T)$ over V (Burer and Monteiro's factorisation), with the same rules.

Let f be L-smooth on symmetric matrices and $S = \nabla f(VV^T)$, so $\nabla_V = 2SV$. With
$a = 4L\|V\|_2^2 + 2\|S\|_2$ every step $\eta \le 1/a$ along the negative gradient satisfies

$$ f(V^+V^{+T}) \le f(VV^T) - \eta\,(1 - \tfrac12\eta a)\,\|\nabla_V\|^2 . $$

The paper's step size, with its stacked factor V, keeps its guarantee too. Source: docs/mathematics/sharp.md, Theorem 2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lorate.descent.checks import FloatArray, finite, positive_smoothness
from lorate.descent.majorizer import majorizer_step_size
from lorate.descent.paper import theory_step_size
from lorate.errors import LorateError

SymmetricRule = Literal["theory", "sharp", "majorizer"]


@dataclass(frozen=True)
class SymmetricRun:
    """A descent on f(VVᵀ): T steps, T + 1 points.

    Attributes:
        factor: the last V, shape ``[n, r]``.
        values: f at every point, shape ``[T + 1]``.
        step_sizes: shape ``[T]``; 0 from the first stationary point on.
        grad_norms: Frobenius norm of the gradient at the start of every step, shape ``[T]``.
    """

    factor: FloatArray
    values: FloatArray
    step_sizes: FloatArray
    grad_norms: FloatArray


def symmetric_step_size(factor: FloatArray, gradient: FloatArray, smoothness: float, rule: SymmetricRule) -> float:
    r"""Step size of one rule for the direction $-2SV$.

    Args:
        factor: V, shape ``[n, r]``.
        gradient: S, the symmetric gradient of f at VVᵀ, shape ``[n, n]``.
        smoothness: L > 0, of f on symmetric matrices in the Frobenius norm.
        rule: ``"theory"`` (the paper's, decrease at least a quarter), ``"sharp"`` (1/a, at least half) or
            ``"majorizer"`` (the best step of the quartic bound, never less than the other two).

    Returns:
        The step size; 0 at a stationary point.

    Raises:
        LorateError: L is not positive, or the rule is unknown.
    """
    constant = float(positive_smoothness(smoothness))
    direction = -2 * gradient @ factor
    if not np.any(direction):
        return 0.0
    match rule:
        case "theory":
            return float(theory_step_size(np.sum(factor**2), np.linalg.norm(gradient), constant))
        case "sharp":
            curvature = 4 * constant * np.linalg.norm(factor, 2) ** 2 + 2 * np.linalg.norm(gradient, 2)
            return float(1 / curvature)
        case "majorizer":
            return float(majorizer_step_size(*symmetric_gram(factor, gradient, direction), constant))
    raise LorateError(f'Unknown rule {rule!r}: choose "theory", "sharp" or "majorizer".')


def symmetric_gram(
    factor: FloatArray, gradient: FloatArray, direction: FloatArray
) -> tuple[float, float, float, float, float]:
    r"""Slope, $\langle S, Q\rangle$, $\|P\|^2$, $\langle P, Q\rangle$ and $\|Q\|^2$ of a direction D of V.

    $V + \eta D$ moves $VV^T$ by $\eta P + \eta^2 Q$ with $P = DV^T + VD^T$ and $Q = DD^T$, so these are the arguments
    of `lorate.descent.majorizer_coefficients`, in its order. Only r×r Gram matrices are formed.
    """
    inner, cross, outer = factor.T @ factor, direction.T @ factor, direction.T @ direction
    moved = gradient @ direction
    slope = 2 * float(np.sum(moved * factor))
    second = float(np.sum(moved * direction))
    pp = 2 * float(np.sum(inner * outer) + np.sum(cross * cross.T))
    return slope, second, max(pp, 0.0), 2 * float(np.sum(outer * cross)), float(np.sum(outer**2))


def minimise_symmetric(
    value: Callable[[FloatArray], float],
    gradient: Callable[[FloatArray], FloatArray],
    factor: FloatArray,
    smoothness: float,
    steps: int,
    rule: SymmetricRule = "majorizer",
) -> SymmetricRun:
    r"""Gradient descent on $f(VV^T)$ with a step size from theory; f never rises.

    Args:
        value: f of a symmetric matrix, shape ``[n, n]``.
        gradient: its gradient; made symmetric here.
        factor: the first V, shape ``[n, r]``. V = 0 is stationary for every f.
        smoothness: L > 0.
        steps: T.
        rule: as in `symmetric_step_size`.

    Raises:
        LorateError: V is not a finite matrix, L is not positive, or the rule is unknown.

    >>> target = np.diag([2.0, 0.0])
    >>> run = minimise_symmetric(lambda M: 0.5 * float(np.sum((M - target) ** 2)), lambda M: M - target,
    ...                          np.array([[1.0], [1.0]]), smoothness=1.0, steps=100)
    >>> (run.factor @ run.factor.T).round(6)
    array([[2., 0.],
           [0., 0.]])
    """
    current = finite("factor", factor)
    if current.ndim != 2:
        raise LorateError(f"factor must be a matrix [n, r], but its shape is {current.shape}.")
    values, sizes, norms = [value(current @ current.T)], [], []
    for _ in range(steps):
        slope = gradient(current @ current.T)
        slope = (slope + slope.T) / 2
        size = symmetric_step_size(current, slope, smoothness, rule)
        direction = -2 * slope @ current
        current = current + size * direction
        values.append(value(current @ current.T))
        sizes.append(size)
        norms.append(float(np.linalg.norm(direction)))
    return SymmetricRun(current, np.array(values), np.array(sizes), np.array(norms))
