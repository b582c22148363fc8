r"""The best that any learner could do (linear attention): the posterior mean in both stages.

What Bayes-optimal learning knows beside the data is how teachers and noise are drawn. Its pre-training has a closed
form. Its fine-tuning closes on one number q = |<w>|^2 / D, which is at once the overlap with the teacher: a posterior
sample and the teacher are alike (Nishimori).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from lorate_papers.attention.arguments import check
from lorate_papers.attention.convergence import NotConverged, settle
from lorate_papers.attention.finetuning import Finetuning, residual_targets
from lorate_papers.attention.pretraining import Pretraining
from lorate_papers.attention.spectrum import posterior_variance

Array = NDArray[np.float64]

SMALL = 1e-4  # noise tau below which the unknown part of the map is proportional to tau^2
STARTS = (0.95, 0.05)  # q / q0; 0 never moves, since w and -w give the same data
NODES, REACH = 161, 6.5  # of the line integral on one side, for noise from 0.05; and where exp(-z^2) ends it
TOLERANCE = 1e-7


@dataclass(frozen=True)
class BayesBound:
    """Bayes-optimal pre-training.

    Attributes:
        Q: Tr S_hat^2 / D^2 = Tr S_hat S0 / D^2 of the posterior mean.
        tau: standard deviation of the noise on the spectrum.
        effective_noise: Delta/2 + Q0 - Q, what fine-tuning on fresh sequences would see.
    """

    Q: float
    tau: float
    effective_noise: float


def bayes_bound(alpha: float, tokens: int, kappa0: float, noise: float) -> BayesBound:
    r"""Bayes-optimal pre-training: $Q = \int\rho(x - \tau^2h)^2$ with $\alpha T(T+1)\tau^2 = \Delta/2 + Q_0 - Q$.

    Args:
        alpha: pre-training sequences over the squared dimension.
        tokens: T.
        kappa0: width of the teacher over the dimension.
        noise: variance of the label noise.

    Raises:
        LorateError: an argument is out of its range.

    >>> print(f"{bayes_bound(0.1, 3, 1.0, 0.5).effective_noise:.4f}")
    0.5051
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


def bayes_overlap(problem: Finetuning, points: int = 2**12, seed: int = 0) -> float:
    r"""Bayes-optimal fine-tuning: $q_{BO} = \lvert\langle w\rangle\rvert^2/D$ of the posterior mean.

    With $\rho = q_0 - q$, fields $\omega \sim N(0, qI_T)$ that the others explain, $\chi^* \sim N(\omega, \rho I_T)$,
    and the posterior mean of chi given the sequence's target,

    $$ \hat q = \alpha'\,E\,\lvert\langle\chi\rangle - \omega\rvert^2/\rho^2, \qquad
       q = q_0^2\hat q/(1 + q_0\hat q) . $$

    Its cosine with the teacher is $\sqrt{q/q_0}$, and the least error of any estimate of the attention
    $\frac{T+1}{T}(Q_0 - 2M + Q + q_0^2 - q^2)$, see `bayes_error`. No training reaches a larger overlap or a smaller
    error on the same map.

    Args:
        problem: what is known; its weight decay is not used.
        points: quasi-random points of the average, a power of two; 2**12 gives about 1e-4.
        seed: of the points.

    Raises:
        NotConverged: no start led to a fixed point.
        LorateError: ``points`` is no power of two, or the effective noise is 0.

    >>> print(f"{bayes_overlap(Finetuning(3, 0, 0.622), points=2**9):.2f}")
    0.98
    """
    check("effective_noise", problem.effective_noise, above=0)
    values, teacher, other = residual_targets(problem, points, seed)
    q0, noise = problem.q0, problem.effective_noise

    def update(state: Array) -> Array:
        q = min(max(float(state[0]), 1e-9), 1 - 1e-9) * q0
        field = q / q0 * teacher + math.sqrt(q - q * q / q0) * other
        force = (posterior_mean(values, field, q0 - q, noise) - field) / (q0 - q)
        information = problem.alpha * float((force**2).sum(0).mean()) * q0
        return np.array([information / (1 + information)])

    found, failures = [], []
    for start in STARTS:
        try:
            found.append(q0 * float(settle(update, np.array([start]), ("q",), TOLERANCE)[0]))
        except NotConverged as failure:
            failures.append(failure)
    if not found:
        raise failures[0]
    return max(found)


