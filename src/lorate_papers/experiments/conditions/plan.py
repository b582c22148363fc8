"""What is run: every rule with every constant from every start; each run is read at several lengths."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from lorate.sweep import Run
from lorate_papers.experiments.experiment import Options
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.training.measures import column
from lorate_papers.training.training_run import Values, train_under_rule
from lorate_papers.training.tuning import constants

RULES = ("constant", *PAPER)
CENTRES = {"constant": 0.3, "adaptive": 30.0, "adaptive-loss": 30.0, "normalized": 0.2}
"""Middle of each rule's grid, which spans three decades."""
RANK = 4


class Size(NamedTuple):
    """How much is run."""

    starts: tuple[float, ...]  # standard deviations of A
    horizons: tuple[int, ...]  # numbers of steps, the longest one last
    seeds: int
    points: int  # constants of a rule; one more than three times those in a decade


FULL = Size((0.001, 0.01, 0.1, 1.0), (20, 60, 200, 400), 3, 7)
QUICK = Size((0.001, 0.1), (10, 40), 2, 7)


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def seeds(options: Options) -> list[int]:
    """Seeds of the starts."""
    return options.seeds(size(options).seeds)


def grid(rule: str, options: Options) -> tuple[float, ...]:
    """As many constants for each rule."""
    return constants(CENTRES[rule] / 10**1.5, CENTRES[rule] * 10**1.5, size(options).points)


def run_name(rule: str, start: float) -> str:
    """Name of the runs of a rule from a start."""
    return f"{rule}-std-{start:g}"


def losses_of_all_constants(
    rule: str, start: float, grid: Sequence[float], seeds: Sequence[int], horizons: Sequence[int], quick: bool
) -> Values:
    """Training loss after each number of steps.

    Returns:
        ``grid``; ``losses`` ``[constants, seeds, horizons]``, None where the run had diverged or lay above its start.
    """
    losses = [[_losses(rule, lr, start, seed, horizons, quick) for seed in seeds] for lr in grid]
    return {"grid": list(grid), "losses": losses}


def _losses(rule: str, lr: float, start: float, seed: int, horizons: Sequence[int], quick: bool) -> list[float | None]:
    last = horizons[-1] + 1  # the loss of a step is that before it
    adapter: dict[str, Any] = {"rank": RANK, "alpha": RANK, "init_std": start}
    run = train_under_rule("logistic", adapter, rule, lr, last, None, seed, quick=quick, keep=last)
    found = dict(zip(run["trace"]["step"], column(run, "loss").tolist(), strict=True))
    lost = run["steps"] if run["diverged"] else last + 1
    sound = {step: loss for step, loss in found.items() if step < lost and loss <= found[1]}
    return [sound.get(steps + 1) for steps in horizons]


def runs(options: Options) -> list[Run]:
    """One for each rule and start."""
    how = size(options)
    common: dict[str, Any] = {"seeds": seeds(options), "horizons": how.horizons, "quick": options.quick}
    return [
        Run(
            run_name(rule, start), losses_of_all_constants,
            {"rule": rule, "start": start, "grid": grid(rule, options), **common},
        )
        for rule in RULES
        for start in how.starts
    ]  # fmt: skip
