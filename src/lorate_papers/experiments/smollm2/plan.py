"""What is run: each rule from each start, at the best of three constants, with three seeds."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lorate.sweep import Run
from lorate_papers.experiments.experiment import Options, Results
from lorate_papers.experiments.llm.plan import LARGE_START, RANK, SMALL_START, STARTS, run_name
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.training.training_run import Values, lost_above_the_start, train_under_rule
from lorate_papers.training.tuned_runs import tuned_runs
from lorate_papers.training.tuning import constants

RULES = ("constant", *PAPER)


class Size(NamedTuple):
    """How much is run."""

    workload: str
    steps: int  # of a run
    batch: int  # sequences a step
    seeds: int  # runs of each rule and start; the first one tunes
    middles: Mapping[float, Mapping[str, float]]  # by start: of the three constants, which are a factor of √10 apart


FULL = Size(
    workload="smollm2",
    steps=200,
    batch=1,
    seeds=3,
    middles={
        SMALL_START: {"constant": 0.316, "adaptive": 3.16, "adaptive-loss": 3.16, "normalized": 0.316},
        LARGE_START: {"constant": 0.0999, "adaptive": 316.2, "adaptive-loss": 316.2, "normalized": 0.316},
    },
)
QUICK = Size(
    workload="small-lm",
    steps=12,
    batch=4,
    seeds=2,
    middles={start: {"constant": 1, "adaptive": 30, "adaptive-loss": 30, "normalized": 1} for start in STARTS},
)


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def seeds(options: Options) -> list[int]:
    """Seeds of the runs."""
    return options.seeds(size(options).seeds)


def grid(rule: str, start: float, options: Options) -> tuple[float, ...]:
    """As many constants for each rule."""
    middle, half = size(options).middles[start][rule], 10**0.5
    return constants(middle / half, middle * half, 3)


def tuned_rule(
    rule: str,
    start: float,  # standard deviation of A
    grid: Sequence[float],  # constants to try
    seeds: Sequence[int],  # of the runs; the first one tunes
    workload: str,
    steps: int,
    batch: int,
    quick: bool,
    **own: str,  # the user's own ``data`` and ``model``, where given
) -> Values:
    """All about a rule from a start, see `tuned_runs`.

    A constant is tried over the whole length: the best ones after 20 steps diverged later. A run that ends above the
    held-out loss it began with counts as diverged: some constant rates jump to the loss of guessing and stay there.
    """
    adapter = {"rank": RANK, "alpha": RANK, "init_std": start}

    def descend(rule: str, lr: float, seed: int) -> Values:
        run = train_under_rule(
            workload, adapter, rule, lr, steps, batch, seed, quick=quick, validate_every=steps, **own
        )
        return lost_above_the_start(run)

    return tuned_runs(descend, rule, grid, seeds, by="final_validation")


def by_rule(results: Results) -> dict[str, Any]:
    """The results in the form of the experiment ``llm``: constant and runs of each rule and start."""
    return {name: {**found, "lr": found["best"]} for name, found in results.items()}


def runs(options: Options) -> list[Run]:
    """Each rule from each start."""
    how = size(options)
    own = {name: value for name, value in (("data", options.data), ("model", options.model)) if value is not None}
    common: dict[str, Any] = {
        "seeds": seeds(options),
        "workload": FULL.workload if options.model is not None else how.workload,
        "steps": how.steps,
        "batch": how.batch,
        "quick": options.quick,
        **own,
    }
    return [
        Run(
            run_name(rule, start),
            tuned_rule,
            {"rule": rule, "start": start, "grid": grid(rule, start, options), **common},
        )
        for rule in RULES
        for start in STARTS
    ]
