r"""A step size for each factor, and the rule that moves only the better one.

With $p = s^2 L(\eta_B\|A\|_2^2 + \eta_A\|B\|_2^2)$ and $q = s\|G\|_2\sqrt{\eta_A\eta_B}$: if p + q <= 1,

$$ J(V^+) \le J(V) - \bigl(1 - \tfrac12(p + q)\bigr)(\eta_B\|g_B\|^2 + \eta_A\|g_A\|^2). $$

Source: docs/mathematics/one-factor.md.
"""

import numpy as np

from lorate.descent.checks import FloatArray, Floats, inverse, non_negative, positive_smoothness


def factor_load(
    step_size_a: Floats,
    step_size_b: Floats,
    a_norm: Floats,
    b_norm: Floats,
    weight_grad_norm: Floats,
    smoothness: Floats,
    scaling: Floats = 1.0,
) -> FloatArray:
    r"""The load p + q of a pair of step sizes; up to 1 the lemma guarantees a decrease.

    Args:
        step_size_a: step of A, shape ``[layers]`` (all arguments broadcast).
        step_size_b: step of B.
        a_norm: norm of A, spectral or Frobenius.
        b_norm: norm of B.
        weight_grad_norm: norm of G, the gradient of the frozen weight; irrelevant where one step is zero.
        smoothness: L > 0.
        scaling: s.

    Returns:
        p + q of each layer, without unit. The decrease is at least
        $(1 - (p+q)/2)(\eta_B\|g_B\|^2 + \eta_A\|g_A\|^2)$.

    Raises:
        LorateError: L is not positive, or another value is negative or not finite.

    >>> float(factor_load(0.0, 0.25, 2.0, 1.0, 9.0, smoothness=1.0))
    1.0
    """
    constant = positive_smoothness(smoothness)
    eta_a, eta_b = non_negative("step_size_a", step_size_a), non_negative("step_size_b", step_size_b)
    scale = non_negative("scaling", scaling)
    size = eta_b * non_negative("a_norm", a_norm) ** 2 + eta_a * non_negative("b_norm", b_norm) ** 2
    gradient = non_negative("weight_grad_norm", weight_grad_norm)
    return np.asarray(scale**2 * constant * size + scale * gradient * np.sqrt(eta_a * eta_b), dtype=np.float64)


def one_factor_step_size(
    a_norm: Floats,
    b_norm: Floats,
    grad_a_norm: Floats,
    grad_b_norm: Floats,
    smoothness: Floats,
    scaling: Floats = 1.0,
) -> tuple[FloatArray, FloatArray]:
    r"""Step sizes of A and B, one of them zero: the pair with the largest guarantee of all pairs of load 1.

    B moves by $1/(s^2L\|A\|^2)$ if $\|g_B\|/\|A\| \ge \|g_A\|/\|B\|$, else A by
    $1/(s^2L\|B\|^2)$. The loss falls by at least half of that step times the squared gradient norm of the factor
    that moves, never less than what the sharp step guarantees. The gradient of the frozen weight is not needed. This is
    no longer the simultaneous update of LoRA.

    Args:
        a_norm: norm of A, spectral or Frobenius, shape ``[layers]`` (all arguments broadcast).
        b_norm: norm of B.
        grad_a_norm: Frobenius norm of the gradient of A.
        grad_b_norm: Frobenius norm of the gradient of B.
        smoothness: L > 0.
        scaling: s > 0.

    Returns:
        ``(step_size_a, step_size_b)``. A factor whose partner is zero has no gradient and is not moved; where both are
        zero, so are both steps.

    Raises:
        LorateError: L is not positive, or another value is negative or not finite.

    Source: docs/mathematics/one-factor.md, Theorem 2.

    >>> one_factor_step_size([1.0, 1.0], [0.0, 2.0], [0.0, 9.0], [3.0, 3.0], smoothness=2.0)
    (array([0.   , 0.125]), array([0.5, 0. ]))
    """
    constant = positive_smoothness(smoothness)
    scale = non_negative("scaling", scaling)
    a, b = scale * non_negative("a_norm", a_norm), scale * non_negative("b_norm", b_norm)
    gain_b = _gain(non_negative("grad_b_norm", grad_b_norm), a)
    gain_a = _gain(non_negative("grad_a_norm", grad_a_norm), b)
    a, b, gain_a, gain_b, constant = np.broadcast_arrays(a, b, gain_a, gain_b, constant)
    move_b = (a > 0) & (gain_b >= gain_a)
    move_a = (b > 0) & ~move_b
    step_a = np.where(move_a, inverse(constant * b**2), 0.0)
    step_b = np.where(move_b, inverse(constant * a**2), 0.0)
    return step_a, step_b


def _gain(gradient: FloatArray, partner: FloatArray) -> FloatArray:
    """Gradient norm over the norm of the other factor; a zero partner comes last."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(partner > 0, gradient / partner, -1.0)
