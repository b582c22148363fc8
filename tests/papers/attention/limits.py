"""What the theory is held against: where learning is perfect, the best that any learner could do, another solver."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from torch import Tensor

from lorate_papers.attention.pretraining import Pretraining
from lorate_papers.attention.simulation.data import Instance, normal
from lorate_papers.attention.simulation.lbfgs import minimise
from lorate_papers.attention.simulation.pretrain import Pretrained, _gradient, _width, train_loss
from lorate_papers.attention.spectrum import _pieces, _quadrature, resolvent

SMALL = 1e-4  # noise tau below which the unknown part of the map is proportional to tau^2


def density(x: np.ndarray | float, kappa0: float, tau: float) -> np.ndarray:
    """Density of the spectral law at ``x``, zero outside the support."""
    return np.asarray(-resolvent(x, kappa0, tau).imag / np.pi)


def posterior_variance(kappa0: float, tau: float) -> float:
    """What is left unknown of s0 by the best guess from s0 + tau * noise, ``tau^2 - tau^4 int rho h^2``."""
    _, mass, h = _quadrature(_pieces(kappa0, tau), kappa0, tau)
    return tau**2 * (1 - tau**2 * float(np.sum(mass * h * h)))


def noiseless_recovery(kappa0: float) -> float:
    r"""Value of alpha T (T+1) above which noise-free labels give the map exactly as the weight decay vanishes.

    $$ \min_t k^2 + k t^2 + 2 k (1-k) + (1-k) \int (x-t)_+^2 \, d\mathrm{sc}_{1-k}(x),
              \quad k = \min(\kappa_0, 1) $$

    with sc the semicircle law of variance 1 - k.
    """
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
    r"""Bayes-optimal pre-training: Q = int rho (x - tau^2 h)^2 with alpha T (T+1) tau^2 = Delta/2 + Q0 - Q."""
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


def pretrain_factor(instance: Instance, max_iterations: int = 2000, tolerance: float = 1e-9) -> Pretrained:
    """L-BFGS on the factor W of width P = kappa D from a small random start."""
    D, width = instance.dimension, _width(instance)
    lam = instance.problem.lam

    def objective(flat: Tensor) -> tuple[Tensor, Tensor]:
        W = flat.reshape(-1, D, width)
        S = W @ W.mT / math.sqrt(width)
        value = train_loss(instance, S) + lam * W.square().sum((-1, -2))
        gradient = 2 * _gradient(instance, S) @ W / math.sqrt(width) + 2 * lam * W
        return value, gradient.reshape(flat.shape)

    start = normal(instance.seeds, "start of the factor", (D * width,)).to(instance.S0)
    found = minimise(objective, 0.3 * start, max_iterations, tolerance)
    W = found.x.reshape(-1, D, width)
    return Pretrained(W @ W.mT / math.sqrt(width), found.value, found.iterations)
