"""The claims on rules that are proved on mini-batches."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lorate_papers.experiments.experiment import Claim, Options, Results
from lorate_papers.experiments.minibatch.plan import (
    CARRIED_BATCH,
    FACTORS,
    PROVED,
    SCALING,
    TASKS,
    TUNED,
    label,
    size,
)
from lorate_papers.experiments.rule_claims import loss_in_words
from lorate_papers.training.measures import final_losses, mean_and_error

CLEARLY = 2
"""Standard errors of the difference over the same starts from which on a loss is higher."""


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims, in the order of the report."""
    return [
        _proved_steps(results, options),
        _bounded_noise(results, options),
        _adagrad(results, options),
        _bound(results, options),
        _level(results, options),
        _auto(results, options),
        _carried(results, "relative", "The constant of relative carries from s = 1 to s = 8.", True),
        _carried(results, "constant", "SGD's constant does not carry from s = 1 to s = 8.", False),
    ]


def settings(options: Options) -> Iterator[tuple[str, int]]:
    """Tasks and batches."""
    yield from ((task, batch) for task in TASKS for batch in size(options).batches)


def mean_loss(runs: list[Mapping[str, Any]]) -> float:
    """Over the starts; infinite if one diverged."""
    return float(np.mean(final_losses(runs)))


def higher(runs: list[Mapping[str, Any]], than: list[Mapping[str, Any]]) -> bool:
    """Whether losses are clearly higher than others from the same starts; a run that diverged is."""
    losses, others = final_losses(runs), final_losses(than)
    if not all(map(math.isfinite, losses)):
        return True
    if not all(map(math.isfinite, others)):
        return False
    mean, error = mean_and_error(np.subtract(losses, others))
    return mean > CLEARLY * error


def _proved_steps(results: Results, options: Options) -> Claim:
    names = ("proved-alternate", "proved-relative", "growing-alternate")
    tried = [
        run for name in names for batch in size(options).batches for run in results[f"{name}-batch-{batch}"]["runs"]
    ]
    lost = sum(run["diverged"] for run in tried)
    steps = [
        run["lr"] for batch in size(options).batches for run in results[f"growing-alternate-batch-{batch}"]["runs"]
    ]
    return Claim.decide(
        "No run diverges with the step size that Theorem 1 allows: 1/L for alternate and 1/L' for relative on logistic "
        "regression, whose noise is bounded; √(Lb/(ΛT))/L for alternate on least squares, whose noise grows.",
        f"{lost} of {len(tried)} runs ended above the first loss; √(Lb/(ΛT)) is {min(steps):.2g} to {max(steps):.2g}",
        lost == 0,
    )


def _bounded_noise(results: Results, options: Options) -> Claim:
    tried = [
        (batch, run)
        for batch in size(options).batches
        for run in results[f"matrix-alternate-batch-{batch}"]["grid"]
        if run["lr"] <= 1
    ]
    lost = [(batch, run["lr"]) for batch, run in tried if run["diverged"]]
    words = ", ".join(f"γ = {lr:g} at batch {batch}" for batch, lr in lost)
    return Claim.decide(
        "No run of alternate on least squares diverges with γ up to 1, which Theorem 1 would allow if the noise were "
        "bounded.",
        f"{len(lost)} of {len(tried)} runs of alternate on the grids ended above the first loss"
        + (f": {words}" if lost else ""),
        not lost,
    )


def _adagrad(results: Results, options: Options) -> Claim:
    tried = [
        run for task, batch in settings(options) for run in results[f"{task}-relative-adagrad-batch-{batch}"]["grid"]
    ]
    lost = [run["lr"] for run in tried if run["diverged"]]
    return Claim.decide(
        "relative with AdaGrad-norm ends below the first loss whatever its constant: Theorem 2 allows any.",
        f"{len(lost)} of {len(tried)} runs on the grids ended above the first loss after {size(options).steps} steps"
        + (f", the smallest of their constants {min(lost):g}" if lost else ""),
        not lost,
    )


