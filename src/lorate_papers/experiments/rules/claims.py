"""The claims on speed and sensitivity."""

import math
from collections.abc import Mapping
from statistics import median

import numpy as np

from lorate_papers.experiments.experiment import Claim, Options, Results
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.experiments.rule_claims import loss_in_words, one_ended, refused_in_words, second_in_words
from lorate_papers.experiments.rules.plan import DECADES, ENOUGH, TUNED, Task, grid, seeds, tasks
from lorate_papers.training.measures import Result, final_losses, steps_to

CLOSE = 0.02
"""Losses are close when one is at most this share above the other."""
ALIKE = 1.1
"""Steps within this factor count as the same."""


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims, in the order of the report."""
    return [
        _normalized_against_adaptive(results, options),
        _two_adaptive_rules(results, options),
        _against_constant(results, options),
        _sensitivity(results, options),
        _transfer(results, options),
        _against_adamw(results, options),
        _nothing_to_tune(results, options),
    ]


def steps_needed(results: Results, workload: str, task: Task, target: float) -> dict[str, float]:
    """Median steps of each rule at its best constant to a loss; infinite if it is not reached."""
    return {
        rule: median([_steps(run, task, target) for run in results[f"{workload}-{rule}"]["runs"]])
        for rule in task.rules
    }


def _steps(run: Result, task: Task, target: float) -> float:
    if task.by == "final_loss":
        return steps_to(run, target)
    steps, losses = run["validation"]["step"], np.array(run["validation"]["loss"], dtype=float)
    reached = np.flatnonzero(losses <= target)
    if not len(reached) or reached[0] == 0:
        return math.inf if not len(reached) else 0.0
    place = int(reached[0])  # between two measurements in a straight line
    share = (losses[place - 1] - target) / (losses[place - 1] - losses[place])
    return float(steps[place - 1] + share * (steps[place] - steps[place - 1]))


def common_target(results: Results, workload: str, task: Task) -> float:
    """The loss that the constant rate and every rule of the paper reach: the highest median of their last losses."""
    return max(median(final_losses(results[f"{workload}-{rule}"]["runs"], task.by)) for rule in TUNED)


def _comparable(results: Results, options: Options) -> bool:
    """Whether every target lies below the first loss: where a rule diverged or learned nothing, steps mean nothing."""
    return all(
        common_target(results, workload, task)
        < min(_start(run, task) for run in results[f"{workload}-constant"]["runs"])
        for workload, task in tasks(options).items()
    )


def _start(run: Result, task: Task) -> float:
    return float(run["first_loss"] if task.by == "final_loss" else run["validation"]["loss"][0])


def _at_targets(results: Results, options: Options) -> dict[str, dict[str, float]]:
    return {
        workload: steps_needed(results, workload, task, common_target(results, workload, task))
        for workload, task in tasks(options).items()
    }


def _normalized_against_adaptive(results: Results, options: Options) -> Claim:
    needed = _at_targets(results, options)
    return Claim.decide(
        "normalized is at least as fast as adaptive on the same task, each at its best constant.",
        _in_words(results, options, needed, ("adaptive", "normalized")),
        all(steps["normalized"] <= ALIKE * steps["adaptive"] for steps in needed.values())
        if _comparable(results, options)
        else None,
    )


def _two_adaptive_rules(results: Results, options: Options) -> Claim:
    needed = _at_targets(results, options)
    pairs = [(steps["adaptive-loss"], steps["adaptive"]) for steps in needed.values()]
    return Claim.decide(
        "adaptive-loss, which costs nothing, is as fast as adaptive, which measures the frozen weights' gradient.",
        _in_words(results, options, needed, ("adaptive", "adaptive-loss")),
        all(one <= ALIKE * other and other <= ALIKE * one for one, other in pairs)
        if _comparable(results, options)
        else None,
    )


def _against_constant(results: Results, options: Options) -> Claim:
    needed = _at_targets(results, options)
    return Claim.decide(
        "Each of the paper's rules reaches the target in fewer steps than the best constant rate.",
        _in_words(results, options, needed, TUNED),
        all(steps[rule] < steps["constant"] for steps in needed.values() for rule in PAPER)
        if _comparable(results, options)
        else None,
    )


def _in_words(
    results: Results, options: Options, needed: Mapping[str, Mapping[str, float]], rules: tuple[str, ...]
) -> str:
    parts = []
    for workload, task in tasks(options).items():
        steps = ", ".join(
            f"{rule} {_count(needed[workload][rule])}{_second(results, workload, task, rule)}" for rule in rules
        )
        target = common_target(results, workload, task)
        goal = f"to {task.loss} {target:.3g}: {steps}" if math.isfinite(target) else "a rule diverged"
        parts.append(f"{task.words}, {goal}")
    return f"median steps of {len(seeds(options))} starts; {'; '.join(parts)}; alike means within a factor {ALIKE:g}"


def _second(results: Results, workload: str, task: Task, rule: str) -> str:
    return second_in_words(results[f"{workload}-{rule}"], task.by)


def _count(steps: float) -> str:
    return f"{steps:.3g}" if math.isfinite(steps) else "never"


def usable(tuning: Result, task: Task) -> int:
    """Constants that bring most of the best fall of the loss that decides, on the start on which all were tried."""
    start = _start(tuning["runs"][0], task)
    falls = [start - loss for loss in final_losses(tuning["grid"], task.by)]
    return sum(fall > 0 and fall >= ENOUGH * max(falls) for fall in falls)


def _sensitivity(results: Results, options: Options) -> Claim:
    words, holds = [], True
    for workload, task in tasks(options).items():
        counts = {rule: usable(results[f"{workload}-{rule}"], task) for rule in task.rules}
        lost = {rule: sum(trial["diverged"] for trial in results[f"{workload}-{rule}"]["grid"]) for rule in task.rules}
        holds &= all(counts[rule] > counts["constant"] for rule in PAPER)
        shown = ", ".join(f"{rule} {counts[rule]} ({lost[rule]} diverged)" for rule in task.rules)
        words.append(f"{task.words}: {shown}")
    return Claim.decide(
        "The paper's rules are less sensitive to their constant than a constant rate.",
        f"of {len(grid('constant', options))} constants over {DECADES} decades, those that bring {ENOUGH:.0%} of the "
        f"rule's best fall of the loss; {'; '.join(words)}",
        holds,
    )


def _transfer(results: Results, options: Options) -> Claim:
    ratios = {}
    for rule in TUNED:
        one, other = (results[f"{workload}-{rule}"]["best"] for workload in tasks(options))
        ratios[rule] = max(one / other, other / one)
    bests = {
        rule: ", ".join(
            f"{results[f'{workload}-{rule}']['best']:.3g}{refused_in_words(results[f'{workload}-{rule}'], task.by)}"
            for workload, task in tasks(options).items()
        )
        for rule in TUNED
    }
    words = ", ".join(f"{rule} {ratios[rule]:.3g} ({bests[rule]})" for rule in TUNED)
    return Claim.decide(
        "The best constant of the paper's rules carries over from one task to the other better than a constant rate.",
        f"factor between the best constants on the {' and on '.join(task.words for task in tasks(options).values())}: "
        f"{words}",
        all(ratios[rule] < ratios["constant"] for rule in PAPER),
    )


def _against_adamw(results: Results, options: Options) -> Claim:
    workload, task = "small-lm", tasks(options)["small-lm"]
    ends = {rule: median(final_losses(results[f"{workload}-{rule}"]["runs"], task.by)) for rule in task.rules}
    best = min(TUNED, key=lambda rule: ends[rule])
    words = ", ".join(
        f"{rule} {loss_in_words(loss, '.3f')}{_second(results, workload, task, rule)}" for rule, loss in ends.items()
    )
    return Claim.decide(
        "On the language model the best of these rules keeps up with AdamW at its best learning rate.",
        f"{task.loss} after {task.steps} steps, median: {words}",
        ends[best] <= ends["adamw"] if one_ended(ends[best], ends["adamw"]) else None,
    )


def _nothing_to_tune(results: Results, options: Options) -> Claim:
    task = tasks(options)["small-lm"]
    plain, best = (
        {trial["lr"]: loss for trial, loss in zip(trials, final_losses(trials, task.by), strict=True)}
        for trials in (results[f"small-lm-{rule}"]["grid"] for rule in ("auto", "adamw"))
    )
    own, other = plain[1.0], min(best.values())
    more = f", {own / other - 1:+.1%}" if math.isfinite(own) and math.isfinite(other) else ""
    return Claim.decide(
        "On the language model auto without any setting keeps up with AdamW at its best constant learning rate.",
        f"{task.loss} after {task.steps} steps, one start: auto {loss_in_words(own, '.3f')}, AdamW "
        f"{loss_in_words(other, '.3f')} (best of {len(best)}){more}; keeping up means at most {CLOSE:.0%} above",
        own <= (1 + CLOSE) * other if one_ended(own, other) else None,
    )
