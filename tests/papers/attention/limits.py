"""What the theory is held against: where learning is perfect, another solver."""

import math

import numpy as np
from scipy.optimize import minimize_scalar
from torch import Tensor

from lorate_papers.attention.simulation.data import Instance, normal
from lorate_papers.attention.simulation.lbfgs import minimise
from lorate_papers.attention.simulation.pretrain import Pretrained, _gradient, _width, train_loss
from lorate_papers.attention.spectrum import resolvent


def density(x: np.ndarray | float, kappa0: float, tau: float) -> np.ndarray:
    """Density of the spectral law at ``x``, zero outside the support."""
    return np.asarray(-resolvent(x, kappa0, tau).imag / np.pi)


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
