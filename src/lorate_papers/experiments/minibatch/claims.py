"""The claims on rules that are proved on mini-batches."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lorate_papers.experiments.experiment import Claim, Options, Results, all_hold
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
"""Standard errors of the difference over the same starts from which on a loss is clearly higher."""
MATTERS = 0.01
"""Share by which a loss has to be higher to count."""
MARKS = {True: " (higher)", None: " (perhaps higher)", False: ""}


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


def higher(runs: list[Mapping[str, Any]], than: list[Mapping[str, Any]]) -> bool | None:
    """Whether losses are higher than others from the same starts by more than `MATTERS`.

    None where the starts do not decide it: the mean is higher, but not clearly. None too where a run diverged on both
    sides; on one side that is the higher one.
    """
    losses, others = final_losses(runs), final_losses(than)
    lost, other_lost = (not all(map(math.isfinite, values)) for values in (losses, others))
    if lost or other_lost:
        return None if lost and other_lost else lost
    mean, error = mean_and_error(np.subtract(losses, others))
    if mean <= MATTERS * np.mean(others):
        return False
    return True if mean > CLEARLY * error else None


def end_in_words(result: Mapping[str, Any]) -> str:
    """The mean loss at the best constant, and whether a better one may lie outside the grid."""
    return f"{loss_in_words(mean_loss(result['runs']))}{' (at the edge of its grid)' if result['at_edge'] else ''}"


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
            parts.append(
                f"{seen:.3g} {'≤' if seen <= bound else '>'} {bound:.3g} at batch {batch}"
                if math.isfinite(seen)
                else f"a run diverged at batch {batch}"
            )
        words.append(f"{rule}: {', '.join(parts)}")
    return Claim.decide(
        "The bound of Theorem 1 holds: the mean squared relative gradient lies below it (logistic regression, the "
        "longest proved step).",
        f"mean over {size(options).steps} steps and {size(options).seeds} starts; {'; '.join(words)}",
        holds,
    )


def _level(results: Results, options: Options) -> Claim:
    words, found, parts = [], list[bool | None](), list[bool | None]()
    for task, batch in settings(options):
        sgd = results[f"{task}-constant-batch-{batch}"]
        shown = [f"SGD {end_in_words(sgd)}"]
        for rule in PROVED:
            result = results[f"{task}-{rule}-batch-{batch}"]
            found.append(is_higher := higher(result["runs"], sgd["runs"]))
            # whoever ends higher may have a better constant outside its grid
            open_ = is_higher is None or (result if is_higher else sgd)["at_edge"]
            parts.append(None if open_ else not is_higher)
            shown.append(f"{label(rule)} {end_in_words(result)}{MARKS[is_higher]}")
        words.append(f"{TASKS[task]}, batch {batch}: {', '.join(shown)}")
    return Claim.decide(
        "Tuned, the proved rules end level with tuned SGD or below it.",
        f"final loss, mean of {size(options).seeds - 1} starts; {found.count(True)} of {len(found)} higher by more "
        f"than {MATTERS:.0%} and {CLEARLY} standard errors, {found.count(None)} perhaps: by more than {MATTERS:.0%} "
        f"but within {CLEARLY} standard errors; {'; '.join(words)}; {size(options).points} constants a grid, which on "
        "logistic regression spans one decade for SGD and two or three for the others: SGD is tuned more finely there",
        all_hold(parts),
    )


def _auto(results: Results, options: Options) -> Claim:
    words, parts = [], list[bool | None]()
    for task, batch in settings(options):
        auto = mean_loss(results[f"{task}-auto-batch-{batch}"]["runs"])
        tuned = {rule: results[f"{task}-{rule}-batch-{batch}"] for rule in TUNED}
        ends = {rule: mean_loss(result["runs"]) for rule, result in tuned.items()}
        best = min(ends, key=lambda rule: ends[rule])
        level = auto <= (1 + MATTERS) * ends[best]
        lost = math.isinf(auto) and math.isinf(ends[best])
        # a rule with its best constant at the edge of its grid might be better than auto
        parts.append(None if lost or (level and any(result["at_edge"] for result in tuned.values())) else level)
        words.append(
            f"{TASKS[task]}, batch {batch}: {loss_in_words(auto)} against {label(best)} {end_in_words(tuned[best])}"
        )
    return Claim.decide(
        "auto, with nothing tuned, ends level with the best of the tuned rules or below it.",
        f"final loss, mean of {size(options).seeds - 1} starts; {'; '.join(words)}; level means at most {MATTERS:.0%} "
        "above",
        all_hold(parts),
    )


def _carried(results: Results, rule: str, claim: str, wanted: bool) -> Claim:
    found = results[f"logistic-{rule}-batch-{CARRIED_BATCH}"]
    by_factor = {one["factor"]: one["runs"] for one in found["carried"]}
    best = min(FACTORS, key=lambda factor: mean_loss(by_factor[factor]))
    worse = higher(by_factor[1.0], by_factor[best]) if best != 1.0 else False
    # beyond the first and the last factor there may be a better one, than which the constant is worse
    at_edge = best in (min(FACTORS), max(FACTORS))
    carries = None if worse is None or (not worse and at_edge) else not worse
    words = ", ".join(f"{loss_in_words(mean_loss(by_factor[factor]))} at {factor:g} of it" for factor in FACTORS)
    return Claim.decide(
        claim,
        f"logistic regression, batch {CARRIED_BATCH}, final loss at s = {SCALING:g} with the constant "
        f"{found['best']:g} tuned at s = 1 (where it gives {loss_in_words(mean_loss(found['runs']))}): {words}; "
        f"carried means not higher than the best of these by more than {MATTERS:.0%} and {CLEARLY} standard errors, "
        "if the best of these is neither the smallest nor the largest",
        None if carries is None else carries is wanted,
    )
