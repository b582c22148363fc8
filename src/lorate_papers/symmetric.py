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

from lorate.descent.checks import FloatArray, Floats, finite, inverse, positive_smoothness
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


def symmetric_step_size(
    factor: FloatArray, gradient: FloatArray, smoothness: Floats, rule: SymmetricRule
) -> FloatArray:
    r"""Step size of one rule for the direction $-2SV$.

    Args:
        factor: V, shape ``[n, r]``, or a batch of them, ``[..., n, r]``.
        gradient: S, the symmetric gradient of f at VVᵀ, shape ``[..., n, n]``.
        smoothness: L > 0, of f on symmetric matrices in the Frobenius norm, shape ``[...]``.
        rule: ``"theory"`` (the paper's, decrease at least a quarter), ``"sharp"`` (1/a, at least half) or
            ``"majorizer"`` (the best step of the quartic bound, never less than the other two).

    Returns:
        The step sizes, shape ``[...]``; 0 at a stationary point.

    Raises:
        LorateError: L is not positive, or the rule is unknown.
    """
    constant = positive_smoothness(smoothness)
    direction = -2 * gradient @ factor
    match rule:
        case "theory":
            size = theory_step_size(_squares(factor), np.sqrt(_squares(gradient)), constant)
        case "sharp":
            size = inverse(4 * constant * _spectral(factor) ** 2 + 2 * _spectral(gradient))
        case "majorizer":
            size = majorizer_step_size(*symmetric_gram(factor, gradient, direction), constant)
        case _:
            raise LorateError(f'Unknown rule {rule!r}: choose "theory", "sharp" or "majorizer".')
    return np.where(np.any(direction, axis=(-2, -1)), size, 0.0)


def symmetric_gram(
    factor: FloatArray, gradient: FloatArray, direction: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    r"""Slope, $\langle S, Q\rangle$, $\|P\|^2$, $\langle P, Q\rangle$ and $\|Q\|^2$ of a direction D of V.

    $V + \eta D$ moves $VV^T$ by $\eta P + \eta^2 Q$ with $P = DV^T + VD^T$ and $Q = DD^T$, so these are the arguments
    of `lorate.descent.majorizer_coefficients`, in its order. Only r×r Gram matrices are formed.

    Args:
        factor: V, shape ``[..., n, r]``.
        gradient: S, shape ``[..., n, n]``.
        direction: D, shape ``[..., n, r]``.

    Returns:
        Five arrays, shape ``[...]``.
    """
    inner = factor.swapaxes(-1, -2) @ factor
    cross, outer = (direction.swapaxes(-1, -2) @ x for x in (factor, direction))
    moved = gradient @ direction
    pp = 2 * (_sum(inner * outer) + _sum(cross * cross.swapaxes(-1, -2)))
    return (
        2 * _sum(moved * factor),
        _sum(moved * direction),
        np.maximum(pp, 0),
        2 * _sum(outer * cross),
        _squares(outer),
    )


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
        LorateError: V is not a finite matrix, a gradient is not finite, L is not positive, or the rule is unknown.

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
        slope = finite("gradient", gradient(current @ current.T))
        slope = (slope + slope.T) / 2
        size = float(symmetric_step_size(current, slope, smoothness, rule))
        direction = -2 * slope @ current
        current = current + size * direction
        values.append(value(current @ current.T))
        sizes.append(size)
        norms.append(float(np.linalg.norm(direction)))
    return SymmetricRun(current, np.array(values), np.array(sizes), np.array(norms))


def _sum(matrices: FloatArray) -> FloatArray:
    return np.asarray(np.sum(matrices, axis=(-2, -1)), dtype=np.float64)


def _squares(matrices: FloatArray) -> FloatArray:
    return _sum(matrices**2)


def _spectral(matrices: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.norm(matrices, 2, axis=(-2, -1)), dtype=np.float64)
