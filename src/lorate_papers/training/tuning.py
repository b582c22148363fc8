"""Choose the best constant of a rule from runs on a grid; the grids of rules that are compared have one size."""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lorate.errors import LorateError

Criterion = Literal["final_loss", "final_validation"]


@dataclass(frozen=True)
class Tuned:
    """The best constant of a rule.

    Attributes:
        lr: the constant; None if the rule has none.
        loss: mean over the seeds at it; infinite if the rule diverged everywhere.
        at_edge: whether it is the smallest or the largest one tried, so that a better one may lie outside.
        by_lr: mean loss of every constant tried; infinite where a seed diverged.
    """

    lr: float | None
    loss: float
    at_edge: bool
    by_lr: Mapping[float | None, float]


def constants(first: float, last: float, count: int) -> tuple[float, ...]:
    """A grid, evenly in the logarithm, rounded to three digits.

    >>> constants(0.01, 1, 3)
    (0.01, 0.1, 1.0)
    """
    return tuple(float(f"{value:.3g}") for value in np.geomspace(first, last, count))


def tune(results: Iterable[Mapping[str, Any]], by: Criterion = "final_loss") -> dict[str, Tuned]:
    """The best constant of each rule.

    Args:
        results: of `lorate_papers.training.training_run.train_under_rule`; rules without a constant have one entry
            each, the others grids of one size. A constant at which any seed diverged is not chosen.
        by: what is to be small.

    Raises:
        LorateError: the grids differ in size, or their constants in the number of seeds.

    >>> runs = [{"rule": "constant", "lr": lr, "final_loss": loss} for lr, loss in ((0.1, 2.0), (1, 1.0), (9, None))]
    >>> tune(runs)["constant"].lr
    1
    """
    losses: dict[str, dict[float | None, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        value = result[by]
        losses[result["rule"]][result["lr"]].append(math.inf if value is None else value)
    sizes = {len(grid) for grid in losses.values() if set(grid) != {None}}
    seeds = {len(values) for grid in losses.values() for values in grid.values()}
    if len(sizes) > 1 or len(seeds) > 1:
        raise LorateError(
            f"Rules are tuned on grids of one size with as many seeds each, but the sizes are {sorted(sizes)} and the "
            f"seeds {sorted(seeds)}."
        )
    return {rule: _best({lr: statistics.fmean(values) for lr, values in grid.items()}) for rule, grid in losses.items()}


@dataclass(frozen=True)
class Chosen:
    """A constant with which no seed diverges; if there is none, the last one left.

    Attributes:
        lr: the constant.
        at_edge: whether it is the smallest or the largest one tried.
        trials: a result for every constant of the grid.
        runs: with the constant, one a seed.
        refused: better constants on trial with which a seed diverged.
    """

    lr: float
    at_edge: bool
    trials: list[Mapping[str, Any]]
    runs: list[Mapping[str, Any]]
    refused: list[float]


def choose(
    grid: Sequence[float],
    seeds: Sequence[int],
    trial: Callable[[float], Mapping[str, Any]],
    run: Callable[[float, int], Mapping[str, Any]],
    by: Criterion = "final_loss",
) -> Chosen:
    """Take the constant that is best on trial, or the best one after it with which no seed diverges.

    The last one left is taken whether it diverges or not.

    Args:
        grid: the constants, at least one.
        seeds: of the runs.
        trial: result of a constant.
        run: result of a constant and a seed.
        by: what is to be small on trial.

    >>> def result(lr, seed=0):
    ...     return {"rule": "constant", "lr": lr, "final_loss": 1 / lr, "diverged": lr * (seed + 1) > 3}
    >>> chosen = choose((1.0, 2.0), (0, 1), result, result)
    >>> chosen.lr, chosen.refused
    (1.0, [2.0])
    """
    trials = {lr: trial(lr) for lr in grid}
    left = dict(trials)
    refused: list[float] = []
    while True:
        ((_, best),) = tune(left.values(), by).items()
        assert best.lr is not None
        runs = [run(best.lr, seed) for seed in seeds]
        if len(left) == 1 or not any(one["diverged"] for one in runs):
            return Chosen(best.lr, best.lr in (min(grid), max(grid)), list(trials.values()), runs, refused)
        refused.append(best.lr)
        del left[best.lr]


def _best(by_lr: Mapping[float | None, float]) -> Tuned:
    lr = min(by_lr, key=lambda one: by_lr[one])
    tried = [one for one in by_lr if one is not None]
    return Tuned(lr, by_lr[lr], len(tried) > 1 and lr in (min(tried), max(tried)), by_lr)
