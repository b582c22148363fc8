"""The claims on the start: the flat region at the origin, the early steps, the rank."""

import itertools
import math
from statistics import median

import numpy as np

from lorate_papers.experiments.experiment import Claim, Options, Results
from lorate_papers.experiments.logistic.plan import EARLY, ESCAPE, FALL, seeds, size
from lorate_papers.experiments.logistic.rate_claims import main_runs
from lorate_papers.training.measures import column, falling_exponent, steps_to

CORRELATED = 0.95
"""A correlation above this is called high."""
ALIKE, NEAR = 1.25, 0.2
"""Numbers of steps within this factor, and exponents within this distance, count as the same."""


def start_claims(results: Results, options: Options) -> list[Claim]:
    """The claims, in the order of the report."""
    return [
        _flat(results, options),
        _least_gradient(results, options),
        _early(results, options),
        _order(results, options),
        _speed(results, options),
    ]


def escape(results: Results, options: Options, rule: str) -> dict[float, float]:
    """Steps until the loss has fallen to 90% of its first value, by the standard deviation of A at the start."""
    runs = {std: results[f"origin-{rule}-std-{std:g}"] for std in size(options).stds}
    return {std: steps_to(run, FALL * run["first_loss"]) for std, run in runs.items()}


def _flat(results: Results, options: Options) -> Claim:
    words = []
    for rule, constant in ESCAPE.items():
        found = ", ".join(f"{_steps(count)} at {std:g}" for std, count in escape(results, options, rule).items())
        words.append(f"{rule} (a = {constant:g}) {found}")
    counts = list(escape(results, options, "constant").values())
    squares = column(results["origin-constant-std-0.1"], "grad_sq")
    return Claim.decide(
        "The loss is flat around the origin: with B = 0 a constant rate starts slowly, and the more slowly the smaller "
        "A starts.",
        f"epochs until the loss has fallen by 10%, by A's standard deviation: {'; '.join(words)}; at 0.1 ‖∇J‖² starts "
        f"{squares.max() / squares[0]:.0f} times below its peak",
        all(one > other for one, other in itertools.pairwise(counts)),
    )


def _steps(count: float) -> str:
    return f"{count:g}" if math.isfinite(count) else "never"


def _least_gradient(results: Results, options: Options) -> Claim:
    runs = [run for _, run in main_runs(results, options)]
    places = [column(run, "step")[int(np.argmin(column(run, "grad_sq")))] / run["steps"] for run in runs]
    early = sum(place <= 0.05 for place in places)
    return Claim.decide(
        "min ‖∇J‖², which the theorems bound, tells how far a run has come.",
        f"in {early} of {len(runs)} runs the least ‖∇J‖² of all {size(options).steps} epochs lies in the first 5% of "
        "them, in the flat region around the origin",
        early == 0,
    )


def _early(results: Results, options: Options) -> Claim:
    runs = [run for name, run in results.items() if name.startswith("early-")]
    words, medians = [], []
    for name, title in (("eta", "step sizes"), ("loss", "losses")):
        early, later = ([run[name][part] for run in runs] for part in ("early", "later"))
        medians.append(median(early))
        words.append(
            f"{title}: {median(early):.3f} early ({min(early):.3f} to {max(early):.3f}), {median(later):.3f} later"
        )
    return Claim.decide(
        "The early stages of adaptive and adaptive-loss are highly correlated.",
        f"Pearson correlation, both with a = {runs[0]['lr']:g}, {len(seeds(options))} starts, early means the first "
        f"{EARLY:.0%} of the epochs; {'; '.join(words)}; high means above {CORRELATED:g}",
        min(medians) > CORRELATED,
    )


def _power(value: float) -> str:
    return "not known" if math.isnan(value) else f"{value:.2f}"


def _order(results: Results, options: Options) -> Claim:
    runs = {rank: results[f"equal-start-rank-{rank}"] for rank in size(options).equal_ranks}
    exponents = {rank: falling_exponent(run, "grad_sq") for rank, run in runs.items()}
    spread = max(exponents.values()) - min(exponents.values())
    return Claim.decide(
        "The order of the rate does not depend on the rank r beyond ‖V₀‖.",
        f"exponent of the least ‖∇J‖² since its peak, adaptive-loss from starts of one norm: "
        f"{', '.join(f'{_power(value)} at r = {rank}' for rank, value in exponents.items())}; "
        f"the same means within {NEAR:g}",
        None if options.quick or any(map(math.isnan, exponents.values())) else spread <= NEAR,
    )


def _speed(results: Results, options: Options) -> Claim:
    reached = {start: halved(results, options, start) for start in ("equal", "default")}
    shown = {
        start: ", ".join(f"{_steps(steps)} at r = {rank}" for rank, steps in found.items())
        for start, found in reached.items()
    }
    equal = reached["equal"].values()
    return Claim.decide(
        "Nor does the speed depend on the rank r beyond ‖V₀‖.",
        f"epochs of adaptive-loss until the loss is halved, from starts of one norm: {shown['equal']}; from PEFT's "
        f"default start, whose norm grows with r: {shown['default']}; the same means within a factor {ALIKE:g}",
        None if math.isinf(min(equal)) else max(equal) <= ALIKE * min(equal),
    )


def halved(results: Results, options: Options, start: str) -> dict[int, float]:
    """Steps until the loss is half its first value, by rank."""
    runs = {rank: results[f"{start}-start-rank-{rank}"] for rank in size(options).equal_ranks}
    return {rank: steps_to(run, run["first_loss"] / 2) for rank, run in runs.items()}
