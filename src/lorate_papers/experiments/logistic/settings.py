"""Sizes, grids and names of the runs."""

from dataclasses import dataclass

from lorate_papers.experiments.experiment import Options
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.training.tuning import constants

TUNED = ("constant", *PAPER)
GIVEN_L = ("theory", "sharp", "one-factor", "majorizer")
"""Rules that take L and have nothing to tune."""
PROVED = (*GIVEN_L, "backtracking")

CENTRES = {"constant": 0.3, "adaptive": 30.0, "adaptive-loss": 30.0, "normalized": 0.2}
"""Middle of each rule's grid."""
LARGE, SMALL = 10.0, 0.1
"""The two other scales of the constant rate, as multiples of its best."""
EARLY = 0.1
"""The early stage: the first tenth of the steps."""
ESCAPE = {"constant": 0.3, "adaptive-loss": 10.0}
"""Constants of the runs that leave the flat region at the origin."""
START_NORM = 1.1547
"""Norm of all adapters at PEFT's default start with rank 4: A's entries have variance 1/(3n)."""
FALL = 0.9
"""The loss has begun to fall when it is at most this share of its first value."""


@dataclass(frozen=True)
class Size:
    """How much is run.

    Attributes:
        steps: of full-batch descent, which are epochs.
        seeds: starts of each tuned rule.
        points: constants in a grid, over three decades.
        ranks: of the main runs.
        equal_ranks: ranks that are compared from starts of one norm.
        long: steps of the long runs.
        stds: standard deviations of A at the start, for the flat region at the origin.
    """

    steps: int
    seeds: int
    points: int
    ranks: tuple[int, ...]
    equal_ranks: tuple[int, ...]
    long: int
    stds: tuple[float, ...]


FULL = Size(1000, 3, 7, (4, 20), (4, 8, 12, 20), 4000, (0.001, 0.01, 0.1, 1.0))
QUICK = Size(150, 3, 7, (4,), (4, 8), 400, (0.001, 0.1))


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def seeds(options: Options) -> list[int]:
    """Seeds of the starts."""
    return options.seeds(size(options).seeds)


def grid(rule: str, options: Options) -> tuple[float, ...]:
    """Three decades around the middle, as many constants for each rule."""
    centre = CENTRES[rule]
    return constants(centre / 10**1.5, centre * 10**1.5, size(options).points)


def adapter(rank: int, init_std: float | None = None) -> dict[str, float | None]:
    """LoRA with scaling 1."""
    return {"rank": rank, "alpha": rank, "init_std": init_std}
