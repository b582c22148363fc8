r"""Fit $\alpha^* = C r^p$ to the best alpha of several ranks, with an interval for what was fitted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lorate.errors import LorateError

Array = NDArray[np.float64]
Losses = Mapping[float, Sequence[float | None]]
"""For each alpha the losses of its runs, one per seed; None where a run diverged."""
DRAWS = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class BestAlpha:
    """Where the loss is lowest.

    Attributes:
        alpha: refined between the grid's points.
        loss: the mean at the best point of the grid.
        at_edge: whether that point is the smallest or the largest alpha tried: a better one may lie outside.
    """

    alpha: float
    loss: float
    at_edge: bool


def best_alpha(losses: Losses) -> BestAlpha | None:
    r"""The alpha of the lowest mean loss, refined by the parabola in $\log\alpha$ through it and its two neighbours.

    It is the point of the grid itself at an edge, and where a neighbour diverged. A point where any run diverged counts
    as worst; None if every point did.

    >>> round(best_alpha({8: [2.1], 16: [2.0], 32: [2.1]}).alpha, 3)
    16.0
    """
    alphas = sorted(losses)
    means = [mean_loss(losses[alpha]) for alpha in alphas]
    place = int(np.argmin(means))
    if not math.isfinite(means[place]):
        return None
    at_edge = place in (0, len(alphas) - 1)
    best = alphas[place] if at_edge else _vertex(alphas[place - 1 : place + 2], means[place - 1 : place + 2])
    return BestAlpha(best, means[place], at_edge)


def mean_loss(values: Sequence[float | None]) -> float:
    """Mean over the seeds; infinite where one of them diverged."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else math.inf


def _vertex(alphas: Sequence[float], losses: Sequence[float]) -> float:
    """Lowest point of the parabola through three points, the middle one of which is lowest."""
    x = [math.log(alpha / alphas[1]) for alpha in alphas]
    left, right = (losses[1] - losses[0]) / -x[0], (losses[2] - losses[1]) / x[2]
    if not math.isfinite(right - left) or right <= left:
        return alphas[1]
    # the slope is `left` half-way to the left neighbour, `right` half-way to the right one, and linear in between
    zero = x[0] / 2 + (x[2] - x[0]) / 2 * -left / (right - left)
    return alphas[1] * math.exp(zero)


@dataclass(frozen=True)
class ScalingFit:
    r"""What a sweep says about the law.

    Attributes:
        best: the best alpha of each rank, by rank.
        exponent: p of $\alpha^* = C r^p$.
        coefficient: its C.
        interval: bootstrap interval of p; None with two ranks, through which a line always passes.
        c: the coefficient of the square-root law, p held at ½.
        c_interval: its interval.
    """

    best: Mapping[int, BestAlpha]
    exponent: float
    coefficient: float
    interval: tuple[float, float] | None
    c: float
    c_interval: tuple[float, float]
    _draws: Array | None = field(default=None, repr=False, compare=False)

    @property
    def contains_half(self) -> bool | None:
        """Whether ½ lies in the interval; None if there is none."""
        return None if self.interval is None else self.interval[0] <= 0.5 <= self.interval[1]

    def recommended(self, r: int) -> tuple[float, float, float]:
        """Alpha for a rank and its interval, by the square-root law, or by the fitted one where ½ is ruled out."""
        if self._draws is None or self.contains_half is not False:
            root = math.sqrt(r)
            return self.c * root, self.c_interval[0] * root, self.c_interval[1] * root
        low, high = _interval(self._draws @ np.array([1.0, math.log(r)]))
        return self.coefficient * r**self.exponent, math.exp(low), math.exp(high)


