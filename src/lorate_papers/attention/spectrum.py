r"""Spectral law of a Wishart matrix seen through Gaussian noise.

The frozen map of the teacher, ``S0 / sqrt(D)``, has the Marchenko-Pastur law of ratio ``kappa0`` and mean
``sqrt(kappa0)``. What pre-training sees of it is the free convolution with a semicircle of standard
deviation ``tau``. Everything about that law follows from one cubic equation for its resolvent.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import roots_legendre

Array = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

NODES = 200  # Gauss-Legendre nodes a piece of the support


def resolvent(x: Array | float, kappa0: float, tau: float) -> ComplexArray:
    r"""Resolvent $G(x) = \lim \mathrm{Tr}(x - i0 - \cdot)^{-1} / D$ on the real axis.

    It solves, with $a = 1/\sqrt{\kappa_0}$,

    $$ -a \tau^2 G^3 + (\tau^2 + a x) G^2 + (\sqrt{\kappa_0} - a - x) G + 1 = 0, $$

    where the root with the most negative imaginary part is the right one. Outside the support all roots are
    real and the value returned has a zero imaginary part; which of the real roots it is, is not specified.

    Args:
        x: points, any shape.
        kappa0: width of the teacher over the dimension, positive.
        tau: standard deviation of the semicircle, positive.

    Returns:
        Complex array of the shape of ``x``; the density is ``-imag / pi``, the Hilbert part ``2 * real``.

    Source: docs/attention/index.md, "The spectral law".
    """
    x = np.asarray(x, dtype=float)
    a, root_kappa = kappa0**-0.5, kappa0**0.5
    # Monic form G^3 + b G^2 + c G + d, then Cardano: one real root, and the pair by deflation.
    b = -(tau**2 + a * x) / (a * tau**2)
    c = -(root_kappa - a - x) / (a * tau**2)
    d = np.full_like(x, -1 / (a * tau**2))
    p = (b * b / 3 - c) / 3
    q = b * (b * b / 27 - c / 6) + d / 2
    inside = np.sqrt(np.maximum(q * q - p**3, 0.0))
    larger = np.cbrt(np.abs(q) + inside)  # the sum without cancellation
    real_root = -np.sign(q) * (larger + p / np.where(larger == 0, 1, larger)) - b / 3
    for _ in range(2):  # Cardano loses digits where tau is small; Newton's method gives them back
        slope = (3 * real_root + 2 * b) * real_root + c
        value = ((real_root + b) * real_root + c) * real_root + d
        real_root = real_root - value / np.where(slope == 0, np.inf, slope)
    half_sum = -(b + real_root) / 2
    product = np.where(np.abs(real_root) > 1e-8, -d / real_root, c + real_root * (b + real_root))
    return np.asarray(half_sum - 1j * np.sqrt(np.maximum(product - half_sum**2, 0.0)))


def _edge_candidates(kappa0: float, tau: float) -> ComplexArray:
    """Images z(G) of the four stationary points of the inverse of the resolvent, complex ones included."""
    a = kappa0**-0.5
    g = np.roots([a * a * tau**2, -2 * a * tau**2, tau**2 - a * a + 1, 2 * a, -1]).astype(complex)
    return np.asarray(1 / g + tau**2 * g + kappa0**0.5 / (1 - a * g))


def edges(kappa0: float, tau: float) -> Array:
    """Ends of the support, ascending, to be read in pairs: two for one bulk, four for two bulks.

    >>> edges(1.0, 0.5).round(6).tolist()
    [-0.640314, 4.124024]
    >>> edges(0.3, 0.2).round(6).tolist()
    [-0.342629, 0.322894, 0.422868, 4.387614]
    """
    z = _edge_candidates(kappa0, tau)
    return np.sort(z.real[np.abs(z.imag) <= 1e-10 * np.abs(z).max()])


@dataclass(frozen=True)
class SpectralIntegrals:
    """Integrals over the part of the law above a threshold ``Lambda``, with ``f(x) = (x - Lambda)_+``."""

    M: float  # int rho f (x - tau^2 h): overlap of the thresholded matrix with the noiseless one
    Q: float  # int rho f^2: second moment of the thresholded eigenvalues
    V: float  # int rho f h: divergence of the eigenvalue map
    trace: float  # int rho f: mean of the thresholded eigenvalues
    active: float  # int rho: fraction of the eigenvalues above the threshold


def integrals(kappa0: float, tau: float, threshold: float) -> SpectralIntegrals:
    """The integrals that pre-training needs, by Gauss-Legendre quadrature in the angle of each bulk.

    Args:
        kappa0: width of the teacher over the dimension, positive.
        tau: standard deviation of the semicircle, positive.
        threshold: ``Lambda``, finite.

    Returns:
        The five integrals; all zero where the threshold lies above the support.

    >>> whole = integrals(1.0, 0.5, -10.0)  # f(x) = x + 10 everywhere on the support
    >>> round(whole.active, 12), round(whole.trace - 10, 12)  # unit mass, mean sqrt(kappa0)
    (1.0, 1.0)
    """
    x, mass, h = _quadrature(_cut(_pieces(kappa0, tau), threshold, np.inf), kappa0, tau)
    f = x - threshold
    return SpectralIntegrals(
        M=float(np.sum(mass * f * (x - tau**2 * h))),
        Q=float(np.sum(mass * f * f)),
        V=float(np.sum(mass * f * h)),
        trace=float(np.sum(mass * f)),
        active=float(np.sum(mass)),
    )


def mismatch(kappa0: float, tau: float, threshold: float) -> float:
    """Mean squared error of the thresholded matrix, ``1 + kappa0 - 2 M + Q``, without its cancellation.

    The best guess is x - tau^2 h; the error is the distance of f from it plus the posterior variance.
    """
    ends = _pieces(kappa0, tau)
    parts = np.concatenate([_cut(ends, -np.inf, threshold), _cut(ends, threshold, np.inf)])
    x, mass, h = _quadrature(parts, kappa0, tau)
    distance = np.maximum(x - threshold, 0) - (x - tau**2 * h)
    return float(np.sum(mass * distance**2)) + tau**2 * (1 - tau**2 * float(np.sum(mass * h * h)))


def _cut(pieces: Array, low: float, high: float) -> Array:
    """The pieces within [low, high], empty ones left out."""
    pairs = np.clip(pieces, low, high).reshape(-1, 2)
    return pairs[pairs[:, 1] > pairs[:, 0]].ravel()


def _quadrature(pieces: Array, kappa0: float, tau: float) -> tuple[Array, Array, Array]:
    """Nodes in the pieces, their mass under the law, and h there."""
    angle, weight = _angles(NODES)
    left, right = pieces[0::2, None], pieces[1::2, None]
    half = (right - left) / 2
    x = (right + left) / 2 + half * np.sin(angle)
    g = resolvent(x, kappa0, tau)
    mass = weight * half * np.cos(angle) * -g.imag / np.pi
    return x, mass, 2 * g.real


@lru_cache(maxsize=64)
def _pieces(kappa0: float, tau: float) -> Array:
    """Intervals that cover the support; a single bulk is split where a gap is nearest to opening."""
    ends = edges(kappa0, tau)
    if len(ends) > 2:
        return ends
    candidates = _edge_candidates(kappa0, tau)
    cut = float(candidates[np.abs(candidates.imag).argmax()].real)
    return np.array([ends[0], cut, cut, ends[1]]) if ends[0] < cut < ends[1] else ends


@lru_cache(maxsize=4)
def _angles(nodes: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights on [-pi/2, pi/2]."""
    node, weight = roots_legendre(nodes)
    return node * np.pi / 2, weight * np.pi / 2


def posterior_variance(kappa0: float, tau: float) -> float:
    """What is left unknown of s0 by the best guess from s0 + tau * noise, ``tau^2 - tau^4 int rho h^2``."""
    _, mass, h = _quadrature(_pieces(kappa0, tau), kappa0, tau)
    return tau**2 * (1 - tau**2 * float(np.sum(mass * h * h)))
