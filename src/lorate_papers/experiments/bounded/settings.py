"""Sizes, grids and names of the runs."""

from dataclasses import dataclass

from lorate_papers.experiments.experiment import Options
from lorate_papers.training.tuning import constants

TASKS = {"logistic": "logistic regression", "matrix": "least squares"}
"""The workloads and what they are called in the report; both have a known L."""
CONTROLS = {"free": "free", "projection": "‖V‖ capped", "decay": "weight decay"}
CONTROLLED = ("theory", "sharp", "adaptive-loss")
"""Rules whose step size shrinks as the adapters grow."""
RULES = (*CONTROLLED, "constant")
GRIDS = {"adaptive-loss": (1.0, 100.0), "constant": (0.03, 3.0)}
"""First and last constant of each grid."""
RANK = 4
DECAY = 0.01
r"""$\lambda$ of the penalty $\tfrac\lambda2\|V\|^2$."""


@dataclass(frozen=True)
class Size:
    """How much is run.

    Attributes:
        steps: of full-batch descent, on each task.
        seeds: starts.
        points: constants in a grid.
        survival: constants tried without control, and the steps they are given.
    """

    steps: dict[str, int]
    seeds: int
    points: int
    survival: tuple[int, int]


FULL = Size({"logistic": 2000, "matrix": 1000}, 3, 5, (7, 500))
QUICK = Size({"logistic": 150, "matrix": 120}, 3, 3, (5, 100))


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def seeds(options: Options) -> list[int]:
    """Seeds of the starts."""
    return options.seeds(size(options).seeds)


def grid(rule: str, options: Options) -> tuple[float, ...]:
    """Constants to choose from; none for a rule that has nothing to choose."""
    return constants(*GRIDS[rule], size(options).points) if rule in GRIDS else ()


def survival_grid(options: Options) -> tuple[float, ...]:
    """Constant rates from a good one to one that is far too large."""
    return constants(0.03, 30.0, size(options).survival[0])
