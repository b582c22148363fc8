"""The best weight decays, of pre-training and of fine-tuning."""

import math
import warnings
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from lorate.errors import LorateError
from lorate_papers.attention.effective_noise import fresh_sequences, optimal_beta
from lorate_papers.attention.finetuning import Finetuning, solve_finetuning
from lorate_papers.attention.pretraining import Pretraining, PretrainingOrder, solve_pretraining
from lorate_papers.attention.thresholds import collapse_decay

SEARCHED = 1e-5  # smallest weight decay searched, over the one at which learning collapses
SEARCHED_IN_FINETUNING = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 2.0)


@dataclass(frozen=True)
class BestDecay:
    """Weight decay of pre-training that minimises the effective noise, and the noise it leaves.

    Attributes:
        lam: the weight decay.
        effective_noise: what fine-tuning on fresh sequences then sees.
        beta: the recalibration that goes with it; 1 where none was asked for.
        order: order parameters of pre-training at ``lam``.
    """

    lam: float
    effective_noise: float
    beta: float
    order: PretrainingOrder


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


def optimal_finetuning_decay(alpha: float, effective_noise: float, tokens: int, points: int = 2**13) -> float:
    r"""Weight decay of fine-tuning on fresh sequences with the least test error, linear attention.

    The adapter adds $\frac{T+1}{T}(q^2 - 2m^2)$ to the test error of the frozen map. Sought between 0.02 and 2, on a
    grid first.

    Args:
        alpha: fine-tuning sequences over D.
        effective_noise: what pre-training leaves, see `optimal_decay`.
        tokens: T.
        points: quasi-random points of the averages, a power of two.

    Raises:
        LorateError: the best one lies outside, as it does where nothing can be learned.

    >>> print(f"{optimal_finetuning_decay(0.5, 0.62, 3, points=2**10):.1f}")
    0.3
    """

    def adapter_error(log_lam: float) -> float:
        problem = Finetuning(alpha, math.exp(log_lam), effective_noise, tokens)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # at the least decays the theory may be unstable; the error is large there
            order = solve_finetuning(problem, points)
        return order.q**2 - 2 * order.m**2

    grid = [math.log(lam) for lam in SEARCHED_IN_FINETUNING]
    best = int(np.argmin([adapter_error(point) for point in grid]))
    if best in (0, len(grid) - 1):
        first, *_, last = SEARCHED_IN_FINETUNING
        raise LorateError(
            f"The best weight decay of fine-tuning is not between {first:g} and {last:g} at alpha {alpha:g}."
        )
    bounds = grid[best - 1], grid[best + 1]
    return math.exp(float(minimize_scalar(adapter_error, bounds=bounds, method="bounded", options={"xatol": 0.02}).x))
