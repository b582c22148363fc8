"""The claims on bounded and free adapters."""

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from lorate_papers.experiments.bounded.plan import CAPS, CONTROLLED, CONTROLS, RULES, TASKS, size
from lorate_papers.experiments.experiment import Claim, Options, Results, all_hold
from lorate_papers.experiments.rule_claims import loss_in_words, one_ended
from lorate_papers.training.measures import Result, column, exponent, falling_exponent, final_losses, median

GROWING = 0.1
"""Exponent of the squared norm against the number of steps from which on adapters count as growing."""
BETWEEN = 0.75
"""Between the exponents 1/2 and 1 of the sum of the step sizes."""
LOOSE, SENSITIVE = 0.5, 1.5
"""Caps from this share of the free run's last norm on; losses that differ by this factor differ."""
COST = 0.01
"""A loss that is higher by this share costs something."""
TRAINED = 0.9
"""A run whose loss ends at no more than this share of the first one has trained."""
NOT_YET = "still leaving the flat region around the origin"


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims, in the order of the report."""
    return [
        _growth(results, options),
        _buys_linear(results, options),
        _sum_of_steps(results, options),
        _bound(results),
        _rescue(results, options, "projection", "A cap on ‖V‖"),
        _rescue(results, options, "decay", "Weight decay"),
        _control(results),
        _price(results),
        *(_sensitivity(results, options, task) for task in TASKS),
    ]


def runs_of(results: Results, task: str, rule: str, control: str) -> list[Result]:
    """The runs of one combination, one a start."""
    found: list[Result] = results[f"compared-{task}-{rule}"][control]
    return found


def _median_exponent(runs: list[Result], name: str) -> float:
    return median([exponent(run, name, run["steps"] / 2) for run in runs])


def _growth(results: Results, options: Options) -> Claim:
    exponents = {
        task: {rule: _median_exponent(runs_of(results, task, rule, "free"), "stacked_sq") for rule in RULES}
        for task in TASKS
    }
    words = "; ".join(f"{TASKS[task]}: {_listed(values)}" for task, values in exponents.items())
    parts = [
        None if math.isnan(value) else (value > GROWING) == (task == "logistic")
        for task, values in exponents.items()
        for value in values.values()
    ]
    return Claim.decide(
        "Free adapters grow without bound where the loss has no minimum (logistic regression), and stop where it has "
        "one (least squares).",
        f"exponent of ‖V‖² against the step over the second half, median; {words}; growing means above {GROWING:g}",
        None if options.quick else all_hold(parts),
    )


def _falls(results: Results, rule: str) -> dict[str, list[float]]:
    """Exponents with which the gradient mapping falls on logistic regression; nan in the flat region at the start."""
    return {
        control: [falling_exponent(run, "mapping_sq") for run in runs_of(results, "logistic", rule, control)]
        for control in CONTROLS
    }


def _left_the_origin(results: Results, rule: str) -> bool:
    return not any(math.isnan(value) for values in _falls(results, rule).values() for value in values)


def _buys_linear(results: Results, options: Options) -> Claim:
    words, free, bounded = [], [], []
    for rule in CONTROLLED:
        if not _left_the_origin(results, rule):
            words.append(f"{rule}: {NOT_YET}")
            continue
        middle = {control: median(values) for control, values in _falls(results, rule).items()}
        free.append(middle["free"])
        bounded += [middle["projection"], middle["decay"]]
        words.append(f"{rule}: {_by_control(middle)}")
    return Claim.decide(
        "It is the bound on the adapters that buys the rate 1/T: on logistic regression a controlled rule falls at "
        "least like 1/T with bounded adapters, and more slowly with free ones.",
        f"exponent of the least squared gradient mapping since its peak over the last two thirds of the steps, median; "
        f"{'; '.join(words)}",
        None if options.quick or not free else max(bounded) <= -1 < min(free),
    )


def _sum_of_steps(results: Results, options: Options) -> Claim:
    words, free, capped = [], [], []
    for rule in CONTROLLED:
        if not _left_the_origin(results, rule):
            words.append(f"{rule}: {NOT_YET}")
            continue
        grown = {
            control: _median_exponent(runs_of(results, "logistic", rule, control), "sum_eta") for control in CONTROLS
        }
        free.append(grown["free"])
        capped.append(grown["projection"])
        words.append(f"{rule}: {_by_control(grown)}")
    return Claim.decide(
        "What a bound on the adapters buys for certain is Σ η: under a controlled rule it grows like T with a cap, and "
        "like √T without.",
        f"exponent of Σ η over the second half on logistic regression, median; {'; '.join(words)}; the border between "
        f"√T and T is drawn at {BETWEEN:g}",
        None if options.quick or not free else max(free) < BETWEEN < min(capped),
    )


def _by_control(values: Mapping[str, float]) -> str:
    return ", ".join(f"{CONTROLS[control]} {value:.2f}" for control, value in values.items())


def _bound(results: Results) -> Claim:
    closest, held, count = 0.0, 0, 0
    for task in TASKS:
        for run in (run for control in CONTROLS for run in runs_of(results, task, "theory", control)):
            least = np.fmin.accumulate(column(run, "mapping_sq"))
            ratio = float(np.nanmax(least / np.array(run["bounded_bound"])))
            closest, held, count = max(closest, ratio), held + (ratio <= 1), count + 1
    return Claim.decide(
        "The paper's O(1/T) for ‖V_t‖ ≤ C holds with the largest norm seen as C: for free runs as proved, for "
        "projected and decayed ones, of which it is not proved, with the gradient mapping.",
        f"{held} of {count} runs of theory below the bound at every kept step; at most {closest:.2g} of it",
        held == count,
    )


def survivors(results: Results, task: str) -> dict[str, list[float]]:
    """For each control the constant rates with which the adapters have trained."""
    rows = results[f"survivors-{task}"]["rows"]
    return {
        control: [
            row["lr"]
            for row in rows
            if row["control"] == control and not row["diverged"] and row["final_loss"] <= TRAINED * row["first_loss"]
        ]
        for control in CONTROLS
    }


def in_stretches(kept: Sequence[float], tried: Sequence[float]) -> str:
    """The constants that were kept, in stretches without a gap; both in ascending order.

    >>> in_stretches([1, 3, 10, 100], [1, 3, 10, 30, 100, 300]), in_stretches([], [1])
    ('1 to 10, 100', 'none')
    """
    stretches = [list(some) for all_kept, some in itertools.groupby(tried, kept.__contains__) if all_kept]
    return ", ".join(f"{one[0]:g} to {one[-1]:g}" if len(one) > 1 else f"{one[0]:g}" for one in stretches) or "none"


def _rescue(results: Results, options: Options, control: str, measure: str) -> Claim:
    words, holds = [], True
    count, steps = size(options).survival
    for task in TASKS:
        surviving = survivors(results, task)
        holds &= len(surviving[control]) > len(surviving["free"])
        tried = sorted({row["lr"] for row in results[f"survivors-{task}"]["rows"]})
        kept = ", ".join(
            f"{CONTROLS[name]} {len(surviving[name])} ({in_stretches(surviving[name], tried)})"
            for name in ("free", control)
        )
        words.append(f"{TASKS[task]}: {kept}")
    return Claim.decide(
        f"{measure} rescues an uncontrolled rate: constants train that diverge when the adapters are free.",
        f"of {count} constant rates, those that after {steps} steps ended at {TRAINED:.0%} of the first loss or less; "
        f"{'; '.join(words)}",
        holds,
    )


def _control(results: Results) -> Claim:
    runs = [run for task in TASKS for rule in ("theory", "sharp") for run in runs_of(results, task, rule, "free")]
    lost = sum(run["diverged"] for run in runs)
    return Claim.decide(
        "A step size with a proof needs no bound on the adapters: free runs of theory and sharp never diverge.",
        f"{lost} of {len(runs)} diverged",
        lost == 0,
    )


def _price(results: Results) -> Claim:
    words, parts = [], list[bool | None]()
    for task in TASKS:
        ends = {
            control: fmean(
                median(final_losses(runs_of(results, task, rule, control))) for rule in ("sharp", "adaptive-loss")
            )
            for control in CONTROLS
        }
        costs = {control: ends[control] / ends["free"] - 1 for control in ("projection", "decay")}
        # a number over a run that diverged says nothing, and infinity over infinity is not one
        parts += [cost >= COST if math.isfinite(ends["free"]) else None for cost in costs.values()]
        shown = [f"free {loss_in_words(ends['free'])}"]
        for control, cost in costs.items():
            more = f" ({cost:+.1%})" if math.isfinite(cost) else ""
            shown.append(f"{CONTROLS[control]} {loss_in_words(ends[control])}{more}")
        words.append(f"{TASKS[task]}: {', '.join(shown)}")
    return Claim.decide(
        "A bound on the adapters costs training loss.",
        f"final loss, mean of sharp and adaptive-loss, each the median of the starts; {'; '.join(words)}; costs means "
        f"at least {COST:.0%} more",
        all_hold(parts),
    )


def _sensitivity(results: Results, options: Options, task: str) -> Claim:
    found = results[f"caps-{task}"]
    free = median(final_losses([{"final_loss": loss} for loss in found["free"]]))
    ends = {share: median(final_losses([{"final_loss": loss} for loss in found[f"{share:g}"]])) for share in CAPS}
    loose = [loss for share, loss in ends.items() if share >= LOOSE]
    listed = ", ".join(f"{loss_in_words(loss)} at {share:g}" for share, loss in ends.items())
    return Claim.decide(
        f"How tight the bound is hardly matters, from half the norm at which the free run ends on ({TASKS[task]}).",
        f"final loss of sharp after {size(options).survival[1]} steps, median; {listed} of that norm, "
        f"{loss_in_words(free)} free; the start lies at {found['start']:.2f}; hardly: a factor below {SENSITIVE:g}",
        max(loose) < SENSITIVE * min(loose) if one_ended(*loose) else None,
    )


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{rule} {value:.2f}" for rule, value in values.items())
