"""What a run does: tune a rule on the small model, repeat its winner, and take the winner to the large one."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from lorate_papers.experiments.llm.settings import LARGE, RANK, UNTUNED
from lorate_papers.training.recipe import Recipe
from lorate_papers.training.training_run import Values, train_model
from lorate_papers.training.tuning import choose, constants, tune
from lorate_papers.workloads import AdapterSpec, Workload, load_workload

SMALL = "small-lm"
workload = cache(load_workload)
"""Loading takes longer than many steps, and a process has many runs."""


def tuned_and_carried_over(
    rule: str,
    grid: Sequence[float],
    start: float,
    seeds: Sequence[int],
    small: Mapping[str, Any],
    large: Mapping[str, Any],
    finer: float | None = None,
    data: str | None = None,
    model: str | None = None,
    quick: bool = False,
) -> Values:
    """Everything about one rule from one start.

    The best constant of the grid is also tried times and over ``finer``. Taken is the one of all these with the lowest
    held-out loss on the first seed, unless it diverges on another seed: then the next best.

    Args:
        rule: rule or baseline.
        grid: constants to try first; none for ``auto``.
        start: standard deviation of A's entries at the start.
        seeds: the first one tunes.
        small: ``steps``, ``batch`` and ``validate_every`` on the small model.
        large: the same for the large model; no steps: it is left out.
        finer: a factor; None: nothing more is tried.
        data: other text for both.
        model: another large model.
        quick: the small form of both.

    Returns:
        ``rule``, ``start``; ``grid``: constant and held-out loss of each try, smallest constant first; ``lr``: the
        winner; ``at_edge``: whether it is the smallest or the largest one; ``runs``: of it, one a seed; ``large``: its
        run on the large model with the first seed, or None.
    """
    task = workload(SMALL, quick=quick, data=data)

    @cache
    def train(lr: float | None, seed: int) -> Values:
        return _train(task, start, Recipe(rule, lr, seed=seed, **small))

    def trial(lr: float) -> Values:
        return train(lr, seeds[0])

    found: Values = {"rule": rule, "start": start, "lr": None, "at_edge": False, "large": None}
    if rule == UNTUNED:
        found["runs"] = [train(None, seed) for seed in seeds]
        found["grid"] = found["runs"][:1]
    else:
        tried = [*grid, *_nearby(grid, trial, finer)]
        best = choose(sorted(tried), seeds, trial, train, "final_validation")
        found |= {"lr": best.lr, "at_edge": best.at_edge, "runs": best.runs, "grid": best.trials}
    found["grid"] = [{name: run[name] for name in ("lr", "final_validation", "diverged")} for run in found["grid"]]
    if large["steps"]:
        other = workload(LARGE, quick=quick, data=data, model=model)
        found["large"] = _train(other, start, Recipe(rule, found["lr"], seed=seeds[0], **large))
    return found


def _nearby(grid: Sequence[float], trial: Callable[[float], Values], finer: float | None) -> Sequence[float]:
    if finer is None:
        return ()
    (tuned,) = tune(map(trial, grid), "final_validation").values()
    assert tuned.lr is not None
    return constants(tuned.lr / finer, tuned.lr * finer, 2)


def _train(task: Workload, start: float, recipe: Recipe) -> Values:
    model = task.model(AdapterSpec(RANK, alpha=RANK, init_std=start), recipe.seed)  # scaling 1, as in the paper
    return train_model(task, model, recipe)
