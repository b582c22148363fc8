"""The best weight decay of pre-training."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from lorate_papers.attention.effective_noise import fresh_sequences, optimal_beta
from lorate_papers.attention.pretraining import Pretraining, PretrainingOrder, solve_pretraining
from lorate_papers.attention.thresholds import collapse_decay

SEARCHED = 1e-5  # smallest weight decay searched, over the one at which learning collapses


@dataclass(frozen=True)
class BestDecay:
    """Weight decay of pre-training that minimises the effective noise, and the noise it leaves."""

    lam: float  # the weight decay
    effective_noise: float  # what fine-tuning on fresh sequences then sees
    beta: float  # the recalibration that goes with it; 1 where none was asked for
    order: PretrainingOrder  # order parameters of pre-training at ``lam``


def optimal_decay(problem: Pretraining, recalibrated: bool = False) -> BestDecay:
    """Best weight decay of pre-training for fine-tuning on fresh sequences (``problem.lam`` is not used).

    Without recalibration it is also the weight decay of least pre-training test error. With the best
    recalibration afterwards, the noise minimised is Delta/2 + Q0 - M^2/Q.

    Args:
        problem: what to solve, at every weight decay.
        recalibrated: the frozen map is multiplied by its best beta before fine-tuning.

    Raises:
        LorateError: at one of the weight decays searched, from 1e-5 times `collapse_decay` on, more directions are
            active than a student of width kappa has.

    >>> best = optimal_decay(Pretraining(alpha=0.2, lam=1, tokens=2, kappa0=0.5))
    >>> print(f"{best.lam:.3f} {best.effective_noise:.5f}")
    0.104 0.46674
    """

    def solved(log_lam: float) -> tuple[float, float, PretrainingOrder]:
        order = solve_pretraining(replace(problem, lam=math.exp(log_lam)))
        beta = optimal_beta(order) if recalibrated else 1.0
        return fresh_sequences(order, beta), beta, order

    collapse = collapse_decay(problem)
    grid = np.linspace(math.log(SEARCHED * collapse), math.log(collapse), 16)
    values = [solved(point)[0] for point in grid]
    best = int(np.argmin(values))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    found = minimize_scalar(lambda x: solved(x)[0], bounds=bounds, method="bounded", options={"xatol": 1e-5})
    noise, beta, order = solved(float(found.x))
    return BestDecay(order.problem.lam, noise, beta, order)
