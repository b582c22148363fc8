"""Tune a rule's constant on the first start, run it on all of them, and set constant rates against it."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

from lorate_papers.training.training_run import Values
from lorate_papers.training.tuning import Criterion, choose

Descend = Callable[[str, float, int], Values]
"""One run: rule, constant, seed."""
Scale = Literal["first step", "mean step"]


def tuned_runs(
    descend: Descend,  # does one run, see `lorate_papers.training.training_run.train_under_rule`
    rule: str,  # the rule
    grid: Sequence[float],  # constants to try
    seeds: Sequence[int],  # starts
    *,
    by: Criterion = "final_loss",  # what is to be small on the first start
    # names of further runs on all seeds, at these multiples of the best constant
    multiples: Mapping[str, float] | None = None,
    # constant rates to run on all seeds too: at the rule's first step size, or at their mean
    against: Sequence[Scale] = (),
) -> Values:
    """Tune a constant, and run it on all seeds.

    Taken is the best constant on the first seed with which no other seed diverges, see `choose`.

    Returns:
        - ``grid``: what came of each constant on the first seed;
        - ``best``, ``at_edge`` (of the grid), ``refused`` (better on the first seed, but diverged on another);
        - ``runs``: all results at the best constant, one per seed;
        - the results of each of ``multiples``, and what came of each of ``against``, by their names.
    """

    @cache
    def run(lr: float, seed: int) -> Values:
        return descend(rule, lr, seed)

    best = choose(grid, seeds, lambda lr: run(lr, seeds[0]), run, by)
    tuning: Values = {
        "grid": [outcome(one) for one in best.trials],
        "best": best.lr,
        "at_edge": best.at_edge,
        "refused": best.refused,
        "runs": best.runs,
    }
    for name, multiple in (multiples or {}).items():
        tuning[name] = [run(multiple * best.lr, seed) for seed in seeds]
    for scale in against:
        pairs = zip(best.runs, seeds, strict=True)
        tuning[scale] = [outcome(descend("constant", _step_size(one, scale), seed)) for one, seed in pairs]
    return tuning


def outcome(run: Mapping[str, Any]) -> Values:
    """What came of a run, without its curves."""
    names = ("lr", "seed", "steps", "final_loss", "final_validation", "diverged", "rises")
    return {name: run[name] for name in names}


def _step_size(run: Mapping[str, Any], scale: Scale) -> float:
    trace = run["trace"]
    return float(trace["eta"][0] if scale == "first step" else trace["sum_eta"][-1] / run["steps"])
