"""Choose the constant of a rule from runs on a grid."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np

Criterion = Literal["final_loss", "final_validation"]
Result = Mapping[str, Any]


def constants(first: float, last: float, count: int) -> tuple[float, ...]:
    """A grid, evenly in the logarithm, rounded to three digits.

    >>> constants(0.01, 1, 3)
    (0.01, 0.1, 1.0)
    """
    return tuple(float(f"{value:.3g}") for value in np.geomspace(first, last, count))


def best_constant(results: Iterable[Result], by: Criterion = "final_loss") -> float:
    """The constant ``lr`` of the result with the least loss, the first one of several; a loss of None is infinite.

    >>> best_constant([{"lr": lr, "final_loss": loss} for lr, loss in ((0.1, 2.0), (1.0, 1.0), (9.0, None))])
    1.0
    """
    return float(min(results, key=lambda one: math.inf if one[by] is None else one[by])["lr"])


@dataclass(frozen=True)
class Tuning:
    """A constant with which no seed diverges; if there is none, the last one left."""

    lr: float  # the constant
    at_edge: bool  # whether it is the smallest or the largest one tried, so that a better one may lie outside
    trials: list[Result]  # a result for every constant of the grid
    runs: list[Result]  # with the constant, one per seed
    refused: list[float]  # better constants on trial with which a seed diverged


def choose(
    grid: Sequence[float],  # the constants, at least one
    seeds: Sequence[int],  # of the runs
    trial: Callable[[float], Result],  # result of a constant
    run: Callable[[float, int], Result],  # result of a constant and a seed
    by: Criterion = "final_loss",  # what is to be small
    finalists: int = 1,  # constants that are run on all seeds and compared by their mean
) -> Tuning:
    """Take the constant that is best on trial, or the best one after it with which no seed diverges.

    With several finalists, those are taken in this way and the one with the least mean over the seeds wins. If some
    seed diverges with every constant, the one that is worst on trial is taken.

    >>> def result(lr, seed=0):
    ...     return {"lr": lr, "final_loss": 1 / lr, "diverged": lr * (seed + 1) > 3}
    >>> tuning = choose((1.0, 2.0), (0, 1), result, result)
    >>> tuning.lr, tuning.refused
    (1.0, [2.0])
    """

    def loss(result: Result) -> float:
        return math.inf if result[by] is None else float(result[by])

    trials = {lr: trial(lr) for lr in grid}
    final, refused = dict[float, list[Result]](), list[float]()
    for lr in sorted(trials, key=lambda lr: loss(trials[lr])):
        runs = [run(lr, seed) for seed in seeds]
        if any(one["diverged"] for one in runs):
            refused.append(lr)
        else:
            final[lr] = runs
        if len(final) == finalists:
            break
    if not final:
        final[refused.pop()] = runs
    best = min(final, key=lambda lr: fmean(map(loss, final[lr])))
    return Tuning(best, best in (min(grid), max(grid)), list(trials.values()), final[best], refused)
