"""What is run: a rule is tuned on the small model, its winner repeated and taken to the large model."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from lorate.sweep import Run
from lorate_papers.experiments.experiment import Options
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.training.recipe import Recipe
from lorate_papers.training.training_run import Values, train_model
from lorate_papers.training.tuning import best_constant, choose, constants
from lorate_papers.workloads import AdapterSpec, Workload, load_workload

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


class Size(NamedTuple):
    """How much is run."""

    steps: int  # on the small model
    batch: int  # sequences a step there
    middles: Mapping[str, float]  # of the first three constants, which are half a decade apart
    finer: float | None  # then the best constant is also tried multiplied and divided by this; None to leave it at that
    seeds: int  # runs of each winner
    every: int  # steps between two looks at the held-out loss
    large_steps: int  # on the large model; 0 for no run there
    large_batch: int  # sequences a step there


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


SMALL = "small-lm"
workload = cache(load_workload)
"""Loading takes longer than many steps, and a process has many runs."""


def tuned_and_carried_over(
    rule: str,  # rule or baseline
    grid: Sequence[float],  # constants to try first; none for ``auto``
    start: float,  # standard deviation of A's entries at the start
    seeds: Sequence[int],  # the first one tunes
    small: Mapping[str, Any],  # ``steps``, ``batch`` and ``validate_every`` on the small model
    large: Mapping[str, Any],  # the same for the large model; no steps: it is left out
    finer: float | None = None,  # a factor; None: nothing more is tried
    data: str | None = None,  # other text for both
    model: str | None = None,  # another large model
    quick: bool = False,  # the small form of both
) -> Values:
    """Everything about one rule from one start.

    The best constant of the grid is also tried times and over ``finer``. Taken is the one of all these with the lowest
    held-out loss on the first seed, unless it diverges on another seed: then the next best.

    Returns:
        ``rule``, ``start``; ``grid``: constant and held-out loss of each try, smallest constant first; ``lr``: the
        winner; ``at_edge``: whether it is the smallest or the largest one; ``runs``: of it, one per seed; ``large``:
        its run on the large model with the first seed, or None.
    """
    task = workload(SMALL, quick=quick, data=data)

    @cache
    def train(lr: float | None, seed: int) -> Values:
        return _train(task, start, Recipe(rule, lr, seed=seed, **small))

    def trial(lr: float) -> Values:
        return train(lr, seeds[0])

    outcome: Values = {"rule": rule, "start": start, "lr": None, "at_edge": False, "large": None}
    if rule == UNTUNED:
        outcome["runs"] = [train(None, seed) for seed in seeds]
        outcome["grid"] = outcome["runs"][:1]
    else:
        tried = [*grid, *_nearby(grid, trial, finer)]
        best = choose(sorted(tried), seeds, trial, train, "final_validation")
        outcome |= {"lr": best.lr, "at_edge": best.at_edge, "runs": best.runs, "grid": best.trials}
    outcome["grid"] = [{name: run[name] for name in ("lr", "final_validation", "diverged")} for run in outcome["grid"]]
    if large["steps"]:
        other = workload(LARGE, quick=quick, data=data, model=model)
        outcome["large"] = _train(other, start, Recipe(rule, outcome["lr"], seed=seeds[0], **large))
    return outcome


def _nearby(grid: Sequence[float], trial: Callable[[float], Values], finer: float | None) -> Sequence[float]:
    if finer is None:
        return ()
    best = best_constant(map(trial, grid), "final_validation")
    return constants(best / finer, best * finer, 2)


def _train(task: Workload, start: float, recipe: Recipe) -> Values:
    model = task.model(AdapterSpec(RANK, alpha=RANK, init_std=start), recipe.seed)  # scaling 1, as in the paper
    return train_model(task, model, recipe)


def runs(options: Options) -> list[Run]:
    """One for each rule and start; the short ones last."""
    how = size(options)
    steps = how.large_steps or (3 if options.model is not None else 0)
    given: dict[str, Any] = {
        "seeds": seeds(options),
        "small": {"steps": how.steps, "batch": how.batch, "validate_every": how.every},
        "large": {"steps": steps, "batch": how.large_batch, "validate_every": steps or None},
        "finer": how.finer,
        "quick": options.quick,
    }
    given |= {"data": options.data} if options.data is not None else {}
    given |= {"model": options.model} if options.model is not None else {}
    return [
        Run(
            run_name(rule, start),
            tuned_and_carried_over,
            {"rule": rule, "grid": grid(rule, options), "start": start, **given},
        )
        for rule in RULES
        for start in STARTS
    ]
