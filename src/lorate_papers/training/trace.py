"""What is kept of a run's steps."""

import statistics
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Step:
    r"""One step.

    Attributes:
        loss: before the step, on the step's batch.
        grad_sq: $\|\nabla J\|^2$ over all trained parameters, before the step.
        stacked_sq: $\|V\|^2$ of all adapters, before the step; None without adapters.
        eta: step size in force; 0 if skipped.
        skipped: why the step was not taken; None if it was.
        aside: seconds that went into measuring what the optimizer itself does not need.
    """

    loss: float
    grad_sq: float
    stacked_sq: float | None
    eta: float
    skipped: str | None = None
    aside: float = 0.0


class Trace:
    """Columns of numbers, one entry a kept step; memory and files stay small however long the run is.

    All steps of a run of at most ``keep`` steps are kept. Of a longer one those are kept that are evenly spaced in
    the logarithm of the step, the first and the last always.

    Args:
        steps: planned.
        keep: most records.
    """

    def __init__(self, steps: int, keep: int) -> None:
        self.steps = self.skipped = self.rises = 0
        self.first_loss = float("nan")
        spaced = np.geomspace(1, max(steps, 1), keep) if steps > keep else np.arange(1, steps + 1)
        self._kept = frozenset(np.rint(spaced).astype(int).tolist())
        count = len(self._kept)
        self.thinning = "every step" if steps <= keep else f"{count} of {steps} steps, evenly in the logarithm"
        self._rows: list[tuple[float | None, ...]] = []
        self._losses: list[float] = []
        self._times: list[float] = []
        self._reported = 0
        self._min_grad_sq, self._sum_eta = float("inf"), 0.0
        self._last: tuple[float | None, ...] = ()

    def add(self, step: Step, seconds: float) -> None:
        """Note a step; ``seconds`` is the training time so far."""
        self.steps += 1
        self.skipped += step.skipped is not None
        if self.steps == 1:
            self.first_loss = step.loss
        self.rises += bool(self._losses) and step.loss > self._losses[-1]
        self._losses.append(step.loss)
        self._times.append(seconds)
        self._min_grad_sq = min(self._min_grad_sq, step.grad_sq)
        self._sum_eta += step.eta
        mean = statistics.fmean(self._losses[self._reported :])
        self._last = (
            self.steps, step.loss, mean, step.grad_sq, self._min_grad_sq, step.stacked_sq, step.eta, self._sum_eta,
            seconds,
        )  # fmt: skip
        if self.steps in self._kept:
            self._rows.append(self._last)
            self._reported = self.steps

    def columns(self) -> dict[str, list[float | None]]:
        r"""The kept steps by column.

        ``step`` from 1; ``loss`` before the step; ``mean_loss`` over the steps since the one kept before;
        ``grad_sq`` $\|\nabla J\|^2$; ``min_grad_sq`` the least so far, over all steps; ``stacked_sq`` $\|V\|^2$;
        ``eta``; ``sum_eta`` with this step; ``seconds`` of training so far.
        """
        names = ("step", "loss", "mean_loss", "grad_sq", "min_grad_sq", "stacked_sq", "eta", "sum_eta", "seconds")
        ended_between = self._last and (not self._rows or self._rows[-1] is not self._last)
        rows = [*self._rows, self._last] if ended_between else self._rows
        return {name: [row[place] for row in rows] for place, name in enumerate(names)}

    def final_loss(self, steps: int) -> float:
        """Mean over the last steps."""
        return statistics.fmean(self._losses[-steps:])

    @property
    def seconds_per_step(self) -> float:
        """The median, so that the first step and a busy machine do not count."""
        return float(np.median(np.diff(self._times, prepend=0.0)))
