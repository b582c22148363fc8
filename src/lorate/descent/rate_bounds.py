r"""How small the gradient must have become after T steps: the rate theorems as numbers.

Every rule here lowers the loss by at least $\kappa\,\eta_t\|\nabla J_t\|^2$ (its *fraction* $\kappa$: 1/4 for the
paper's rule, 1/2 for the sharp one). With $\Delta = J(V_0) - \mathrm{Loss}^*$ and $S_T = \sum_{t<T}\eta_t$ this gives
$\min_t\|\nabla J_t\|^2 \le \Delta/(\kappa S_T)$, so a rate is a lower bound of $S_T$. The functions that take
``sum_eta`` are a-posteriori bounds (of a run that happened); those that take ``steps`` are a-priori ones. With scalings
other than 1 use the scaled factors throughout ($\|\tilde V\|$, $\|\tilde g\|$ and $\tilde\eta = s_l\eta_l$).
Where Loss* is unknown and the loss is never negative, take $\Delta = J(V_0)$: the bounds only grow.

Source: docs/mathematics/rates.md.
"""

import math
from dataclasses import dataclass

import numpy as np

from lorate.descent.checks import FloatArray, Floats, non_negative, positive_smoothness
from lorate.descent.paper import THEORY_FRACTION
from lorate.descent.sharp import SHARP_FRACTION


@dataclass(frozen=True)
class StepGuarantee:
    r"""What a rule proves about its steps: $1/\eta_t \le \alpha + \beta S_t$, and the fraction $\kappa$.

    Attributes:
        alpha: bound of 1/eta at the start.
        beta: how fast it may grow with the sum of the step sizes.
        fraction: $\kappa$.
        gap: $\Delta$.
    """

    alpha: float
    beta: float
    fraction: float
    gap: float


def sharp_guarantee(
    gap: float, stacked_norm: float, smoothness: float, *, other_parameters: bool = False
) -> StepGuarantee:
    r"""Guarantee of the sharp rule with one global step size.

    $$ \alpha = 2L\|V_0\|^2 + \sqrt{2L\Delta}\ (+ L), \qquad \beta = 4L\Delta $$

    Args:
        gap: $\Delta$.
        stacked_norm: $\|V_0\|$ (of the scaled factors).
        smoothness: L > 0.
        other_parameters: parameters outside the factors move too, with steps of at most 1/L: adds L to alpha.

    Raises:
        LorateError: L is not positive, or another value is negative or not finite.

    Source: docs/mathematics/rates.md, Theorem 1.
    """
    loss_gap, norm, constant = _scalars(gap, stacked_norm, smoothness)
    alpha = 2 * constant * norm**2 + math.sqrt(2 * constant * loss_gap) + constant * other_parameters
    return StepGuarantee(alpha, 4 * constant * loss_gap, SHARP_FRACTION, loss_gap)


def theory_guarantee(
    gap: float, stacked_norm: float, smoothness: float, *, other_parameters: bool = False
) -> StepGuarantee:
    r"""Guarantee of the paper's own step size, with $\bar L = \max(L, 1)$.

    $$ \alpha = 1 + 4\sqrt2\,\bar L\,(2\|V_0\|^2 + \sqrt{2L\Delta})\ (+ L/1.5), \qquad
       \beta = 32\sqrt2\,\bar L\Delta $$

    Arguments and errors as in `sharp_guarantee`. Source: docs/mathematics/rates.md, Theorem 2.
    """
    loss_gap, norm, constant = _scalars(gap, stacked_norm, smoothness)
    factor = 4 * math.sqrt(2) * max(constant, 1.0)
    alpha = 1 + factor * (2 * norm**2 + math.sqrt(2 * constant * loss_gap)) + constant / 1.5 * other_parameters
    return StepGuarantee(alpha, 8 * factor * loss_gap, THEORY_FRACTION, loss_gap)


def gradient_bound(gap: Floats, sum_eta: Floats, fraction: Floats) -> FloatArray:
    r"""A-posteriori bound of $\min_t\|\nabla J_t\|^2$, namely $\Delta/(\kappa S)$; infinite before the first step.

    With the decrease J(V_0) - J(V_T) that really happened instead of the gap the bound is sharper and needs no
    Loss*.

    Args:
        gap: $\Delta$; all arguments broadcast.
        sum_eta: S, the sum of the step sizes that were taken.
        fraction: $\kappa$.

    Raises:
        LorateError: a value is negative or not finite.

    >>> float(gradient_bound(1.0, 8.0, 0.25))
    0.5
    """
    total = non_negative("sum_eta", sum_eta) * non_negative("fraction", fraction)
    loss_gap = non_negative("gap", gap)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, loss_gap / total, np.inf)


