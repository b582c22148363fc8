"""What is run: each rule from each start with each seed, a run of its own; its constant is tuned on a few steps."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from lorate.sweep import Run
from lorate_papers.experiments.experiment import Options, Results
from lorate_papers.experiments.llm.plan import RANK, STARTS, run_name
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.training.training_run import Values, train_under_rule
from lorate_papers.training.tuning import best_constant, constants

RULES = ("constant", *PAPER)


class Size(NamedTuple):
    """How much is run."""

    workload: str
    steps: int  # of a run
    trial: int  # steps with which a constant is tried
    batch: int  # sequences a step
    seeds: int  # runs of each rule and start; the first one tunes
    middles: dict[str, float]  # of the three constants, which are a factor of √10 apart


FULL = Size("smollm2", 200, 20, 1, 3, {"constant": 0.316, "adaptive": 31.6, "adaptive-loss": 31.6, "normalized": 0.316})
QUICK = Size("small-lm", 12, 4, 4, 2, {"constant": 1, "adaptive": 30, "adaptive-loss": 30, "normalized": 1})


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def seeds(options: Options) -> list[int]:
    """Seeds of the runs."""
    return options.seeds(size(options).seeds)


def grid(rule: str, options: Options) -> tuple[float, ...]:
    """As many constants for each rule."""
    middle, half = size(options).middles[rule], 10**0.5
    return constants(middle / half, middle * half, 3)


def tuned_run(
    rule: str,
    start: float,  # standard deviation of A
    seed: int,  # of the run
    grid: Sequence[float],  # constants to try
    first: int,  # seed with which they are tried
    workload: str,
    steps: int,
    trial: int,
    batch: int,
    quick: bool,
) -> Values:
    """A run of a rule at the constant that is best after ``trial`` steps.

    Returns:
        Of the run, with ``grid``: what came of the constants tried, and ``at_edge``: whether the best is the smallest
        or the largest.
    """
    trials = _trials(rule, start, first, tuple(grid), workload, trial, batch, quick)
    lr = best_constant(trials, "final_validation")
    run = _train(rule, start, lr, seed, workload, steps, batch, quick)
    return {**run, "grid": trials, "at_edge": lr in (min(grid), max(grid))}


@cache
def _trials(
    rule: str, start: float, seed: int, grid: Sequence[float], workload: str, steps: int, batch: int, quick: bool
) -> list[Values]:
    runs = [_train(rule, start, lr, seed, workload, steps, batch, quick) for lr in grid]
    return [{name: run[name] for name in ("lr", "final_validation", "diverged")} for run in runs]


def _train(rule: str, start: float, lr: float, seed: int, workload: str, steps: int, batch: int, quick: bool) -> Values:
    adapter: dict[str, Any] = {"rank": RANK, "alpha": RANK, "init_std": start}
    return train_under_rule(workload, adapter, rule, lr, steps, batch, seed, quick=quick, validate_every=steps)


def by_rule(results: Results, options: Options) -> dict[str, Any]:
    """The results in the form of the experiment ``llm``: constant and runs of each rule and start."""
    found = {}
    for rule in RULES:
        for start in STARTS:
            runs = [results[f"{run_name(rule, start)}-seed-{seed}"] for seed in seeds(options)]
            found[run_name(rule, start)] = {"runs": runs, "lr": runs[0]["lr"], "at_edge": runs[0]["at_edge"]}
    return found


def runs(options: Options) -> list[Run]:
    """The seeds of a rule and a start follow each other: in one process its constant is tuned once."""
    how = size(options)
    common: dict[str, Any] = {"workload": how.workload, "steps": how.steps, "trial": how.trial, "batch": how.batch}
    common |= {"first": seeds(options)[0], "quick": options.quick}
    return [
        Run(
            f"{run_name(rule, start)}-seed-{seed}",
            tuned_run,
            {"rule": rule, "start": start, "seed": seed, "grid": grid(rule, options), **common},
        )
        for rule in RULES
        for start in STARTS
        for seed in seeds(options)
    ]
