"""What is run, in the full and in the quick form."""

from dataclasses import dataclass
from typing import Any

from lorate_papers.experiments.experiment import Options
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.training.tuning import constants

TUNED = ("constant", *PAPER, "adamw")
"""Rules with a constant to tune; AdamW for comparison."""
PROVED = ("theory", "sharp", "one-factor", "majorizer", "backtracking")
"""Rules with nothing to tune; all but the last are given L."""
CENTRES = {"constant": 0.03, "adaptive": 3.0, "adaptive-loss": 3.0, "normalized": 0.1, "adamw": 3e-3}
"""Middle of each rule's grid, which spans two decades."""
RANK = 8
ADAPTER: dict[str, Any] = {"rank": RANK, "alpha": RANK}
"""LoRA with scaling 1."""
BATCH = 32
MEASURED_ON = 128
"""Training images on which L is measured."""


@dataclass(frozen=True)
class Size:
    """How much is run.

    Attributes:
        steps: of training.
        seeds: starts of each rule.
        points: constants in a grid.
    """

    steps: int
    seeds: int
    points: int


FULL = Size(240, 3, 6)
QUICK = Size(60, 2, 3)


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def seeds(options: Options) -> list[int]:
    """Seeds of the starts."""
    return options.seeds(size(options).seeds)


def grid(rule: str, options: Options) -> tuple[float, ...]:
    """As many constants for each rule."""
    return constants(CENTRES[rule] / 10, CENTRES[rule] * 10, size(options).points)
