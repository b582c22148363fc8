"""Where learning starts (linear attention)."""

import math

from lorate_papers.attention.pretraining import Pretraining
from lorate_papers.attention.spectrum import edges


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