def _bound(results: Results, options: Options) -> Claim:
    words, holds = [], True
    for rule in ("alternate", "relative"):
        parts = []
        for batch in size(options).batches:
            found = results[f"proved-{rule}-batch-{batch}"]
            # a run that was lost has no mean: it cannot lie below the bound
            seen = float(np.mean([run.get("relative_sq", math.inf) for run in found["runs"]]))
            bound = float(np.mean(found["bounds"]))
            holds &= seen <= bound
            parts.append(f"{seen:.3g} ≤ {bound:.3g} at batch {batch}" if seen <= bound else f"{seen:.3g} > {bound:.3g}")
        words.append(f"{rule}: {', '.join(parts)}")
    return Claim.decide(
        "The bound of Theorem 1 holds: the mean squared relative gradient lies below it (logistic regression, the "
        "longest proved step).",
        f"mean over {size(options).steps} steps and {size(options).seeds} starts; {'; '.join(words)}",
        holds,
    )


def _level(results: Results, options: Options) -> Claim:
    words, worse, count = [], 0, 0
    for task, batch in settings(options):
        sgd = results[f"{task}-constant-batch-{batch}"]["runs"]
        parts = [f"SGD {loss_in_words(mean_loss(sgd))}"]
        for rule in PROVED:
            runs = results[f"{task}-{rule}-batch-{batch}"]["runs"]
            is_worse = higher(runs, sgd)
            worse, count = worse + is_worse, count + 1
            parts.append(f"{label(rule)} {loss_in_words(mean_loss(runs))}{' (higher)' if is_worse else ''}")
        words.append(f"{TASKS[task]}, batch {batch}: {', '.join(parts)}")
    return Claim.decide(
        "Tuned, the proved rules end level with tuned SGD or below it.",
        f"final loss, mean of {size(options).seeds - 1} starts; {worse} of {count} higher by more than {CLEARLY} "
        f"standard errors; {'; '.join(words)}; {size(options).points} constants a grid, which on logistic regression "
        "spans one decade for SGD and two or three for the others: SGD is tuned more finely there",
        worse == 0,
    )


def _auto(results: Results, options: Options) -> Claim:
    words, holds = [], True
    for task, batch in settings(options):
        auto = mean_loss(results[f"{task}-auto-batch-{batch}"]["runs"])
        ends = {rule: mean_loss(results[f"{task}-{rule}-batch-{batch}"]["runs"]) for rule in TUNED}
        best = min(ends, key=lambda rule: ends[rule])
        holds &= auto <= ends[best]
        words.append(
            f"{TASKS[task]}, batch {batch}: {loss_in_words(auto)} against {loss_in_words(ends[best])} ({label(best)})"
        )
    return Claim.decide(
        "auto, with nothing tuned, ends at or below the best of the tuned rules.",
        f"final loss, mean of {size(options).seeds - 1} starts; {'; '.join(words)}",
        holds,
    )


def _carried(results: Results, rule: str, claim: str, wanted: bool) -> Claim:
    found = results[f"logistic-{rule}-batch-{CARRIED_BATCH}"]
    by_factor = {one["factor"]: one["runs"] for one in found["carried"]}
    best = min(FACTORS, key=lambda factor: mean_loss(by_factor[factor]))
    carries = not higher(by_factor[1.0], by_factor[best])
    words = ", ".join(f"{loss_in_words(mean_loss(by_factor[factor]))} at {factor:g} of it" for factor in FACTORS)
    return Claim.decide(
        claim,
        f"logistic regression, batch {CARRIED_BATCH}, final loss at s = {SCALING:g} with the constant "
        f"{found['best']:g} tuned at s = 1 (where it gives {loss_in_words(mean_loss(found['runs']))}): {words}; "
        f"carried means not higher than the best of these by more than {CLEARLY} standard errors; "
        "larger constants were not tried",
        carries is wanted,
    )