def bayes_error(mismatch: float, q: float, tokens: int, q0: float = 1.0) -> float:
    """Test error of the posterior mean of w w^T on a map of a given mismatch, on noise-free labels.

    Args:
        mismatch: of the frozen map, Q0 - 2 M + Q.
        q: from `bayes_overlap`; 0 for the frozen map alone.
        tokens: T.
        q0: |w0|^2 / D of the teacher.

    >>> bayes_error(0.0, 0.0, 2)
    1.5
    """
    return (tokens + 1) / tokens * (mismatch + q0**2 - q**2)


def posterior_mean(values: Array, field: Array, rho: float, noise: float) -> Array:
    r"""Mean of chi under the prior N(field, rho I) and the likelihood of a target B under GOE noise.

    $$ p(\chi) \propto \exp\Bigl(-\frac{\lvert\chi-\omega\rvert^2}{2\rho}
       - \frac{\lVert B - \chi\chi^T\rVert_F^2}{4\Delta}\Bigr) . $$

    In the eigenbasis of B only $\lvert\chi\rvert^4$ couples the tokens. Written as an integral over a conjugate z of
    $\lvert\chi\rvert^2$ it leaves Gaussian integrals with $k_i = 1/\rho + 2z - b_i/\Delta$,

    $$ \langle\chi_i\rangle = \Bigl\langle\frac{\omega_i}{\rho k_i}\Bigr\rangle_z, \qquad
       \text{weight } e^{\Delta z^2}\prod_j k_j^{-1/2}\exp\frac{\omega_j^2}{2\rho^2k_j} , $$

    along the line through the real saddle, where the sum over nodes converges exponentially.

    Args:
        values: eigenvalues b of B, shape ``[T, points]``.
        field: omega in that eigenbasis, shape ``[T, points]``.
        rho: variance of the prior, positive.
        noise: Delta, positive.
    """
    weight = (field / rho) ** 2
    shift = 1 / rho - values / noise
    z = _saddle(shift, weight, noise)
    k = shift + 2 * z
    curvature = 2 * noise + (2 / k**2 + 4 * weight / k**3).sum(0)
    # from the width of the saddle to where exp(-noise y^2) has fallen to nothing, in steps that grow
    width = 1 / np.sqrt(curvature)
    step = np.arcsinh(REACH / math.sqrt(noise) / width) / (NODES - 1)
    node = np.arange(NODES)[:, None] * step
    y, measure = width * np.sinh(node), np.cosh(node) * np.where(np.arange(NODES) > 0, 1.0, 0.5)[:, None]
    line = k + 2j * y[:, None]
    exponent = noise * (2j * z * y - y**2) + (-0.5 * np.log(line / k) + weight / 2 * (1 / line - 1 / k)).sum(1)
    share = measure * np.exp(exponent)
    inverse = (share[:, None] / line).real.sum(0) / share.real.sum(0)
    return np.asarray(field / rho * inverse)


def _saddle(shift: Array, weight: Array, noise: float) -> Array:
    """Root of 2 Delta z = sum 1/k + weight/k^2 right of the last pole, by bisection: the difference grows with z."""
    low = np.maximum(0.0, -shift.min(0) / 2)
    # every k is at least twice the distance from there
    high = low + np.maximum(math.sqrt(len(shift) / (2 * noise)), np.cbrt(weight.sum(0) / (4 * noise)))
    for _ in range(60):
        z = (low + high) / 2
        k = np.maximum(shift + 2 * z, 1e-300)
        right = 2 * noise * z < (1 / k + weight / k**2).sum(0)
        low, high = np.where(right, z, low), np.where(right, high, z)
    return np.asarray(high)
