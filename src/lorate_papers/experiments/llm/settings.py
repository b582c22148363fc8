"""What is compared: starts, rules, grids, and the size of the full and of the quick form."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lorate_papers.experiments.experiment import Options
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.training.tuning import constants

RANK = 8
SMALL_START, LARGE_START = 0.001, 1 / RANK
STARTS = {SMALL_START: "1e-3", LARGE_START: "1/r"}
"""Standard deviations of A at the start, and how they are called."""
TUNED = ("constant", *PAPER, "adamw")
UNTUNED = "auto"
RULES = (*TUNED, UNTUNED)
LARGE = "smollm2"
CLOSE = 0.05
"""A rule comes close to another one if they differ by at most this share of what the other one learned."""
REGRET = 0.02
"""Held-out loss above the best one, relative, at which a rule without a constant still is as good."""


@dataclass(frozen=True)
class Size:
    """How much is run.

    Attributes:
        steps: on the small model.
        batch: sequences a step there.
        middles: of the first three constants, which are half a decade apart.
        finer: then the best constant is also tried multiplied and divided by this; None to leave it at that.
        seeds: runs of each winner.
        every: steps between two looks at the held-out loss.
        large_steps: on the large model; 0 for no run there.
        large_batch: sequences a step there.
    """

    steps: int
    batch: int
    middles: Mapping[str, float]
    finer: float | None
    seeds: int
    every: int
    large_steps: int
    large_batch: int


FULL = Size(
    steps=150,
    batch=8,
    middles={"constant": 3.16, "adaptive": 100, "adaptive-loss": 100, "normalized": 3.16, "adamw": 0.01},
    finer=10**0.25,
    seeds=3,
    every=25,
    large_steps=20,
    large_batch=4,
)
QUICK = Size(
    steps=40,
    batch=8,
    middles={"constant": 1, "adaptive": 30, "adaptive-loss": 30, "normalized": 1, "adamw": 0.01},
    finer=None,
    seeds=2,
    every=10,
    large_steps=0,
    large_batch=2,
)


def size(options: Options) -> Size:
    """The size of a form."""
    return QUICK if options.quick else FULL


def seeds(options: Options) -> list[int]:
    """Seeds of the winners' runs; the first one tunes."""
    return options.seeds(size(options).seeds)


def grid(rule: str, options: Options) -> tuple[float, ...]:
    """The constants that are tried first, as many for each rule; none for the rule without any."""
    if rule == UNTUNED:
        return ()
    middle, half = size(options).middles[rule], 10**0.5
    return constants(middle / half, middle * half, 3)


def run_name(rule: str, start: float) -> str:
    """Name of the run of a rule from a start."""
    return f"{rule}-std-{start:g}"


def large_model(options: Options) -> str:
    """What the large model is called."""
    return "SmolLM2-135M" if options.model is None else Path(options.model).name
