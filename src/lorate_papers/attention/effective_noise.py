r"""The noise that fine-tuning sees, in every case (linear attention).

A rank-one adapter trained on a frozen map that is not quite the teacher's fits a signal under noise: label noise
plus the mismatch of the map, both Gaussian in high dimension. Pre-training enters fine-tuning through this one number,
written Delta_eff. What makes it smaller makes the overlap of the adapter with its teacher larger.
"""

from scipy.special import gammainc, gammaincinv

from lorate_papers.attention.arguments import check
from lorate_papers.attention.pretraining import PretrainingOrder


def fresh_sequences(order: PretrainingOrder, beta: float = 1.0) -> float:
    r"""Fine-tuning on sequences that pre-training has not seen.

    $$ \Delta_{eff} = \Delta/2 + Q_0 - 2 \beta M + \beta^2 Q $$

    Args:
        order: what pre-training left.
        beta: recalibration of the frozen map, S_hat to beta S_hat (W to sqrt(beta) W), not negative.

    Raises:
        LorateError: beta is out of its range.

    >>> from lorate_papers.attention.pretraining import Pretraining, solve_pretraining
    >>> round(fresh_sequences(solve_pretraining(Pretraining(0.1, 0.01))), 4)
    0.6223
    """
    check("beta", beta, at_least=0)
    return order.problem.noise / 2 + order.problem.Q0 - 2 * beta * order.M + beta**2 * order.Q


def reused_sequences(order: PretrainingOrder, beta: float = 1.0, fresh_noise: bool = False) -> float:
    r"""Fine-tuning on sequences that pre-training was fitted to, so part of the mismatch is fitted already.

    With a = c V / (1 + c V) the fitted share and n = Q0 + Delta / 2,

    $$ (1 - \beta a)^2 n + \beta^2 (1 - a)^2 Q - 2 \beta (1 - a)(1 - \beta a) M, $$

    which is Delta_eff / (1 + c V)^2 at beta = 1. With fresh label noise the first n is Q0, and
    beta^2 a^2 Delta/2 + Delta/2 is added.

    Args:
        order: what pre-training left.
        beta: recalibration of the frozen map, not negative.
        fresh_noise: the labels carry new noise in the second stage; otherwise the same noise in both.

    Raises:
        LorateError: beta is out of its range.
    """
    check("beta", beta, at_least=0)
    noise, fitted = order.problem.noise / 2, _fitted_share(order)
    signal = order.problem.Q0 if fresh_noise else order.problem.Q0 + noise
    known = (1 - beta * fitted) ** 2 * signal
    learned = beta**2 * (1 - fitted) ** 2 * order.Q - 2 * beta * (1 - fitted) * (1 - beta * fitted) * order.M
    return known + learned + (noise * (1 + beta**2 * fitted**2) if fresh_noise else 0.0)


def active_sequences(order: PretrainingOrder, fraction: float) -> float:
    r"""Fine-tuning on the sequences of a pool whose predicted attention is smallest in Frobenius norm.

    $$ \Delta/2 + Q_0 - M^2/Q + (1 - M/Q)^2 Q F_{K+2}(x)/\rho, \qquad F_K(x) = \rho, K = T(T+1)/2, $$

    with F_k the distribution function of chi^2_k. As rho tends to 0 this is the noise of the best
    recalibration, without touching the map; at rho = 1 it is the noise of fresh sequences.

    Args:
        order: what pre-training left.
        fraction: rho, the share of the pool that is chosen, in (0, 1].

    Raises:
        LorateError: the fraction is out of its range.
    """
    check("fraction", fraction, above=0, at_most=1)
    p = order.problem
    if order.Q == 0:
        return p.noise / 2 + p.Q0
    degrees = p.tokens * (p.tokens + 1) / 2
    spread = gammainc(degrees / 2 + 1, gammaincinv(degrees / 2, fraction)) / fraction
    ratio = order.M / order.Q
    return float(p.noise / 2 + p.Q0 - ratio * order.M + (1 - ratio) ** 2 * order.Q * spread)


def optimal_beta(order: PretrainingOrder, reused: bool = False, fresh_noise: bool = False) -> float:
    r"""Recalibration of the frozen map that minimises the effective noise.

    M / Q for fresh sequences; for reused ones

    $$ \beta = \frac{a n + (1 - a) M}{a^2 n + (1 - a)^2 Q + 2 a (1 - a) M} $$

    with a and n of `reused_sequences`; with fresh label noise n is Q0 and the denominator has a^2 Delta/2 more.

    Args:
        order: what pre-training left; where it learned nothing any beta does, and 1 is returned.
        reused: fine-tune on the pre-training sequences.
        fresh_noise: with ``reused``, the labels carry new noise in the second stage.
    """
    if order.Q == 0:
        return 1.0
    if not reused:
        return order.M / order.Q
    fitted, noise = _fitted_share(order), order.problem.noise / 2
    signal = order.problem.Q0 if fresh_noise else order.problem.Q0 + noise
    learned = 1 - fitted
    slope = fitted * signal + learned * order.M
    curvature = fitted**2 * signal + learned**2 * order.Q + 2 * learned * fitted * order.M
    return slope / (curvature + (fitted**2 * noise if fresh_noise else 0.0))


def _fitted_share(order: PretrainingOrder) -> float:
    response = order.problem.curvature * order.V
    return response / (1 + response)
