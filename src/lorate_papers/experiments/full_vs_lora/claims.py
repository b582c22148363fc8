"""The claims."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean

from lorate_papers.experiments.experiment import Claim, Options, Results, all_hold
from lorate_papers.experiments.full_vs_lora.plan import (
    FULL_TUNING,
    LORA,
    TASKS,
    Cost,
    cost_of_a_step,
    losses_at_equal_cost,
    variants,
)
from lorate_papers.experiments.rule_claims import loss_in_words
from lorate_papers.training.measures import ahead, leads, with_error

EQUAL: dict[Cost, str] = {
    "steps": "At equal steps",
    "FLOPs": "At equal floating-point operations",
    "seconds": "In equal processor time",
}


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims, in the order of the report."""
    return [
        *(_full_is_ahead(results, task, cost, words) for cost, words in EQUAL.items() for task in TASKS),
        *(_rank(results, task) for task in TASKS),
        _cheaper(results, "FLOPs", "needs fewer floating-point operations"),
        _cheaper(results, "seconds", "takes less processor time"),
        _memory(results),
        _learning_rate(results, options),
        *(_overfitting(results, options, task) for task in TASKS),
    ]


def _full_is_ahead(results: Results, task: str, cost: Cost, words: str) -> Claim:
    return _lower(
        f"{words}, training all weights reaches a lower held-out loss than LoRA of any rank tried ({task}).",
        "held-out loss",
        losses_at_equal_cost(results, task, cost),
        [(FULL_TUNING, name) for name in LORA],
    )


def _rank(results: Results, task: str) -> Claim:
    losses = losses_at_equal_cost(results, task, "steps")
    pairs = [(large, small) for small, large in pairwise(LORA)]
    return _lower(
        f"At equal steps a larger rank reaches a lower held-out loss ({task}).", "held-out loss", losses, pairs
    )


def _lower(claim: str, what: str, numbers: Mapping[str, Sequence[float]], pairs: Sequence[tuple[str, str]]) -> Claim:
    """Whether in every pair the first one has the lower number: decided seed by seed."""
    found = {pair: leads(numbers[pair[0]], numbers[pair[1]]) for pair in pairs}
    means = ", ".join(f"{name} {loss_in_words(fmean(values))}" for name, values in numbers.items())
    gaps = ", ".join(f"{own} by {with_error(lead)} below {other}" for (own, other), lead in found.items())
    seeds = len(next(iter(numbers.values())))
    value = f"{what}, mean: {means}; {gaps}; {seeds} seeds, decided beyond 2 standard errors, paired by seed"
    return Claim.decide(claim, value, all_hold(ahead(lead) for lead in found.values()))


def _cheaper(results: Results, cost: Cost, words: str) -> Claim:
    ratios_of = {}
    for task in TASKS:
        costs = {name: cost_of_a_step(one, cost) for name, one in variants(results, task).items()}
        ratios_of[task] = {name: costs[name] / costs[FULL_TUNING] for name in LORA}
    return Claim.decide(
        f"A step of LoRA {words} than a step that trains all weights, at every rank.",
        f"as a multiple of a step with all weights; {_by_task(ratios_of)}",
        all(max(ratios.values()) < 1 for ratios in ratios_of.values()),
    )


def _memory(results: Results) -> Claim:
    peaks_of = {task: results[f"memory-{task}"] for task in TASKS}
    sentence = "LoRA needs less memory for gradients, optimizer state and activations, at every rank."
    if any(value is None for peaks in peaks_of.values() for value in peaks.values()):
        return Claim.decide(sentence, "this system does not tell the memory of a process", None)
    trained = {
        task: {name: one["runs"][0]["trainable"] / 1000 for name, one in variants(results, task).items()}
        for task in TASKS
    }
    return Claim.decide(
        sentence,
        f"growth of the process at its highest, MiB; {_by_task(peaks_of)}; thousands of trained parameters; "
        f"{_by_task(trained)}",
        all(peaks[FULL_TUNING] > max(peaks[name] for name in LORA) for peaks in peaks_of.values()),
    )


def _learning_rate(results: Results, options: Options) -> Claim:
    found = {task: variants(results, task) for task in TASKS}
    rates_of = {task: {name: one["best"] for name, one in of_task.items()} for task, of_task in found.items()}
    edges = [
        f"{task}, {name}"
        for task, of_task in found.items()
        for name, one in of_task.items()
        if one["at_edge"] or all(run["diverged"] for run in one["runs"])
    ]
    note = f"; at an edge of its grid, or diverged throughout: {', '.join(edges)}" if edges else ""
    return Claim.decide(
        "The best learning rate of LoRA is larger than that of training all weights, and nearly the same at every rank "
        "(within a factor of 3).",
        f"best learning rate of AdamW; {_by_task(rates_of)}{note}",
        None
        if options.quick or edges
        else all(
            min(rates[name] for name in LORA) > rates[FULL_TUNING]
            and max(rates[name] for name in LORA) <= 3 * min(rates[name] for name in LORA)
            for rates in rates_of.values()
        ),
    )


def _overfitting(results: Results, options: Options, task: str) -> Claim:
    gaps = {
        name: [math.inf if run["diverged"] else run["final_validation"] - run["final_loss"] for run in one["runs"]]
        for name, one in variants(results, task).items()
    }
    claim = _lower(
        f"LoRA overfits less: held-out loss minus training loss at the end is smaller than with all weights ({task}).",
        "difference in nats",
        gaps,
        [(name, FULL_TUNING) for name in LORA],
    )
    return replace(claim, verdict="not testable here") if options.quick else claim


def _by_task(numbers: Mapping[str, Mapping[str, float]]) -> str:
    return "; ".join(
        f"{task}: " + ", ".join(f"{name} {value:.3g}" for name, value in values.items())
        for task, values in numbers.items()
    )
