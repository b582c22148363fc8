"""What to do: the best weight decay, what active selection gains, and where error and overlap disagree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from lorate.errors import LorateError
from lorate_papers.attention.effective_noise import active_sequences, fresh_sequences, optimal_beta
from lorate_papers.attention.prediction import predict
from lorate_papers.attention.pretraining import Pretraining, PretrainingOrder, solve_pretraining
from lorate_papers.attention.thresholds import collapse_decay

SEARCHED = 1e-5  # smallest weight decay searched, over the one at which learning collapses


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


@dataclass(frozen=True)
class ActiveGain:
    """Effective noise without a choice, with active selection, and with the best recalibration instead.

    Attributes:
        plain: noise of unselected fresh sequences.
        active: noise of the selected ones.
        recalibrated: noise at the best beta, the limit of the strictest selection.
    """

    plain: float
    active: float
    recalibrated: float

    @property
    def share(self) -> float:
        """Part of the largest possible gain that the selection reaches; nan where there is none to be had."""
        largest = self.plain - self.recalibrated
        return (self.plain - self.active) / largest if largest > 0 else math.nan


def active_gain(order: PretrainingOrder, fraction: float) -> ActiveGain:
    """What choosing the given share of a pool gains over fresh sequences taken as they come.

    The gain is in the overlap of the adapter. The mismatch of the frozen map stays in the test error, which
    recalibration lowers as well.

    Args:
        order: what pre-training left.
        fraction: the share of the pool that is chosen, in (0, 1].

    Raises:
        LorateError: the fraction is out of its range.
    """
    plain, active = fresh_sequences(order), active_sequences(order, fraction)
    return ActiveGain(plain, active, fresh_sequences(order, optimal_beta(order)))


@dataclass(frozen=True)
class Disagreement:
    """Test error and overlap against the weight decay of pre-training.

    Attributes:
        lams: the weight decays, ascending.
        errors: test error after fine-tuning, noise-free labels.
        overlaps: cosine between the adapter and its teacher; nan where the adapter vanishes.
    """

    lams: tuple[float, ...]
    errors: tuple[float, ...]
    overlaps: tuple[float, ...]

    @property
    def best_for_error(self) -> float:
        """Weight decay of least test error."""
        return self.lams[int(np.argmin(self.errors))]

    @property
    def best_for_overlap(self) -> float:
        """Weight decay of largest overlap; nan where the adapter vanishes at every one."""
        if all(map(math.isnan, self.overlaps)):
            return math.nan
        return self.lams[int(np.nanargmax(self.overlaps))]

    @property
    def interval(self) -> tuple[float, float]:
        """Weight decays between the two best ones: going one way the error falls, the other way the overlap rises.

        Both nan where there is no best one for the overlap.
        """
        if math.isnan(self.best_for_overlap):
            return math.nan, math.nan
        low, high = sorted((self.best_for_error, self.best_for_overlap))
        return low, high


def disagreement(
    problem: Pretraining,
    finetune_alpha: float,
    finetune_lam: float,
    lams: Sequence[float],
    reused: bool = True,
    points: int = 2**13,
) -> Disagreement:
    """Where the weight decay that is best for the test error is not the one that is best for the adapter.

    On reused sequences the overlap grows as the weight decay falls to zero, since the fitted map takes the noise
    away, while the error on fresh sequences has a minimum at a positive one.

    Args:
        problem: pre-training; ``problem.lam`` is not used.
        finetune_alpha: fine-tuning sequences over the dimension.
        finetune_lam: weight decay of fine-tuning.
        lams: weight decays of pre-training to compare, at least two, positive.
        reused: fine-tune on sequences of pre-training.
        points: quasi-random points, a power of two.

    Raises:
        LorateError: fewer than two weight decays, or an argument that is out of range.
        NotConverged: the equations have no solution that the solver reaches at one of them.
    """
    if len(lams) < 2:
        raise LorateError(f"lams must hold at least two weight decays; it holds {len(lams)}")
    ordered = sorted(lams)
    rows = [
        predict(
            problem.alpha,
            lam,
            tokens=problem.tokens,
            kappa0=problem.kappa0,
            kappa=problem.kappa,
            noise=problem.noise,
            finetune_alpha=finetune_alpha,
            finetune_lam=finetune_lam,
            reused=reused,
            points=points,
        )
        for lam in ordered
    ]
    overlaps = tuple(row.finetuning.overlap if row.finetuning else math.nan for row in rows)
    return Disagreement(tuple(ordered), tuple(row.error for row in rows), overlaps)
