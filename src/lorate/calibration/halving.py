"""Spend the steps where they matter: a short run of every point, a full one of those that may be best.

Successive halving with one rung. Every point is trained for a quarter of the steps with one seed. For each rank and
learning rate the better half of the alphas, three at least, is trained in full with every seed; then also the
neighbours of the best, until it lies between two worse ones or at the edge of the grid.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lorate.calibration.plan import Sweep
from lorate.calibration.work import train_point
from lorate.scaling.power_law import mean_loss
from lorate.sweep import Run

Row = dict[float, list[float | None]]
"""For each alpha one loss a seed."""
Key = tuple[float, int]
"""Learning rate and rank."""
Execute = Callable[[Sequence[Run]], Mapping[str, Mapping[str, Any]]]
"""Does runs, or finds them done, and returns their results by name."""
SHARE, FEWEST = 4, 3


@dataclass
class Halving:
    """A sweep as it goes on.

    Attributes:
        sweep: what is wanted.
        execute: does the runs.
        screened: loss of the short runs.
        trained: losses of the full runs; None where the short run had diverged already.
    """

    sweep: Sweep
    execute: Execute
    screened: dict[Key, dict[float, float | None]] = field(default_factory=dict)
    trained: dict[Key, Row] = field(default_factory=dict)

    def run(self) -> dict[Key, Row]:
        """All of it; returns the losses of the full runs."""
        keys = [(lr, rank) for lr in self.sweep.lrs for rank in self.sweep.ranks]
        self._screen(keys)
        missing = {key: self._promising(key) for key in keys}
        while any(missing.values()):
            self._train(missing)
            missing = {key: self._neighbours(key) for key in keys}
        return self.trained

    def _screen(self, keys: Sequence[Key]) -> None:
        steps = max(1, self.sweep.steps // SHARE)
        runs = {(key, alpha): self._run(key, alpha, steps, 0) for key in keys for alpha in self.sweep.alphas}
        results = self.execute(_largest_first(runs.values()))
        for (key, alpha), run in runs.items():
            self.screened.setdefault(key, {})[alpha] = results[run.name]["loss"]
            if results[run.name]["loss"] is None:
                self.trained.setdefault(key, {})[alpha] = [None] * self.sweep.seeds

    def _promising(self, key: Key) -> list[float]:
        alive = {alpha: loss for alpha, loss in self.screened[key].items() if loss is not None}
        keep = max(FEWEST, math.ceil(len(self.screened[key]) / 2))
        return sorted(alive, key=lambda alpha: alive[alpha])[:keep]

    def _neighbours(self, key: Key) -> list[float]:
        """What has not been trained beside the best alpha so far."""
        row, alphas = self.trained[key], list(self.sweep.alphas)
        best = min(row, key=lambda alpha: mean_loss(row[alpha]))
        if not math.isfinite(mean_loss(row[best])):
            return []
        place = alphas.index(best)
        return [alpha for alpha in alphas[max(place - 1, 0) : place + 2] if alpha not in row]

    def _train(self, wanted: Mapping[Key, Sequence[float]]) -> None:
        runs = {
            (key, alpha): [self._run(key, alpha, self.sweep.steps, number) for number in range(self.sweep.seeds)]
            for key, alphas in wanted.items()
            for alpha in alphas
        }
        results = self.execute(_largest_first(run for several in runs.values() for run in several))
        for (key, alpha), several in runs.items():
            self.trained.setdefault(key, {})[alpha] = [results[run.name]["loss"] for run in several]

    def _run(self, key: Key, alpha: float, steps: int, number: int) -> Run:
        (lr, rank), sweep = key, self.sweep
        seed = sweep.seed + number
        given = {"own": sweep.own, "rank": rank, "alpha": alpha, "lr": lr, "steps": steps}
        name = f"rank-{rank}-alpha-{alpha:g}-lr-{lr:g}-steps-{steps}-seed-{seed}"
        return Run(name, train_point, given | {"batch_size": sweep.batch_size, "seed": seed})


def _largest_first(runs: Iterable[Run]) -> list[Run]:
    """Large ranks take longest: begun first, they do not keep the others waiting at the end."""
    return sorted(runs, key=lambda run: -int(run.arguments["rank"]))
