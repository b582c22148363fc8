"""The claims on the growth of the adapters, the rate of the gradient, and the proved bounds."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from lorate_papers.experiments.experiment import Claim, Options, Results, all_hold
from lorate_papers.experiments.logistic.plan import GIVEN_L, PROVED, TUNED, seeds, size
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.training.measures import Result, column, exponent, falling_exponent, median

GROWING = 0.1
"""Exponent of the squared norm against the number of steps from which on adapters count as growing."""
SPREAD = 0.15
"""An exponent this close to 1/2 counts as 1/2."""
ORDERS = {"1/log T": None, "1/√T": -0.5, "1/T": -1.0}
"""Exponents of the three orders; the logarithm's depends on the window."""


def rate_claims(results: Results, options: Options) -> list[Claim]:
    """The claims, in the order of the report."""
    return [
        growth(results, options),
        slower_than_linear(results, options),
        _which_order(results, options),
        _sum_of_steps(results, options),
        bounds(results, options),
    ]


def main_runs(results: Results, options: Options) -> Iterator[tuple[str, Result]]:
    """Every run of a rule at its best constant that did not diverge, with the rule's name."""
    for rank in size(options).ranks:
        for rule in TUNED:
            yield from ((rule, run) for run in results[f"tuned-{rule}-rank-{rank}"]["runs"] if not run["diverged"])
        for rule in PROVED:
            yield from ((rule, results[f"proved-{rule}-rank-{rank}-seed-{seed}"]) for seed in seeds(options))


def growth(results: Results, options: Options) -> Claim:
    """Whether the adapters still grow at the end, under every rule."""
    exponents: dict[str, list[float]] = {}
    for rule, run in main_runs(results, options):
        exponents.setdefault(rule, []).append(exponent(run, "stacked_sq", run["steps"] / 2))
    # a run that is too short for an exponent (nan) is the weakest: min alone would pass it over
    least = {rule: min(values, key=_nan_first) for rule, values in exponents.items()}
    weakest = min(least, key=lambda rule: _nan_first(least[rule]))
    return Claim.decide(
        f"‖V‖ grows without bound on logistic regression: after {size(options).steps} epochs it still grows under "
        "every rule.",
        f"least exponent of ‖V‖² against the epoch over the second half {least[weakest]:.2f} ({weakest}); growing "
        f"means above {GROWING:g}",
        None if options.quick or math.isnan(least[weakest]) else least[weakest] > GROWING,
    )


def _nan_first(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def slower_than_linear(results: Results, options: Options) -> Claim:
    """Whether the gradient falls more slowly than 1/T."""
    words: list[str] = []
    slower: list[bool | None] = []
    for rule in ("constant", *PAPER):
        values = [falling_exponent(run, "grad_sq") for name, run in main_runs(results, options) if name == rule]
        known = [value for value in values if not math.isnan(value)]
        if known:
            words.append(f"{rule} {median(known):.2f} ({min(known):.2f} to {max(known):.2f})")
        else:
            words.append(f"{rule} not known: no run is past its peak")
        slower.append(median(known) > -1 if known else None)
    return Claim.decide(
        "The asymptotic rate is slower than 1/T: ‖∇J‖² falls more slowly than 1/T under every tuned rule.",
        f"exponent of the least ‖∇J‖² since its peak, last two thirds of the epochs, median and range: "
        f"{', '.join(words)}",
        None if options.quick else all_hold(slower),
    )


def _which_order(results: Results, options: Options) -> Claim:
    how = size(options)
    exponents = {
        rule: falling_exponent(results[f"long-{rule}"], "grad_sq", share=0.2)
        for rule in ("sharp", "adaptive-loss", "constant")
    }
    # slope of -log log T in log T, at the geometric middle of the window
    logarithm = -1 / math.log(how.long * math.sqrt(0.2))
    nearest = {
        rule: min(ORDERS, key=lambda order: abs(value - (ORDERS[order] or logarithm)))
        for rule, value in exponents.items()
        if not math.isnan(value)
    }
    words = ", ".join(
        f"{rule} {value:.2f} (nearest {nearest[rule]})" if rule in nearest else f"{rule} not known: not past its peak"
        for rule, value in exponents.items()
    )
    return Claim.decide(
        "‖∇J‖² keeps to our O(1/√T) and not merely to O(1/log T): it falls at least as fast as 1/√T.",
        f"exponent of the least ‖∇J‖² since its peak over epochs {how.long / 5:g} to {how.long}: {words}; 1/√T means "
        f"−0.5, 1/log T here {logarithm:.2f}",
        None
        if options.quick
        else all_hold(value <= -0.5 if rule in nearest else None for rule, value in exponents.items()),
    )


def _sum_of_steps(results: Results, options: Options) -> Claim:
    how = size(options)
    grown = exponent(results["long-sharp"], "sum_eta", how.long / 5)
    return Claim.decide(
        "The sum of the step sizes of a proved rule grows like √T, as our bound says, not like log T.",
        f"exponent of Σ η under sharp over epochs {how.long / 5:g} to {how.long}: {grown:.2f}; √T means 0.5 (allowed "
        f"{SPREAD:g} either way), log T here {1 / math.log(how.long * math.sqrt(0.2)):.2f}",
        None if options.quick else abs(grown - 0.5) < SPREAD,
    )


def bounds(results: Results, options: Options) -> Claim:
    """Whether the proofs held in every run."""
    lines = violated = 0
    closest, better = 0.0, math.inf
    for rank in size(options).ranks:
        for rule in PROVED:
            for seed in seeds(options):
                run = results[f"proved-{rule}-rank-{rank}-seed-{seed}"]
                held = [line["verdict"] == "holds" for line in run["certificate"]["lines"] if _is_proved(line)]
                if "bounds" in run:
                    gradient, total = column(run, "min_grad_sq"), column(run, "sum_eta")
                    bound, least = (np.array(run["bounds"][name]) for name in ("min_grad_sq", "sum_eta"))
                    held += [bool(np.all(gradient <= bound)), bool(np.all(total >= least * (1 - 1e-9)))]
                    closest = max(closest, float(np.max(gradient / bound)))
                    if "paper" in run["bounds"]:
                        better = min(better, run["bounds"]["paper"][-1] / bound[-1])
                lines, violated = lines + len(held), violated + held.count(False)
    return Claim.decide(
        "No proved inequality is violated: descent of every step, bounds of Σ η, of ‖V‖ and of min ‖∇J‖², under "
        f"{', '.join(GIVEN_L)} and backtracking.",
        f"{violated} of {lines} inequalities violated; min ‖∇J‖² came within {closest:.2g} of its a-priori bound; for "
        f"theory our bound at the last epoch is {better:.0f} times below the paper's O(1/log T)",
        violated == 0 and lines > 0,
    )


def _is_proved(line: dict[str, Any]) -> bool:
    """Runs of before lines had a standing say it in another word."""
    return bool(line.get("proved", line.get("standing") == "proved"))
