"""What is run: the paper's rules and a constant rate, tuned, on the pointwise convolutions of EfficientNet-Lite0."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from lorate.sweep import Run
from lorate_papers.experiments.experiment import Options
from lorate_papers.experiments.paper_rules import PAPER, tuned_beside_constants
from lorate_papers.training.training_run import Values, lost_above_the_start, train_under_rule
from lorate_papers.training.tuning import constants

TUNED = ("constant", *PAPER)
CENTRES = {"constant": 0.01, "adaptive": 3.0, "adaptive-loss": 1.0, "normalized": 0.03}
"""Middle of each rule's grid, which spans two decades."""
RANK = 8
BATCH = 16
EVALUATIONS = 2
"""Measurements of the held-out loss in a run, after the first."""


class Size(NamedTuple):
    """How much is run."""

    steps: int  # of training
    seeds: int  # starts of each rule
    points: int  # constants in a grid


FULL = Size(240, 3, 7)
QUICK = Size(6, 2, 2)


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def seeds(options: Options) -> list[int]:
    """Seeds of the starts."""
    return options.seeds(size(options).seeds)


def grid(rule: str, options: Options) -> tuple[float, ...]:
    """As many constants for each rule."""
    return constants(CENTRES[rule] / 10, CENTRES[rule] * 10, size(options).points)


def tuned_rule(rule: str, grid: Sequence[float], seeds: Sequence[int], steps: int, quick: bool) -> Values:
    """Tune a rule and run it on all seeds, see `tuned_beside_constants`."""
    return tuned_beside_constants(partial(_descend, steps=steps, quick=quick), rule, grid, seeds)


def _descend(rule: str, lr: float, seed: int, *, steps: int, quick: bool) -> Values:
    adapter = {"rank": RANK, "alpha": RANK}  # scaling 1
    every = max(1, steps // EVALUATIONS)
    run = train_under_rule(
        "pointwise", adapter, rule, lr, steps, BATCH, seed, quick=quick, validate_every=every, keep=steps
    )
    return lost_above_the_start(run)


def runs(options: Options) -> list[Run]:
    """One for each rule."""
    common = {"seeds": seeds(options), "steps": size(options).steps, "quick": options.quick}
    return [Run(f"tuned-{rule}", tuned_rule, {"rule": rule, "grid": grid(rule, options), **common}) for rule in TUNED]
