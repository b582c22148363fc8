"""The claims on the symmetric case."""

import itertools
import math
from collections.abc import Sequence

from lorate_papers.experiments.burer_monteiro.plan import FALL, RULES, WORDS, seeds, size
from lorate_papers.experiments.experiment import Claim, Options, Results, all_hold
from lorate_papers.training.measures import Result, falling_exponent, median, steps_to

SOLVED = 1e-6
"""Sensing is solved when f has fallen to this share of its first value."""
FOUND = 1e-3
"""The matrix is found when the relative error is below this."""
ALIKE = 1e-3
"""Values of f are the same within this distance, relative."""


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims, in the order of the report."""
    return [
        _proved(results, options),
        _recovery(results, options),
        _faster(results, options),
        _rate(results, options),
        _more_columns(results, options),
        _one_value(results, options),
        _flat(results, options),
    ]


def runs_of(results: Results, options: Options, name: str) -> list[Result]:
    """The runs of one kind, one a start."""
    return [results[f"{name}-seed-{seed}"] for seed in seeds(options)]


def _proved(results: Results, options: Options) -> Claim:
    runs = [run for problem in WORDS for rule in RULES for run in runs_of(results, options, f"{problem}-{rule}")]
    steps, violated = sum(run["steps"] for run in runs), sum(run["violated"] for run in runs)
    ratios = [run["bound_ratio"] for run in runs if run["bound_ratio"] is not None]
    return Claim.decide(
        "The proofs carry over to f(VVᵀ): every step falls by at least what theory (a quarter of η‖∇‖²) and sharp "
        "(half of it) prove, no step of the majorizer rises, and min ‖∇‖² stays below its bound.",
        f"{violated} of {steps} steps violated; min ‖∇‖² at most {max(ratios):.2g} of its bound",
        violated == 0 and max(ratios) <= 1,
    )


def _recovery(results: Results, options: Options) -> Claim:
    errors = {rule: max(run["error"] for run in runs_of(results, options, f"sensing-{rule}")) for rule in RULES}
    return Claim.decide(
        "From every random start every rule finds the matrix that was measured.",
        f"largest relative error of {len(seeds(options))} starts: {_listed(errors, '.1e')}; found means below "
        f"{FOUND:g}",
        max(errors.values()) < FOUND,
    )


def _faster(results: Results, options: Options) -> Claim:
    words, holds = [], True
    for problem in WORDS:
        needed: dict[str, float] = {}
        by_start = list(zip(*(runs_of(results, options, f"{problem}-{rule}") for rule in RULES), strict=True))
        targets = [_target(problem, runs) for runs in by_start]
        for place, rule in enumerate(RULES):
            pairs = zip(by_start, targets, strict=True)
            needed[rule] = median([steps_to(runs[place], target) for runs, target in pairs])
        holds &= needed["sharp"] < needed["theory"] and needed["majorizer"] <= needed["sharp"]
        words.append(f"{WORDS[problem]}: {_listed(needed, 'g')}")
    return Claim.decide(
        "The sharp step needs fewer steps than the paper's, and the majorizer's no more than the sharp one.",
        f"median steps, in sensing to {SOLVED:g} of the first value, in max-cut to the lowest value that all reach; "
        f"{'; '.join(words)}",
        holds,
    )


def _target(problem: str, runs: Sequence[Result]) -> float:
    if problem == "sensing":
        return float(SOLVED * runs[0]["first_loss"])
    return float(max(run["trace"]["loss"][-1] for run in runs))


def _rate(results: Results, options: Options) -> Claim:
    exponents = {
        rule: median(
            [falling_exponent(run, "grad_sq", floor=1e-8) for run in runs_of(results, options, f"sensing-{rule}")]
        )
        for rule in RULES
    }
    return Claim.decide(
        "Where V stays bounded and the minimum is sharp, ‖∇‖² falls faster than the proved 1/T.",
        "sensing, exponent of the least ‖∇‖² since its peak until it has fallen by 8 decades, median: "
        f"{_listed(exponents, '.1f')}",
        all_hold(None if math.isnan(value) else value < -1 for value in exponents.values()),
    )


def _more_columns(results: Results, options: Options) -> Claim:
    needed = {
        rank: median([steps_to(run, SOLVED * run["first_loss"]) for run in runs_of(results, options, f"rank-{rank}")])
        for rank in size(options).ranks
    }
    first, *more = needed.values()
    words = ", ".join(f"{_steps(steps)} with {rank} columns" for rank, steps in needed.items())
    return Claim.decide(
        "More columns than the solution has rank slow the descent down.",
        f"steps of the majorizer to {SOLVED:g} of the first value, median; {words}",
        all(steps > first for steps in more),
    )


def _one_value(results: Results, options: Options) -> Claim:
    spreads = {}
    for rank in size(options).cut_ranks:
        ends = [run["final_loss"] for run in runs_of(results, options, f"cut-rank-{rank}")]
        spreads[rank] = (max(ends) - min(ends)) / abs(min(ends))
    few, many = size(options).cut_ranks[0], size(options).cut_ranks[-1]
    words = ", ".join(f"{spread:.1e} with {rank}" for rank, spread in spreads.items())
    return Claim.decide(
        f"With more than √(2n) columns every start ends at one value of the max-cut function, with {few} columns not.",
        f"relative spread of the final values of {len(seeds(options))} starts, majorizer; {words} columns; the same "
        f"means below {ALIKE:g}",
        spreads[many] < ALIKE <= spreads[few],
    )


def _flat(results: Results, options: Options) -> Claim:
    words, parts = [], []
    for problem, name in WORDS.items():
        counts = {norm: steps_down(results, options, problem, norm) for norm in size(options).norms}
        listed = ", ".join(f"{_steps(count)} from {norm:g} times the usual V₀" for norm, count in counts.items())
        words.append(f"{name} {listed}")
        parts.append(all(one > other for one, other in itertools.pairwise(counts.values())))
    return Claim.decide(
        "f(VVᵀ) is flat around V = 0: the closer to 0 a descent starts, the longer it stays there.",
        f"steps of rule sharp until f has fallen by 10%, median of {len(seeds(options))} starts: {'; '.join(words)}",
        all(parts),
    )


def steps_down(results: Results, options: Options, problem: str, norm: float) -> float:
    """Steps until f has begun to fall from a start of a relative norm, median of the starts."""
    runs = runs_of(results, options, f"start-{norm:g}-{problem}")
    return median([steps_to(run, FALL * run["first_loss"]) for run in runs])


def _steps(count: float) -> str:
    return f"{count:g}" if math.isfinite(count) else "never"


def _listed(values: dict[str, float], form: str) -> str:
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())
