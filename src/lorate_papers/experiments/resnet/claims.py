"""The claims."""

import math

import numpy as np

from lorate_papers.experiments.experiment import Claim, Options, Results, all_hold
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.experiments.resnet.plan import PROVED, RANK, TUNED, seeds, size
from lorate_papers.experiments.rule_claims import (
    ByRule,
    ends_of,
    loss_in_words,
    one_ended,
    second_in_words,
    tuned_claims,
)
from lorate_papers.training.measures import Result, column, exponent, final_losses, median

STANDING = 0.1
"""Exponent of the squared norm against the number of steps up to which adapters count as standing still."""
MOVED = 1.05
"""What ‖V‖ has to have grown by before it can be said to have stopped."""
WINDOWS = 6
"""Stretches of the last two thirds of a run over which squared gradients of batches are averaged."""


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims, in the order of the report."""
    settings = {f"rank {RANK}": tuned(results)}
    return [
        *tuned_claims(settings, f"{size(options).points} constants over two decades"),
        normalized_is_best(tuned(results), "a residual network"),
        growth_stops(tuned(results), "a residual network", size(options).steps, decided=not options.quick),
        _rate(results, options),
        _measured_smoothness(results, options),
        _adamw(results),
    ]


def tuned(results: Results) -> ByRule:
    """The paper's rules and the constant rate."""
    return {rule: results[f"tuned-{rule}"] for rule in TUNED if rule != "adamw"}


def windowed_exponent(run: Result, name: str) -> float:
    """Exponent of a noisy column against the step over the last two thirds of a run, from means over stretches."""
    steps, values = column(run, "step"), column(run, name)
    late = steps > run["steps"] / 3
    parts = np.array_split(np.flatnonzero(late), WINDOWS)
    means = {"step": [steps[part].mean() for part in parts], name: [values[part].mean() for part in parts]}
    return exponent({"trace": means}, name, 0)


def normalized_is_best(by_rule: ByRule, network: str) -> Claim:
    """From the tuned runs of the paper's rules and of the constant rate; open where a loser is not tuned."""
    ends = ends_of(by_rule)
    held_out = {rule: median(final_losses(tuning["runs"], "final_validation")) for rule, tuning in by_rule.items()}
    best = min(ends, key=lambda rule: ends[rule])
    lost = not one_ended(*ends.values())
    losers = [rule for rule in ends if rule != "normalized"] if best == "normalized" else ["normalized"]
    words = ", ".join(
        f"{rule} {loss_in_words(ends[rule])} ({loss_in_words(held_out[rule])})"
        f"{' at the edge of its grid' if by_rule[rule]['at_edge'] else ''}{second_in_words(by_rule[rule])}"
        for rule in ends
    )
    return Claim.decide(
        f"Of the paper's rules and the constant rate, normalized is the best one on {network}.",
        f"final training loss (held-out loss), median: {words}",
        None if lost or any(by_rule[rule]["at_edge"] for rule in losers) else best == "normalized",
    )


def growth_stops(by_rule: ByRule, network: str, steps: int, *, decided: bool) -> Claim:
    """From the same runs; too short ones leave it open."""
    words: list[str] = []
    parts: list[bool | None] = []
    for rule, tuning in by_rule.items():
        runs = [run for run in tuning["runs"] if not run["diverged"]]
        if runs:
            late = median([exponent(run, "stacked_sq", run["steps"] / 2) for run in runs])
            norms = [column(run, "stacked_sq") for run in runs]
            ratio = median([float(np.sqrt(values[-1] / values[0])) for values in norms])
            parts.append(None if math.isnan(late) or ratio < MOVED else late <= STANDING)
            words.append(f"{rule} {late:.3f} (‖V‖ grew to {ratio:.2f} times its start)")
        else:
            parts.append(None)
            words.append(f"{rule} diverged")
    return Claim.decide(
        f"‖V‖ stops growing on {network}.",
        f"exponent of ‖V‖² against the step over the second half of {steps} steps, median: "
        f"{', '.join(words)}; standing still means at most {STANDING:g}, after having grown to at least {MOVED:g} "
        "times the start",
        all_hold(parts) if decided else None,
    )


def _rate(results: Results, options: Options) -> Claim:
    words: list[str] = []
    parts: list[bool | None] = []
    for rule in PAPER:
        runs = [run for run in results[f"tuned-{rule}"]["runs"] if not run["diverged"]]
        if runs:
            values = [windowed_exponent(run, "grad_sq") for run in runs]
            parts.append(None if math.isnan(median(values)) else median(values) <= -1)
            words.append(f"{rule} {median(values):.2f} ({min(values):.2f} to {max(values):.2f})")
        else:
            parts.append(None)
            words.append(f"{rule} diverged")
    return Claim.decide(
        "The asymptotic rate is 1/T: ‖∇J‖² falls at least as fast as 1/T under the paper's rules.",
        f"exponent of ‖∇J‖² of the batches over the last two thirds of {size(options).steps} steps, median and range: "
        f"{', '.join(words)}",
        None if options.quick else all_hold(parts),
    )


def _measured_smoothness(results: Results, options: Options) -> Claim:
    words, holds = [], True
    for rule in PROVED:
        runs = results[f"untuned-{rule}"]["runs"]
        # held-out losses: that of the first batch is noisy, and all starts have the same (B = 0)
        start = runs[0]["validation"]["loss"][0]
        ends = final_losses(runs, "final_validation")
        holds &= all(end < start for end in ends)
        words.append(f"{rule} {loss_in_words(median(ends))}")
    smoothness = results["untuned-theory"]["smoothness"]
    return Claim.decide(
        "The rules with a proof stay stable here too, given the curvature at the start as L: no run diverges or ends "
        "above its start. (The proofs do not cover mini-batches or an L from one point.)",
        f"L = {smoothness:.3g}; held-out loss {start:.3g} at the start, after {size(options).steps} steps, median of "
        f"{len(seeds(options))} starts: {', '.join(words)}",
        holds,
    )


def _adamw(results: Results) -> Claim:
    ends = ends_of(tuned(results))
    best = min(ends, key=lambda rule: ends[rule])
    other = ends_of({"adamw": results["tuned-adamw"]})["adamw"]
    return Claim.decide(
        "The best of these rules reaches the loss of a tuned AdamW in as many steps.",
        f"final loss, median: {best} {loss_in_words(ends[best])}, AdamW {loss_in_words(other)}",
        ends[best] <= other if one_ended(ends[best], other) else None,
    )
