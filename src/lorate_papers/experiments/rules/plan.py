"""What is run: one rule on one task, over its grid and then at its best constant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lorate.sweep import Run
from lorate_papers.experiments.experiment import Options
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.training.training_run import Values, train_under_rule
from lorate_papers.training.tuning import Criterion, choose, constants

TUNED = ("constant", *PAPER)
"""The rules that are compared on both tasks."""
CENTRES = {
    "constant": 0.3,
    "adaptive": 30.0,
    "adaptive-loss": 30.0,
    "normalized": 0.3,
    "adamw": 0.01,
    "sharp": 1.0,
    "majorizer": 1.0,
    "auto": 1.0,
}
"""Middle of each grid, the same on both tasks; sharp, majorizer and auto have 1 by default."""
DECADES = 4
ENOUGH = 0.8
"""A constant is usable if it brings this share of the rule's best fall of the loss."""


@dataclass(frozen=True)
class Task:
    """What is trained, and how."""

    words: str  # its name in the report
    rules: tuple[str, ...]  # the rules and the baseline
    adapter: dict[str, Any]  # fields of `AdapterSpec`
    batch: int | None  # examples a step; None: all
    steps: int  # of every run
    validate_every: int | None  # steps between two measurements of the held-out loss in the runs at the best constant
    by: Criterion  # the loss that decides

    @property
    def loss(self) -> str:
        """The deciding loss in words."""
        return "training loss" if self.by == "final_loss" else "held-out loss"


class Size(NamedTuple):
    """How much is run."""

    points: int  # constants in a grid, over four decades
    regression_steps: int  # steps of logistic regression
    language_steps: int  # steps of the small language model
    language_batch: int  # sequences a step


FULL = Size(9, 400, 80, 8)
QUICK = Size(7, 80, 20, 4)


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def tasks(options: Options) -> dict[str, Task]:
    """The tasks by the names of their workloads."""
    how = size(options)
    regression = Task(
        "logistic regression", (*TUNED, "adamw", "sharp", "majorizer"), {"rank": 4, "alpha": 4}, None,
        how.regression_steps, None, "final_loss",
    )  # fmt: skip
    language = Task(
        "small language model", (*TUNED, "adamw", "auto"), {"rank": 4, "alpha": 8}, how.language_batch,
        how.language_steps, max(1, how.language_steps // 10), "final_validation",
    )  # fmt: skip
    return {"small-lm": language, "logistic": regression}


def seeds(options: Options) -> list[int]:
    """Seeds of starts and data orders."""
    return options.seeds(3)


def grid(rule: str, options: Options) -> tuple[float, ...]:
    """Four decades around the middle, as many constants for each rule."""
    half = 10 ** (DECADES / 2)
    return constants(CENTRES[rule] / half, CENTRES[rule] * half, size(options).points)


def over_grid(
    workload: str,
    rule: str,
    adapter: Mapping[str, Any],
    grid: Sequence[float],
    steps: int,
    batch: int | None,
    validate_every: int | None,
    seeds: Sequence[int],
    by: Criterion,
    quick: bool,
    data: str | None,
) -> Values:
    """Every constant on the first seed, then the best one on all seeds with the held-out loss on the way."""

    def run(lr: float, seed: int, every: int | None = validate_every) -> Values:
        return train_under_rule(
            workload, adapter, rule, lr, steps, batch, seed, quick=quick, data=data, validate_every=every
        )

    best = choose(grid, seeds, lambda lr: run(lr, seeds[0], None), run, by)
    names = ("lr", "first_loss", "final_loss", "final_validation", "diverged", "steps")
    return {
        "grid": [{name: trial[name] for name in names} for trial in best.trials],
        "best": best.lr,
        "at_edge": best.at_edge,
        "refused": best.refused,
        "runs": best.runs,
    }


def runs(options: Options) -> list[Run]:
    """The slow ones first."""
    runs = []
    for workload, task in tasks(options).items():
        for rule in task.rules:
            given: dict[str, Any] = {
                "workload": workload,
                "rule": rule,
                "adapter": task.adapter,
                "grid": grid(rule, options),
                "steps": task.steps,
                "batch": task.batch,
                "validate_every": task.validate_every,
                "seeds": seeds(options),
                "by": task.by,
                "quick": options.quick,
                "data": options.data if workload == "small-lm" else None,
            }
            runs.append(Run(f"{workload}-{rule}", over_grid, given))
    return runs
