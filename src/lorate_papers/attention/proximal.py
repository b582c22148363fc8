r"""The single-sequence problem of rank-one fine-tuning, solved exactly.

$$ \chi = \arg\min_\chi T^{-2} \|\chi\chi^T - B\|_F^2 + |\chi - \omega|^2 / (2v) $$

is not convex, but in the eigenbasis of B its global minimum follows from one number r = |chi|^2, as in a
trust-region step: chi_i = omega_i / k_i with k_i = 1 + c v (r - b_i) and r the root of sum omega_i^2 / k_i^2 = r
to the right of the last pole.
"""

import numpy as np
from numpy.typing import NDArray

from lorate_papers.attention.state_evolution import JUMP, FieldMoments

Array = NDArray[np.float64]


def squared_norm(target: Array, field: Array, strength: Array | float) -> Array:
    """The r of the module's formula for each sequence, by Newton's method kept inside a bracket.

    Args:
        target: eigenvalues b of B, ascending along the first axis, shape ``[T, points]``.
        field: omega in that eigenbasis, shape ``[T, points]``.
        strength: c v, positive.

    Returns:
        r, shape ``[points]``.
    """
    weight = field**2
    low = np.maximum(0.0, target[-1] - 1 / strength)
    high = np.maximum(target[-1], 0.0) + weight.sum(0)  # there every k is at least 1, so the sum is below r
    r = (low + high) / 2
    for _ in range(80):
        inverse = 1 / (1 + strength * (r - target))
        share = weight * inverse * inverse
        total = share.sum(0)
        slope = -2 * strength * (share * inverse).sum(0)
        root_total, root_r = np.sqrt(total), np.sqrt(r)
        with np.errstate(divide="ignore", invalid="ignore"):
            # Newton on 1/sqrt(total) - 1/sqrt(r), which is close to a straight line, instead of on total - r
            step = 2 * (1 / root_total - 1 / root_r) / (1 / (r * root_r) - slope / (total * root_total))
        right = total >= r  # the root lies to the right
        low, high = np.where(right, r, low), np.where(right, high, r)
        following = r - step
        inside = (following >= low) & (following <= high)
        following = np.where(inside, following, (low + high) / 2)
        moved = np.abs(following - r)
        r = following
        if np.all(moved <= 1e-14 * high):
            break
    return np.asarray(r)


def prox(target: Array, field: Array, teacher: Array, v: float, c: float) -> FieldMoments:
    """Solve the problem for every sequence and average.

    Args:
        target: eigenvalues of B, ascending, shape ``[T, points]``.
        field: omega in the eigenbasis of B, shape ``[T, points]``.
        teacher: chi* in the eigenbasis of B, shape ``[T, points]``.
        v: response parameter, positive.
        c: 4 / T^2.
    """
    strength = c * v
    r = squared_norm(target, field, strength)
    k = 1 + strength * (r - target)
    chi = field / k
    y = chi / k
    chi_y = (chi * y).sum(0)
    y_teacher = (y * teacher).sum(0)
    y_y = (y * y).sum(0)
    share = 2 * strength / (1 + 2 * strength * chi_y)  # K^-1 = diag(1/k) - share y y^T
    trace_inverse = (1 / k).sum(0) - share * y_y
    response = (1 / k - 1) ** 2
    replicon = response.sum(0) - 2 * share * (y * y * (1 / k - 1)).sum(0) + share**2 * y_y**2
    residual = r**2 - 2 * (chi * chi * target).sum(0) + (target * target).sum(0)
    return FieldMoments(
        trace_inverse=float(trace_inverse.mean()),
        alignment=c * float((trace_inverse * (teacher * chi).sum(0) + y_teacher - share * chi_y * y_teacher).mean()),
        force=float((((k - 1) * chi) ** 2).sum(0).mean()) / v**2,
        trace_gradient=c / 2 * float((r - target.sum(0)).mean()),
        replicon=float(replicon.mean()),
        jumps=float((k[-1] < JUMP).mean()),
        loss=float(residual.mean()) * c / 4,
    )
