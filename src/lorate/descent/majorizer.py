r"""The quartic majorizer: an upper bound of the loss along any direction, as a polynomial of the step size.

A direction (D_A, D_B) moves the weights by $\eta P + \eta^2 Q$ with $P = s(D_B A + B D_A)$ and $Q = s D_B D_A$, so for
an L-smooth loss

$$ J(V + \eta D) \le J(V) + \varphi(\eta), \qquad
   \varphi(\eta) = \eta\langle g, D\rangle + \eta^2\langle G, Q\rangle
     + \tfrac L2\left(\eta^2\|P\|^2 + 2\eta^3\langle P, Q\rangle + \eta^4\|Q\|^2\right). $$

The sum over layers bounds the loss of the whole model, so each layer's quartic may be minimised on its own, or their
sum for one common step size. Parameters that are not LoRA factors add their squared length to $\|P\|^2$.
Source: docs/mathematics/majorizer.md.
"""

import numpy as np

from lorate.descent.checks import FloatArray, Floats, finite, non_negative, positive_smoothness
from lorate.descent.quartic import evaluate_quartic, minimise_quartic


def length_from_above(squared_length: Floats, term_length: Floats, precision: float) -> FloatArray:
    r"""$\|P\|^2$ or $\|Q\|^2$, raised by what rounding may have hidden of it.

    The three products come from cancelling sums, so computed ones can contradict each other: $\|Q\|^2 = 0$ beside
    $\langle P, Q\rangle \ne 0$ makes a $\varphi$ that falls without bound. Raised like this the computed
    $\|\eta P + \eta^2 Q\|^2$ is at least the true one at every $\eta$.

    Args:
        squared_length: as computed; rounding may have left it below zero.
        term_length: sum of the lengths of the terms, $s(\|D_B\|\|A\| + \|B\|\|D_A\|)$ of P, $s\|D_B\|\|D_A\|$ of Q.
        precision: $\varepsilon$: the products of terms of length p and q are off by at most $\varepsilon pq$.

    Source: docs/mathematics/majorizer.md, "Rounding".

    >>> float(length_from_above(-1e-9, 2.0, precision=1e-6))
    8e-06
    """
    return (
        np.maximum(finite("squared_length", squared_length), 0.0)
        + 2 * precision * finite("term_length", term_length) ** 2
    )


def majorizer_coefficients(
    slope: Floats, gradient_q: Floats, pp: Floats, pq: Floats, qq: Floats, smoothness: Floats
) -> FloatArray:
    r"""Coefficients of $\varphi(\eta) = c_1\eta + c_2\eta^2 + c_3\eta^3 + c_4\eta^4$.

    Args:
        slope: $\langle g, D\rangle$, negative along a descent direction, shape ``[layers]`` (all broadcast).
        gradient_q: $\langle G, Q\rangle$; 0 where it is left to L, which then has to be measured from trials.
        pp: $\|P\|^2$.
        pq: $\langle P, Q\rangle$.
        qq: $\|Q\|^2$.
        smoothness: L > 0.

    Returns:
        ``[c1, c2, c3, c4]``, shape ``[4, layers]``. Summed over the last axis they are those of one common step size.

    Raises:
        LorateError: L is not positive, a squared norm is negative, or a value is not finite.

    >>> majorizer_coefficients(-1.0, 0.5, 2.0, 0.0, 1.0, smoothness=2.0)
    array([-1. ,  2.5,  0. ,  1. ])
    """
    constant = positive_smoothness(smoothness)
    rows = (
        finite("slope", slope),
        finite("gradient_q", gradient_q) + constant / 2 * non_negative("pp", pp),
        constant * finite("pq", pq),
        constant / 2 * non_negative("qq", qq),
    )
    return np.stack(np.broadcast_arrays(*rows))


def majorizer_step_size(
    slope: Floats,
    gradient_q: Floats,
    pp: Floats,
    pq: Floats,
    qq: Floats,
    smoothness: Floats,
    *,
    precision: float = 1e-14,
) -> FloatArray:
    r"""Step size that makes $\varphi$ smallest, one per layer; arguments as in `majorizer_coefficients`.

    For one common step size pass the sums over the layers. ``precision`` is that of the numbers passed: about 1e-6 if
    they were computed in float32 (see `lorate.descent.minimise_quartic`).

    Returns:
        Step sizes; 0 where there is no step to take: the slope is not negative, or the direction does not move the
        weights (P = Q = 0). Infinite only where numbers contradict each other (a slope, but next to no displacement):
        do not take such a step.

    Raises:
        LorateError: as `majorizer_coefficients`.

    >>> float(majorizer_step_size(-1.0, 0.0, 1.0, 0.0, 0.0, smoothness=4.0))
    0.25
    """
    step = minimise_quartic(majorizer_coefficients(slope, gradient_q, pp, pq, qq, smoothness), precision=precision)
    still = (np.asarray(pp) == 0) & (np.asarray(qq) == 0)
    return np.where(still, 0.0, step)


def majorizer_change(
    step_size: Floats, slope: Floats, gradient_q: Floats, pp: Floats, pq: Floats, qq: Floats, smoothness: Floats
) -> FloatArray:
    r"""$\varphi(\eta)$, the proved upper bound of the change of the loss, one value per layer; add them up.

    Arguments and errors as in `majorizer_coefficients`; ``step_size`` is $\eta$.

    >>> float(majorizer_change(0.25, -1.0, 0.0, 1.0, 0.0, 0.0, smoothness=4.0))
    -0.125
    """
    return evaluate_quartic(majorizer_coefficients(slope, gradient_q, pp, pq, qq, smoothness), step_size)


def required_smoothness(
    change: Floats,
    step_size: Floats,
    slope: Floats,
    gradient_q: Floats,
    pp: Floats,
    pq: Floats,
    qq: Floats,
    rounding: Floats = 0.0,
) -> FloatArray:
    r"""Smallest L for which the majorizer holds at a step that was tried.

    $$ L = \frac{2\,(\Delta J - \eta\langle g, D\rangle - \eta^2\langle G, Q\rangle)}
                {\eta^2\|P\|^2 + 2\eta^3\langle P, Q\rangle + \eta^4\|Q\|^2} $$

    Args:
        change: loss after the trial minus loss before; not finite if the trial overflowed.
        step_size: the step tried.
        slope: as in `majorizer_coefficients`, summed over the layers, like the next four.
        gradient_q: the same.
        pp: the same.
        pq: the same.
        qq: the same.
        rounding: how far ``change`` may be off by rounding; an excess up to this counts as none.

    Returns:
        L; 0 where the loss fell at least as much as the linear and G terms promise, infinite where no L suffices
        (the loss is not finite, or it rose although the weights did not move).

    Raises:
        LorateError: a squared norm or ``rounding`` is negative, or a value other than ``change`` is not finite.

    >>> float(required_smoothness(1.0, 1.0, slope=-1.0, gradient_q=0.0, pp=4.0, pq=0.0, qq=0.0))
    1.0
    """
    step = finite("step_size", step_size)
    after = np.asarray(change, dtype=np.float64)
    linear = step * finite("slope", slope) + step**2 * finite("gradient_q", gradient_q)
    moved = step**2 * (non_negative("pp", pp) + 2 * step * finite("pq", pq) + step**2 * non_negative("qq", qq))
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = after - linear - non_negative("rounding", rounding)
        needed = np.where(excess > 0, 2 * excess / np.maximum(moved, 0.0), 0.0)
    return np.where(np.isfinite(after), needed, np.inf)
