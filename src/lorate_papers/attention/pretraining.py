r"""Pre-training of the attention map in high dimension, linear attention: closed form up to two root findings.

Learning S from N = alpha D^2 sequences acts on its spectrum as Gaussian noise of standard deviation ``tau``
followed by soft thresholding at ``Lambda``; both follow from how well the map is learned. The training program is
convex, so the equations have one solution, and bracketed root finding needs no damping and no start point.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.optimize import brentq

from lorate.errors import LorateError
from lorate_papers.attention.arguments import SMALLEST, check, check_whole
from lorate_papers.attention.convergence import NotConverged
from lorate_papers.attention.spectrum import SpectralIntegrals, edges, integrals, mismatch


@dataclass(frozen=True)
class Pretraining:
    """A pre-training problem.

    Args:
        alpha: sequences over the squared dimension, N / D^2, positive.
        lam: weight decay ``lambda`` on the factor W, positive (take 1e-6 for the ridgeless limit).
        tokens: T, at least 2.
        kappa0: width of the teacher over the dimension, positive.
        kappa: width of the student over the dimension; must reach the fraction of active directions learned.
        noise: variance ``Delta`` of the noise inside the attention of the labels, not negative.

    Raises:
        LorateError: an argument is out of its range.
    """

    alpha: float
    lam: float
    tokens: int = 3
    kappa0: float = 1.0
    kappa: float = 1.0
    noise: float = 0.5

    def __post_init__(self) -> None:
        check("alpha", self.alpha, above=0, at_least=SMALLEST)
        check("lam", self.lam, above=0)
        check_whole("tokens", self.tokens, at_least=2)
        check("kappa0", self.kappa0, above=0)
        check("kappa", self.kappa, above=0)
        check("noise", self.noise, at_least=0)

    @property
    def Q0(self) -> float:
        """Norm of the teacher, Tr S0^2 / D^2 = 1 + kappa0."""
        return 1 + self.kappa0

    @property
    def measurements(self) -> float:
        """Scalar measurements over the D^2/2 unknowns, alpha T (T+1)."""
        return self.alpha * self.tokens * (self.tokens + 1)

    @property
    def curvature(self) -> float:
        """Curvature of the linear loss, c = 4 / T^2."""
        return 4 / self.tokens**2


@dataclass(frozen=True)
class PretrainingOrder:
    """What pre-training leaves: order parameters of the learned map S_hat.

    Attributes:
        problem: the problem solved.
        Q: Tr S_hat^2 / D^2.
        M: Tr S_hat S0 / D^2.
        V: response of the fit to a perturbation.
        tau: standard deviation of the noise on the spectrum.
        threshold: ``Lambda``, where the spectrum is cut.
        active: fraction of the eigenvalues of S_hat that are positive.
        trace: mean of the eigenvalues of S_hat / sqrt(D).
        mismatch: ||S_hat - S0||^2 / D^2 = Q0 - 2 M + Q, kept by itself since the sum cancels when it is small.
    """

    problem: Pretraining
    Q: float
    M: float
    V: float
    tau: float
    threshold: float
    active: float
    trace: float
    mismatch: float

    @property
    def excess_error(self) -> float:
        """Test error on noise-free labels (linear attention); add ``noise`` for noisy ones."""
        T = self.problem.tokens
        return (T + 1) / T * self.mismatch

    @property
    def train_loss(self) -> float:
        """Training loss over N without the weight decay, the antisymmetric part of the noise included."""
        T, c, noise = self.problem.tokens, self.problem.curvature, self.problem.noise
        residual = (noise / 2 + self.mismatch) / (1 + c * self.V) ** 2
        return (T + 1) / T * residual + noise * (T - 1) / (2 * T)

    @property
    def objective(self) -> float:
        """Regularised objective over D^2 for symmetrised labels."""
        p = self.problem
        residual = (p.noise / 2 + self.mismatch) / (1 + p.curvature * self.V) ** 2
        return p.alpha * (p.tokens + 1) / p.tokens * residual + p.lam * math.sqrt(p.kappa) * self.trace


def solve_pretraining(problem: Pretraining) -> PretrainingOrder:
    r"""Order parameters of pre-training with linear attention, exact for D to infinity.

    With I_M, I_Q, I_V the integrals of `lorate_papers.attention.spectrum` and alpha_T = alpha T (T+1),

    $$ \alpha_T \tau^2 = \Delta/2 + Q_0 - 2 I_M + I_Q, \qquad
              \lambda = c \Lambda (\alpha_T - I_V) / (2 \sqrt\kappa). $$

    I_V falls in Lambda, so the second equation has one root Lambda(tau); the first is then solved for tau.

    Raises:
        LorateError: kappa is below the fraction of active directions, where the theory does not hold.
        NotConverged: no root was found between tau = 1e-7 and 1e4.

    >>> row = solve_pretraining(Pretraining(alpha=0.1, lam=0.01, tokens=3, kappa0=1, kappa=1, noise=0.5))
    >>> print(f"Q={row.Q:.4f} M={row.M:.4f} V={row.V:.4f}")
    Q=2.2230 M=1.9253 V=4.3554

    Source: docs/attention/index.md, "Pre-training".
    """

    def imbalance(tau: float) -> float:
        error = mismatch(problem.kappa0, tau, _threshold(problem, tau))
        return problem.measurements * tau**2 - problem.noise / 2 - error

    low, high = _bracket(problem, imbalance)
    tau = float(brentq(imbalance, low, high, xtol=1e-15, rtol=1e-13))
    threshold = _threshold(problem, tau)
    law = integrals(problem.kappa0, tau, threshold)
    check_width(problem, law)
    response = law.V / (problem.curvature * (problem.measurements - law.V))
    error = mismatch(problem.kappa0, tau, threshold)
    return PretrainingOrder(problem, law.Q, law.M, response, tau, threshold, law.active, law.trace, error)


def _threshold(problem: Pretraining, tau: float) -> float:
    """Lambda at which the weight decay is the one asked for, at a given tau."""
    upper_edge = float(edges(problem.kappa0, tau)[-1])
    scale = problem.curvature / (2 * math.sqrt(problem.kappa))
    collapsed = problem.lam / (scale * problem.measurements)
    if collapsed >= upper_edge:
        return collapsed  # above the whole spectrum I_V is zero

    def excess(threshold: float) -> float:
        law = integrals(problem.kappa0, tau, threshold)
        return scale * threshold * (problem.measurements - law.V) / problem.lam - 1

    return float(brentq(excess, 0.0, upper_edge, xtol=1e-15, rtol=1e-13))


def _bracket(problem: Pretraining, imbalance: Callable[[float], float]) -> tuple[float, float]:
    """Two values of tau, a factor of two apart, between which the imbalance turns from negative to positive."""
    tau = math.sqrt((problem.noise / 2 + problem.Q0) / problem.measurements)  # exact where nothing is learned
    residual = imbalance(tau)
    factor = 0.5 if residual >= 0 else 2.0
    while 1e-7 < tau < 1e4:
        following = imbalance(tau * factor)
        if (following < 0) != (residual < 0):
            return min(tau, tau * factor), max(tau, tau * factor)
        tau, residual = tau * factor, following
    raise NotConverged("pre-training: no noise level tau balances the equations", {"tau": tau}, residual)


def check_width(problem: Pretraining, law: SpectralIntegrals) -> None:
    """Raise `LorateError` where the student is narrower than what it learns."""
    if problem.kappa < min(law.active, 1.0) - 1e-9:
        raise LorateError(
            f"kappa must be at least the fraction of active directions, {law.active:.4g} here; it is "
            f"{problem.kappa:g}: take a wider student or a larger lam"
        )
