"""Where learning starts, where it is perfect, and the best that any method could do (linear attention)."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from lorate_papers.attention.arguments import check
from lorate_papers.attention.pretraining import Pretraining
from lorate_papers.attention.spectrum import edges, posterior_variance

SMALL = 1e-4  # noise tau below which the unknown part of the map is proportional to tau^2


def collapse_decay(problem: Pretraining) -> float:
    r"""Weight decay from which pre-training learns nothing, Q = M = V = 0 (``problem.lam`` is not used).

    $$ \lambda_c = x_+(\tau_0) \frac{2 \alpha (T+1)}{T \sqrt\kappa}, \quad
              \tau_0^2 = (\Delta/2 + Q_0) / (\alpha T (T+1)), $$

    with x_+ the upper edge of the spectral law.

    >>> round(collapse_decay(Pretraining(alpha=0.1, lam=1, tokens=3)), 4)
    1.3022
    """
    tau = math.sqrt((problem.noise / 2 + problem.Q0) / problem.measurements)
    T = problem.tokens
    return float(edges(problem.kappa0, tau)[-1]) * 2 * problem.alpha * (T + 1) / (T * math.sqrt(problem.kappa))


def noiseless_recovery(kappa0: float) -> float:
    r"""Value of alpha T (T+1) above which noise-free labels give the map exactly as the weight decay vanishes.

    $$ \min_t k^2 + k t^2 + 2 k (1-k) + (1-k) \int (x-t)_+^2 \, d\mathrm{sc}_{1-k}(x),
              \quad k = \min(\kappa_0, 1) $$

    with sc the semicircle law of variance 1 - k.

    Args:
        kappa0: width of the teacher over the dimension, positive.

    Raises:
        LorateError: kappa0 is out of its range.

    >>> round(noiseless_recovery(0.3), 5)
    0.65431
    """
    check("kappa0", kappa0, above=0)
    k = min(kappa0, 1.0)
    node, weight = np.polynomial.legendre.leggauss(200)

    def measurements(t: float) -> float:
        radius = 2 * math.sqrt(1 - k)
        start = math.asin(min(t / radius, 1.0)) if radius > 0 else math.pi / 2
        half = (math.pi / 2 - start) / 2
        angle = start + half * (node + 1)
        tail = half * np.sum(weight * (radius * np.sin(angle) - t) ** 2 * 2 / np.pi * np.cos(angle) ** 2)
        return float(k * k + k * t * t + 2 * k * (1 - k) + (1 - k) * tail)

    best = minimize_scalar(measurements, bounds=(0.0, 2.0), method="bounded", options={"xatol": 1e-9})
    return min(float(best.fun), measurements(0.0))


@dataclass(frozen=True)
class BayesBound:
    """The best any learner of the map can do.

    Attributes:
        Q: Tr S_hat^2 / D^2 = Tr S_hat S0 / D^2 of the posterior mean.
        tau: standard deviation of the noise on the spectrum.
        effective_noise: Delta/2 + Q0 - Q, what fine-tuning on fresh sequences would see.
    """

    Q: float
    tau: float
    effective_noise: float


def bayes_bound(alpha: float, tokens: int, kappa0: float, noise: float) -> BayesBound:
    r"""Bayes-optimal pre-training: Q = int rho (x - tau^2 h)^2 with alpha T (T+1) tau^2 = Delta/2 + Q0 - Q.

    Args:
        alpha: sequences over the squared dimension, positive.
        tokens: T, at least 2.
        kappa0: width of the teacher over the dimension, positive.
        noise: variance of the label noise, not negative.

    Raises:
        LorateError: an argument is out of its range.

    >>> bound = bayes_bound(alpha=0.1, tokens=3, kappa0=1.0, noise=0.5)
    >>> print(f"{bound.Q:.4f} {bound.effective_noise:.4f}")
    1.7449 0.5051
    """
    problem = Pretraining(alpha, 1.0, tokens, kappa0, 1.0, noise)

    def imbalance(tau: float) -> float:
        return problem.measurements * tau**2 - noise / 2 - posterior_variance(kappa0, tau)

    high = math.sqrt((noise / 2 + problem.Q0) / problem.measurements) * (1 + 1e-9)
    low = max(math.sqrt(noise / 2 / problem.measurements) * (1 - 1e-9), SMALL)
    if imbalance(low) > 0:
        ratio = posterior_variance(kappa0, SMALL) / SMALL**2
        squared = noise / 2 / (problem.measurements - ratio)
        return BayesBound(problem.Q0 - ratio * squared, math.sqrt(squared), problem.measurements * squared)
    tau = float(brentq(imbalance, low, high, xtol=1e-14))
    unknown = posterior_variance(kappa0, tau)
    return BayesBound(problem.Q0 - unknown, tau, noise / 2 + unknown)
