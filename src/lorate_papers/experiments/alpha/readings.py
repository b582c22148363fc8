"""The numbers behind figures and claims, read out of the runs' results."""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lorate.errors import LorateError
from lorate.scaling.power_law import Losses, ScalingFit, best_alpha, fit_scaling
from lorate_papers.experiments.alpha.plan import LR, Point, Size, sweep_points
from lorate_papers.experiments.experiment import Results


class PointResults:
    """All results, found by the point that was run.

    Args:
        results: of all runs.
    """

    def __init__(self, results: Results) -> None:
        self._runs: dict[Point, list[Mapping[str, Any]]] = defaultdict(list)
        for one in results.values():
            self._runs[Point(one["task"], one["rank"], one["alpha"], one["rule"], one["lr"])].append(one)

    def seeds(self, point: Point) -> list[Mapping[str, Any]]:
        """The runs of a point in the order of their seeds; empty if it was not run."""
        return sorted(self._runs.get(point, []), key=lambda one: int(one["seed"]))

    def losses(self, point: Point) -> list[float | None]:
        """Held-out loss of each seed; None where it diverged."""
        return [one["loss"] for one in self.seeds(point)]

    def loss(self, point: Point) -> float:
        """Mean over the seeds; nan if one diverged."""
        known = [loss for loss in self.losses(point) if loss is not None]
        return statistics.fmean(known) if len(known) == len(self.losses(point)) > 0 else math.nan

    def stable(self, point: Point) -> bool:
        """Whether every seed ended below its first loss; the point must have been run."""
        return all(one["loss"] is not None and one["loss"] < one["first_loss"] for one in self.seeds(point))

    def drift_ratio(self, point: Point) -> float:
        """Mean over windows and seeds; nan if a seed diverged."""
        ratios = [ratio for one in self.seeds(point) for ratio in one["drift_ratios"] if ratio is not None]
        return statistics.fmean(ratios) if ratios and not math.isnan(self.loss(point)) else math.nan

    def first_move(self, point: Point) -> float:
        """Length of the first step, mean over the seeds."""
        return statistics.fmean(one["first_move"] for one in self.seeds(point))


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Exponent of a power law through the points where y is known; nan for fewer than two.

    >>> round(slope([1, 2, 4], [3, 12, 48]), 6)
    2.0
    """
    known = np.array([(math.log(a), math.log(b)) for a, b in zip(x, y, strict=True) if b > 0])  # false for nan too
    return math.nan if len(known) < 2 else float(np.polyfit(known[:, 0], known[:, 1], 1)[0])


def fitted(measured: PointResults, how: Size) -> ScalingFit | None:
    """The law of the sweep; None where too few ranks have their best alpha inside the grid."""
    try:
        return fit_scaling(sweep_losses(measured, how))
    except LorateError:
        return None


def sweep_losses(measured: PointResults, how: Size) -> dict[int, dict[float, list[float | None]]]:
    """Rank, then alpha; of the seeds the first one, which alone was run everywhere."""
    losses: dict[int, dict[float, list[float | None]]] = defaultdict(dict)
    for point in sweep_points(how):
        losses[point.rank][point.alpha] = measured.losses(point)[:1]
    return losses


def best_by_lr(measured: PointResults, how: Size, points: Sequence[Point]) -> dict[float, float]:
    """The best alpha inside the grid at each learning rate, at the rank of the axes."""
    grids: dict[float, dict[float, list[float | None]]] = defaultdict(dict)
    for point in [*points, *(point for point in sweep_points(how) if point.rank == how.axis_rank)]:
        grids[point.lr or LR][point.alpha] = measured.losses(point)[:1]
    found = {lr: best_alpha(_as_losses(grid)) for lr, grid in sorted(grids.items())}
    return {lr: one.alpha for lr, one in found.items() if one is not None and not one.at_edge}


def _as_losses(grid: Mapping[float, list[float | None]]) -> Losses:
    return grid
