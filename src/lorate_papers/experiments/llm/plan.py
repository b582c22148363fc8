"""What is run: each rule from each start, tuned on one seed, the two best constants compared on all of them."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from lorate.sweep import Run
from lorate_papers.experiments.experiment import Options
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.training.recipe import Recipe
from lorate_papers.training.training_run import Values, train_model
from lorate_papers.training.tuning import best_constant, choose, constants
from lorate_papers.workloads import AdapterSpec, load_workload

RANK = 8
SMALL_START, LARGE_START = 0.001, 1 / RANK
STARTS = {SMALL_START: "1e-3", LARGE_START: "1/r"}
"""Standard deviations of A at the start, and how they are called."""
TUNED = ("constant", *PAPER, "adamw")
UNTUNED = "auto"
RULES = (*TUNED, UNTUNED)
CLOSE = 0.05
"""A rule comes close to another one if they differ by at most this share of what the other one learned."""
REGRET = 0.02
"""Held-out loss above the best one, relative, at which a rule without a constant still is as good."""


class Size(NamedTuple):
    """How much is run."""

    steps: int  # of a run
    batch: int  # sequences a step
    middles: Mapping[float, Mapping[str, float]]  # by start: of the first three constants, half a decade apart
    finer: float | None  # then the best constant is also tried multiplied and divided by this; None to leave it at that
    finalists: int  # constants that are run on all seeds
    seeds: int  # runs of each of them
    every: int  # steps between two looks at the held-out loss


FULL = Size(
    steps=150,
    batch=8,
    middles={
        SMALL_START: {"constant": 3.16, "adaptive": 56.2, "adaptive-loss": 56.2, "normalized": 3.16, "adamw": 0.01},
        LARGE_START: {"constant": 3.16, "adaptive": 562, "adaptive-loss": 562, "normalized": 3.16, "adamw": 0.01},
    },
    finer=10**0.25,
    finalists=2,
    seeds=5,
    every=25,
)
QUICK = Size(
    steps=40,
    batch=8,
    middles={
        start: {"constant": 1, "adaptive": 30, "adaptive-loss": 30, "normalized": 1, "adamw": 0.01} for start in STARTS
    },
    finer=None,
    finalists=1,
    seeds=2,
    every=10,
)


def size(options: Options) -> Size:
    """The size of a form."""
    return QUICK if options.quick else FULL


def seeds(options: Options) -> list[int]:
    """Seeds of the finalists' runs; the first one says who they are."""
    return options.seeds(size(options).seeds)


def grid(rule: str, start: float, options: Options) -> tuple[float, ...]:
    """The constants that are tried first, as many for each rule; none for the rule without any."""
    if rule == UNTUNED:
        return ()
    middle, half = size(options).middles[start][rule], 10**0.5
    return constants(middle / half, middle * half, 3)


def run_name(rule: str, start: float) -> str:
    """Name of the run of a rule from a start."""
    return f"{rule}-std-{start:g}"


SMALL = "small-lm"
workload = cache(load_workload)
"""Loading takes longer than many steps, and a process has many runs."""


def tuned_rule(
    rule: str,  # rule or baseline
    start: float,  # standard deviation of A's entries at the start
    grid: Sequence[float],  # constants to try first; none for ``auto``
    seeds: Sequence[int],  # the first one tries all constants
    finalists: int,  # constants that are run on all seeds
    finer: float | None = None,  # a factor; None: nothing more is tried
    data: str | None = None,  # other text
    quick: bool = False,  # the small form of the model
    **length: Any,  # ``steps``, ``batch`` and ``validate_every``
) -> Values:
    """Everything about one rule from one start.

    The best constant of the grid is also tried times and over ``finer``. Those of all these with the lowest held-out
    losses on the first seed are run on all seeds, and the lowest mean wins: see `choose`.

    Returns:
        ``rule``, ``start``; ``grid``: constant and held-out loss of each try, smallest constant first; ``lr``: the
        winner; ``at_edge``: whether it is the smallest or the largest one; ``runs``: of it, one per seed.
    """
    task = workload(SMALL, quick=quick, data=data)

    @cache
    def train(lr: float | None, seed: int) -> Values:
        model = task.model(AdapterSpec(RANK, alpha=RANK, init_std=start), seed)  # scaling 1, as in the paper
        return train_model(task, model, Recipe(rule, lr, seed=seed, **length))

    def trial(lr: float) -> Values:
        return train(lr, seeds[0])

    outcome: Values = {"rule": rule, "start": start, "lr": None, "at_edge": False}
    if rule == UNTUNED:
        outcome["runs"] = [train(None, seed) for seed in seeds]
        outcome["grid"] = outcome["runs"][:1]
    else:
        tried = [*grid, *_nearby(grid, trial, finer)]
        best = choose(sorted(tried), seeds, trial, train, "final_validation", finalists)
        outcome |= {"lr": best.lr, "at_edge": best.at_edge, "runs": best.runs, "grid": best.trials}
    outcome["grid"] = [{name: run[name] for name in ("lr", "final_validation", "diverged")} for run in outcome["grid"]]
    return outcome


def _nearby(grid: Sequence[float], trial: Callable[[float], Values], finer: float | None) -> Sequence[float]:
    if finer is None:
        return ()
    best = best_constant(map(trial, grid), "final_validation")
    return constants(best / finer, best * finer, 2)


def runs(options: Options) -> list[Run]:
    """One for each rule and start; the short ones last."""
    how = size(options)
    given: dict[str, Any] = {
        "seeds": seeds(options),
        "finalists": how.finalists,
        "finer": how.finer,
        "steps": how.steps,
        "batch": how.batch,
        "validate_every": how.every,
        "quick": options.quick,
    }
    given |= {"data": options.data} if options.data is not None else {}
    return [
        Run(
            run_name(rule, start),
            tuned_rule,
            {"rule": rule, "start": start, "grid": grid(rule, start, options), **given},
        )
        for rule in RULES
        for start in STARTS
    ]
