"""Sizes and names of the runs."""

from dataclasses import dataclass
from typing import Any

from lorate_papers.experiments.experiment import Options

RULES = ("theory", "sharp", "majorizer")
WORDS = {"sensing": "matrix sensing", "max-cut": "smooth max-cut"}
FALL = 0.9
"""f has begun to fall when it is at most this share of its first value."""


@dataclass(frozen=True)
class Size:
    """How much is run.

    Attributes:
        sensing: arguments of `lorate_papers.experiments.burer_monteiro.problems.matrix_sensing`, without the seed.
        cut: of `smooth_max_cut`, without the seed.
        steps: of the rules sharp and majorizer; theory gets ten times as many.
        starts: random starts of each kind.
        ranks: columns of V in sensing, the solution's rank first.
        cut_ranks: columns of V in max-cut; the last is above the square root of 2n.
        cut_steps: steps of each max-cut rank.
        norms: of the first V, for the flat region at the origin.
    """

    sensing: dict[str, Any]
    cut: dict[str, Any]
    steps: int
    starts: int
    ranks: tuple[int, ...]
    cut_ranks: tuple[int, ...]
    cut_steps: int
    norms: tuple[float, ...]


FULL = Size(
    {"size": 30, "rank": 2, "measurements": 400}, {"size": 40, "degree": 6.0, "penalty": 10.0},
    500, 5, (2, 4, 30), (2, 4, 10), 4000, (0.001, 0.01, 0.1, 1.0),
)  # fmt: skip
QUICK = Size(
    {"size": 15, "rank": 2, "measurements": 200}, {"size": 20, "degree": 5.0, "penalty": 10.0},
    600, 3, (2, 4), (2, 7), 1500, (0.001, 0.1),
)  # fmt: skip


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def seeds(options: Options) -> list[int]:
    """Seeds of the starts."""
    return options.seeds(size(options).starts)
