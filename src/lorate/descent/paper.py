r"""Lemmas 3.3 and 3.4 of Mu & Klabjan, "On the Convergence Rate of LoRA Gradient Descent" (arXiv 2512.18248).

All quantities are those of scaling s = 1. For other scalings pass the norms of the scaled factors
$\tilde V_l = \sqrt{s_l} V_l$ and $\tilde g_l = g_l / \sqrt{s_l}$; the step of layer l is then
$\eta / s_l$. With several layers the norms are those of all layers stacked and L is the joint smoothness of the
loss in all adapted weights: the lemmas hold unchanged (docs/mathematics/paper.md).
"""

import math

import numpy as np

from lorate.descent.checks import FloatArray, Floats, finite, inverse, non_negative, positive_smoothness

THEORY_FRACTION = 0.25
"""Lemma 3.4: a step of size eta lowers the loss by at least this fraction of eta times the squared gradient norm."""

LITERAL_THRESHOLD = 1 / (6 * math.sqrt(2))
"""Lemma 3.4 as printed is true for every problem exactly from this L on (about 0.118)."""


def paper_descent_bound(
    loss: Floats,
    slope: Floats,
    displacement_norm: Floats,
    stacked_norm: Floats,
    weight_grad_norm: Floats,
    smoothness: Floats,
) -> FloatArray:
    r"""Upper bound of the loss after the displacement D, as the paper states it.

    $$ J(V) + \langle\nabla J, D\rangle + \sqrt2 L\|D\|^2\|V\|^2 + \sqrt2 L\|D\|^3\|V\|
       + \tfrac{\sqrt2}{4} L\|D\|^4 + \|\nabla\mathrm{Loss}\|\,\|D\|^2 $$

    Args:
        loss: J(V) before the displacement; all arguments broadcast.
        slope: inner product of the gradient with D.
        displacement_norm: Frobenius norm of D.
        stacked_norm: Frobenius norm of V.
        weight_grad_norm: Frobenius norm of the gradient of the frozen weights.
        smoothness: L > 0.

    Raises:
        LorateError: L is not positive, or a norm is negative or not finite.

    Source: the paper, Lemma 3.3.

    >>> float(paper_descent_bound(1.0, 0.0, 0.0, 3.0, 2.0, 1.0))
    1.0
    """
    length, norm, gradient, constant = _norms(displacement_norm, stacked_norm, weight_grad_norm, smoothness)
    quartic = length**2 * norm**2 + length**3 * norm + length**4 / 4
    return _total(loss, slope, math.sqrt(2) * constant * quartic + gradient * length**2)


def tight_descent_bound(
    loss: Floats,
    slope: Floats,
    displacement_norm: Floats,
    stacked_norm: Floats,
    weight_grad_norm: Floats,
    smoothness: Floats,
) -> FloatArray:
    r"""Upper bound of the loss after the displacement D with the best constants.

    $$ J(V) + \langle\nabla J, D\rangle + \tfrac L2\|D\|^2\bigl(\|V\| + \tfrac12\|D\|\bigr)^2
       + \tfrac12\|\nabla\mathrm{Loss}\|\,\|D\|^2 $$

    Never above `paper_descent_bound`: the terms in L are smaller by $2\sqrt2$, the last one by 2. Arguments and errors
    as in `paper_descent_bound`.

    Source: docs/mathematics/paper.md, Lemma 1.
    """
    length, norm, gradient, constant = _norms(displacement_norm, stacked_norm, weight_grad_norm, smoothness)
    return _total(loss, slope, constant / 2 * (length * (norm + length / 2)) ** 2 + gradient / 2 * length**2)


def theory_step_size(
    stacked_norm_sq: Floats,
    weight_grad_norm: Floats,
    smoothness: Floats,
    *,
    other_parameters: bool = False,
    literal: bool = False,
) -> FloatArray:
    r"""Step size for which the paper guarantees a decrease of a quarter of eta times the squared gradient norm.

    $$ \eta = \min\Bigl\{\frac{1}{4\sqrt2\,\bar L(\|V\|^2 + \|\nabla\mathrm{Loss}\|)},\ 1\Bigr\},
       \qquad \bar L = \max(L, 1) $$

    The two terms of the denominator have different units, so the printed formula ($\bar L = L$) is wrong for
    small L: next to the origin the decrease is only $(1 - 1/(8\sqrt2 L))\,\eta\|\nabla J\|^2$, which falls
    below a quarter for L < 0.118 and turns into an increase for L < 0.088. With max(L, 1) the guarantee always holds.

    Args:
        stacked_norm_sq: squared Frobenius norm of V (of the scaled factors if s differs from 1); broadcasts.
        weight_grad_norm: Frobenius norm of the gradient of the frozen weights.
        smoothness: L > 0.
        other_parameters: parameters outside the factors move too: caps the step at 1.5 / L, which such plain
            coordinates need for the same guarantee. Their norm does not enter ``stacked_norm_sq``.
        literal: use L itself instead of max(L, 1), as printed; proved for L >= ``LITERAL_THRESHOLD`` only.

    Returns:
        Step sizes, at most 1.

    Raises:
        LorateError: L is not positive, or a norm is negative or not finite.

    Source: the paper, Lemma 3.4; docs/mathematics/paper.md, Theorem 2.

    >>> round(float(theory_step_size(3.0, 1.0, 1.0)), 6)
    0.044194
    """
    constant = positive_smoothness(smoothness)
    total = non_negative("stacked_norm_sq", stacked_norm_sq) + non_negative("weight_grad_norm", weight_grad_norm)
    effective = constant if literal else np.maximum(constant, 1.0)
    step = np.minimum(inverse(4 * math.sqrt(2) * effective * total), 1.0)
    return np.minimum(step, 1.5 / constant) if other_parameters else step


def _norms(length: Floats, norm: Floats, gradient: Floats, constant: Floats) -> tuple[FloatArray, ...]:
    return (
        non_negative("displacement_norm", length),
        non_negative("stacked_norm", norm),
        non_negative("weight_grad_norm", gradient),
        positive_smoothness(constant),
    )


def _total(loss: Floats, slope: Floats, rest: FloatArray) -> FloatArray:
    return np.asarray(finite("loss", loss) + finite("slope", slope) + rest, dtype=np.float64)