def stacked_norm_bound(gap: Floats, stacked_norm: Floats, sum_eta: Floats, fraction: Floats) -> FloatArray:
    r"""A-posteriori bound of $\|V_T\|$: $\|V_0\| + \sqrt{\Delta S/\kappa}$; infinite for $\kappa = 0$ after a step.

    Args:
        gap: $\Delta$; all arguments broadcast.
        stacked_norm: $\|V_0\|$.
        sum_eta: S, the sum of the step sizes that were taken.
        fraction: $\kappa$.

    Raises:
        LorateError: a value is negative or not finite.

    >>> float(stacked_norm_bound(1.0, 3.0, 8.0, 0.5))
    7.0
    """
    moved = non_negative("gap", gap) * non_negative("sum_eta", sum_eta)
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = np.where(moved > 0, moved / non_negative("fraction", fraction), 0.0)
    return np.asarray(non_negative("stacked_norm", stacked_norm) + np.sqrt(growth), dtype=np.float64)


def sum_eta_bound(guarantee: StepGuarantee, steps: Floats) -> FloatArray:
    r"""A-priori lower bound of $S_T$: $(\sqrt{\alpha^2 + 2\beta T} - \alpha)/\beta$, of the order of $\sqrt T$.

    Infinite where alpha and beta are both zero (nothing limits the step).

    Args:
        guarantee: from `sharp_guarantee` or `theory_guarantee`.
        steps: T.

    Raises:
        LorateError: a number of steps is negative or not finite.

    Source: docs/mathematics/rates.md, the lemma.

    >>> float(sum_eta_bound(StepGuarantee(1.0, 4.0, 0.5, 1.0), 3.0))
    1.0
    """
    number = non_negative("steps", steps)
    root = np.sqrt(guarantee.alpha**2 + 2 * guarantee.beta * number)
    with np.errstate(divide="ignore", invalid="ignore"):
        # the rationalised form keeps its digits for beta near zero
        return np.where(number > 0, 2 * number / (guarantee.alpha + root), 0.0)


def rate_bound(guarantee: StepGuarantee, steps: Floats) -> FloatArray:
    r"""A-priori bound of $\min_{t<T}\|\nabla J_t\|^2$, of the order of $1/\sqrt T$; no boundedness assumed.

    Infinite for T = 0. Arguments and errors as in `sum_eta_bound`.

    Source: docs/mathematics/rates.md, Theorems 1 and 2.

    >>> rate_bound(sharp_guarantee(1.0, 0.0, 2.0), [0, 8, 800]).round(4)
    array([   inf, 1.6861, 0.1439])
    """
    total = sum_eta_bound(guarantee, steps)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, guarantee.gap / (guarantee.fraction * total), np.inf)


def paper_log_bound(gap: float, stacked_norm: float, smoothness: float, steps: Floats) -> FloatArray:
    r"""The paper's general rate for its rule: $\min_{t<T}\|\nabla J_t\|^2 \le 4\Delta\beta/\ln(1 + \beta T/\alpha)$.

    It counts steps where `rate_bound` of `theory_guarantee` counts the sum of the step sizes, with the same alpha and
    beta: there the logarithm becomes a square root.

    Args:
        gap: $\Delta$.
        stacked_norm: $\|V_0\|$.
        smoothness: L > 0.
        steps: T.

    Raises:
        LorateError: as `theory_guarantee`, or a number of steps is negative.

    Source: the paper, Theorem 3.5, general case; constants in docs/mathematics/rates.md, Theorem 3.
    """
    guarantee = theory_guarantee(gap, stacked_norm, smoothness)
    number = non_negative("steps", steps)
    ratio = guarantee.beta / guarantee.alpha
    # ln(1 + ratio T) / beta, with its limit T / alpha for beta = 0
    total = np.log1p(ratio * number) / guarantee.beta if guarantee.beta > 0 else number / guarantee.alpha
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, 4 * guarantee.gap / total, np.inf)


def bounded_rate_bound(gap: float, largest_norm: float, smoothness: float, steps: Floats) -> FloatArray:
    r"""The paper's rate while $\|V_t\| \le C$: $4\Delta\max\{1, 4\sqrt2\bar L(C^2 + \sqrt{2L\Delta})\}/T$.

    Args:
        gap: $\Delta$.
        largest_norm: C, the largest stacked norm seen (or assumed).
        smoothness: L > 0.
        steps: T; infinite for 0.

    Raises:
        LorateError: L is not positive, or another value is negative or not finite.

    Source: the paper, Theorem 3.5, bounded case; docs/mathematics/rates.md, Theorem 3.

    >>> bounded_rate_bound(1.0, 0.0, 0.005, [4, 8])
    array([1. , 0.5])
    """
    loss_gap, norm, constant = _scalars(gap, largest_norm, smoothness)
    denominator = 4 * math.sqrt(2) * max(constant, 1.0) * (norm**2 + math.sqrt(2 * constant * loss_gap))
    number = non_negative("steps", steps)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(number > 0, 4 * loss_gap * max(1.0, denominator) / number, np.inf)


def _scalars(gap: float, norm: float, smoothness: float) -> tuple[float, float, float]:
    return (
        float(non_negative("gap", gap)),
        float(non_negative("the stacked norm", norm)),
        float(positive_smoothness(smoothness)),
    )