def fit_scaling(losses: Mapping[int, Losses], seed: int = 0) -> ScalingFit:
    r"""Fit the power law and the square-root law, with 95% intervals.

    Log–log least squares on the best alpha of every rank. The interval is that of a residual bootstrap: in each of
    2,000 draws the seeds of the runs are drawn with replacement, the same for all runs of a rank, and the
    regression's residuals (divided by $\sqrt{1 - h}$, h the leverage) are redistributed. For few ranks a bootstrap is
    too narrow, so its deviations are stretched by the ratio of Student's quantile to the normal one.

    Args:
        losses: by rank; every run of a rank has the same seeds in the same order. Ranks whose best alpha lies at the
            edge of the grid are left out of the regression.
        seed: of the draws.

    Raises:
        LorateError: fewer than two ranks or alphas, every run diverged, or fewer than two ranks have their best alpha
            inside the grid.
    """
    if len(losses) < 2:
        raise LorateError(f"an exponent needs at least two ranks, got {_listed(losses)}.")
    for rank, row in losses.items():
        if len(row) < 2:
            raise LorateError(f"the best alpha needs at least two to choose from, rank {rank} has {_listed(row)}.")
    lowest = {rank: best_alpha(row) for rank, row in sorted(losses.items())}
    best = {rank: one for rank, one in lowest.items() if one is not None}
    if not best:
        raise LorateError("every run of the sweep diverged; take a smaller learning rate, or smaller alphas.")
    inside = [rank for rank, one in best.items() if not one.at_edge]
    if len(inside) < 2:
        raise LorateError(_too_few(best, inside, [rank for rank, one in lowest.items() if one is None]))
    log_r = np.log(np.array(inside, dtype=np.float64))
    y = np.array([math.log(best[rank].alpha) for rank in inside])
    moved = _seed_noise([losses[rank] for rank in inside], y, seed)
    line, line_draws = _regress(np.stack((np.ones_like(log_r), log_r), axis=1), y, moved, seed)
    (level,), level_draws = _regress(np.ones((len(y), 1)), y - log_r / 2, moved, seed)
    assert level_draws is not None  # one parameter, two ranks at least
    low, high = _interval(level_draws[:, 0])
    return ScalingFit(
        best=best,
        exponent=float(line[1]),
        coefficient=math.exp(line[0]),
        interval=None if line_draws is None else _interval(line_draws[:, 1]),
        c=math.exp(level),
        c_interval=(math.exp(low), math.exp(high)),
        _draws=line_draws,
    )


def _too_few(best: Mapping[int, BestAlpha], inside: Sequence[int], diverged: Sequence[int]) -> str:
    """Why there are not two ranks whose best alpha lies inside the grid."""
    edges = [f"alpha {one.alpha:g} at rank {rank}" for rank, one in best.items() if one.at_edge]
    reasons = [f"every run of rank {rank} diverged" for rank in diverged]
    if edges:
        where = f"the best alpha lies at the edge of those tried for all ranks but {len(inside)} ({', '.join(edges)})"
        return "; ".join([where, *reasons, "try alphas beyond"]) + "."
    return f"an exponent needs two ranks with a best alpha, but {'; '.join(reasons)}: try smaller alphas there."


def _seed_noise(rows: Sequence[Losses], y: Array, seed: int) -> Array:
    """How the best log alpha of each rank moves when the seeds are drawn with replacement, ``[draws, ranks]``."""
    random = np.random.default_rng(seed)
    moved = np.zeros((DRAWS, len(rows)))
    for place, row in enumerate(rows):
        seeds = {len(values) for values in row.values()}
        if seeds == {1}:
            continue
        if len(seeds) > 1:
            raise LorateError(f"all runs of a rank need the same seeds, their numbers are {sorted(seeds)}.")
        drawn = np.sort(random.integers(min(seeds), size=(DRAWS, min(seeds))), axis=1)
        different, which = np.unique(drawn, axis=0, return_inverse=True)  # a few, many times each
        again = [
            best_alpha({alpha: [values[k] for k in picked] for alpha, values in row.items()}) for picked in different
        ]
        moved[:, place] = np.array([math.log(one.alpha) - y[place] if one else 0.0 for one in again])[which]
    return moved


def _regress(X: Array, y: Array, moved: Array, seed: int) -> tuple[Array, Array | None]:
    """Least squares, and parameters of the bootstrap's draws; None without a degree of freedom."""
    from scipy.stats import norm, t

    count, parameters = X.shape
    pseudo = np.linalg.pinv(X)
    fitted = pseudo @ y
    if count == parameters:
        return fitted, None
    leverage = np.einsum("ij,ji->i", X, pseudo)
    residuals = (y - X @ fitted) / np.sqrt(np.maximum(1 - leverage, 1e-12))
    dealt = np.random.default_rng(seed + 1).choice(residuals, size=moved.shape)
    tail = (1 + CONFIDENCE) / 2
    stretch = t.ppf(tail, count - parameters) / norm.ppf(tail)
    return fitted, fitted + stretch * ((dealt + moved) @ pseudo.T)


def _interval(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _listed(values: Mapping[int, object] | Mapping[float, object]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "none"
