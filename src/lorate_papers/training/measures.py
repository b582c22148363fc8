"""Numbers read off the results of training runs."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Result = Mapping[str, Any]
"""What `lorate_papers.training.training_run.train_model` returns."""


def column(run: Result, name: str) -> Numbers:
    """A column of the trace; nan where a number was not finite or not known."""
    return np.array(run["trace"][name], dtype=float)


def steps_to(run: Result, target: float, name: str = "loss") -> float:
    """The first kept step at which a loss was at most the target; infinite if there was none.

    >>> steps_to({"trace": {"step": [1, 2, 4], "loss": [3.0, 2.0, 1.0]}}, 2.5)
    2.0
    """
    reached = np.flatnonzero(column(run, name) <= target)
    return float(column(run, "step")[reached[0]]) if len(reached) else math.inf


def exponent(run: Result, name: str, first: float, last: float = math.inf, against: str = "step") -> float:
    """The power p in name ~ against^p, fitted to the logarithms between two steps; nan with fewer than 3 points.

    >>> steps = [1, 2, 4, 8]
    >>> round(exponent({"trace": {"step": steps, "grad_sq": [1 / t for t in steps]}}, "grad_sq", 1), 6)
    -1.0
    """
    steps, x, y = column(run, "step"), column(run, against), column(run, name)
    use = (steps >= first) & (steps <= last) & (x > 0) & (y > 0)
    if use.sum() < 3:
        return math.nan
    return float(np.polyfit(np.log(x[use]), np.log(y[use]), 1)[0])


def least_since_peak(values: Numbers) -> Numbers:
    """The least value so far, counted from the largest one on; before that the values themselves.

    >>> least_since_peak(np.array([1.0, 5.0, 2.0, 3.0])).tolist()
    [1.0, 5.0, 2.0, 2.0]
    """
    peak = int(np.nanargmax(values))
    return np.concatenate([values[:peak], np.minimum.accumulate(values[peak:])])


def falling_exponent(run: Result, name: str, *, share: float = 1 / 3, floor: float = 0.0) -> float:
    """Exponent against the step with which a column falls after its peak: of its least value since then.

    Fitted over the last part of the run, or of its steps until the column has fallen to ``floor`` times its peak: a
    run that converges is so judged before rounding takes over.

    Args:
        run: has the column.
        name: of the column.
        share: of the steps that the fit leaves out.
        floor: where the fit ends.

    Returns:
        The exponent; nan while the peak lies in the fitted part, or if no value is finite. Minus infinity if the column
        fell to the floor within the first ``1 / share`` times the steps to the peak: faster than can be resolved.
    """
    steps, values = column(run, "step"), column(run, name)
    known = np.isfinite(values)
    if not known.any():
        return math.nan
    steps, values = steps[known], values[known]
    peak, least = int(np.argmax(values)), least_since_peak(values)
    low = peak + np.flatnonzero(least[peak:] <= floor * values[peak])
    last = steps[low[0]] if len(low) else steps[-1]
    if steps[peak] > share * last:
        return -math.inf if len(low) else math.nan
    return exponent({"trace": {"step": steps, "least": least}}, "least", share * last, last)


def trailing_mean(values: Numbers, count: int) -> Numbers:
    """Mean over the last ``count`` values, or over all so far where there are fewer.

    >>> trailing_mean(np.array([1.0, 3.0, 5.0]), 2).tolist()
    [1.0, 2.0, 4.0]
    """
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - count)
    mean: Numbers = (sums[ends] - sums[starts]) / (ends - starts)
    return mean


def final_losses(runs: Iterable[Result], name: str = "final_loss") -> list[float]:
    """Losses at the end, training loss or ``"final_validation"``; infinite where the run diverged.

    >>> final_losses([{"final_loss": 0.0}, {"final_loss": None}])
    [0.0, inf]
    """
    return [math.inf if run[name] is None else float(run[name]) for run in runs]


def median(values: Sequence[float]) -> float:
    """The median; nan if one value is: sorting, which `statistics.median` does, puts nan anywhere.

    >>> median([1.0, 5.0, 2.0]), median([1.0, math.nan, 2.0])
    (2.0, nan)
    """
    return math.nan if any(map(math.isnan, values)) else statistics.median(values)


def mean_and_error(values: Sequence[float] | Numbers) -> tuple[float, float]:
    """Mean over the seeds and its standard error, which is nan for a single seed.

    >>> mean_and_error([1.0, 3.0])
    (2.0, 1.0)
    """
    numbers = np.asarray(values, dtype=float)
    error = numbers.std(ddof=1) / math.sqrt(len(numbers)) if len(numbers) > 1 else math.nan
    return float(numbers.mean()), float(error)


def sign(mean: float, error: float) -> bool | None:
    """Whether a mean is positive; None within two standard errors of zero, or if the error is not known.

    >>> sign(0.5, 0.1), sign(-0.5, 0.1), sign(0.15, 0.1), sign(0.5, math.nan)
    (True, False, None, None)
    """
    return mean > 0 if abs(mean) > 2 * error else None


def leads(own: Sequence[float] | Numbers, other: Sequence[float] | Numbers) -> Numbers:
    """How far one loss lies below another, seed by seed; minus infinity where the own run diverged.

    >>> leads([1.0, math.inf, 1.0], [3.0, math.inf, math.inf]).tolist()
    [2.0, -inf, inf]
    """
    pairs = zip(own, other, strict=True)
    return np.array([-math.inf if math.isinf(one) else another - one for one, another in pairs])


def ahead(leads: Numbers) -> bool | None:
    """Whether the mean lead is positive; None within two standard errors of zero.

    Where a run diverged there is no standard error: then every seed has to be ahead.

    >>> ahead(np.array([1.0, 1.2])), ahead(np.array([-1.0, -1.2])), ahead(np.array([1.0, -1.2]))
    (True, False, None)
    """
    if not np.isfinite(leads).all():
        return bool(leads.min() > 0)
    return sign(*mean_and_error(leads))


def with_error(values: Numbers) -> str:
    """Mean and standard error, if nothing diverged.

    >>> with_error(np.array([1.0, 3.0])), with_error(np.array([math.inf]))
    ('+2 ± 1', 'infinite')
    """
    if not np.isfinite(values).all():
        return "infinite"
    mean, error = mean_and_error(values)
    return f"{mean:+.3g} ± {error:.2g}"
