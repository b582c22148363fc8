"""The claims."""

from collections.abc import Mapping
from itertools import pairwise
from statistics import median

from lorate_papers.experiments.experiment import Claim, Options, Results
from lorate_papers.experiments.full_vs_lora.plan import (
    FULL_TUNING,
    LORA,
    TASKS,
    Cost,
    cost_of_a_step,
    loss_at_equal_cost,
    variants,
)

EQUAL: dict[Cost, str] = {
    "steps": "At equal steps",
    "FLOPs": "At equal floating-point operations",
    "seconds": "In equal time",
}


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims, in the order of the report."""
    return [
        *(_full_is_ahead(results, cost, words) for cost, words in EQUAL.items()),
        _rank(results),
        _cheaper(results, "FLOPs", "needs fewer floating-point operations"),
        _cheaper(results, "seconds", "takes less time"),
        _memory(results),
        _learning_rate(results, options),
        _overfitting(results, options),
    ]


def _full_is_ahead(results: Results, cost: Cost, words: str) -> Claim:
    by_task = {task: loss_at_equal_cost(results, task, cost) for task in TASKS}
    return Claim.decide(
        f"{words}, training all weights reaches a lower held-out loss than LoRA of any rank tried.",
        f"held-out loss, median; {_by_task(by_task)}",
        all(losses[FULL_TUNING] < min(losses[name] for name in LORA) for losses in by_task.values()),
    )


def _rank(results: Results) -> Claim:
    by_task = {}
    for task in TASKS:
        losses = loss_at_equal_cost(results, task, "steps")
        by_task[task] = {name: losses[name] for name in LORA}
    return Claim.decide(
        "At equal steps a larger rank reaches a lower held-out loss.",
        f"held-out loss, median; {_by_task(by_task)}",
        all(losses[small] > losses[large] for losses in by_task.values() for small, large in pairwise(LORA)),
    )


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
    rates_of = {task: {name: one["best"] for name, one in variants(results, task).items()} for task in TASKS}
    edges = [f"{task}, {name}" for task in TASKS for name, one in variants(results, task).items() if one["at_edge"]]
    note = f"; at an edge of its grid: {', '.join(edges)}" if edges else ""
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


def _overfitting(results: Results, options: Options) -> Claim:
    gaps_of = {
        task: {
            name: median([run["final_validation"] - run["final_loss"] for run in one["runs"] if not run["diverged"]])
            for name, one in variants(results, task).items()
        }
        for task in TASKS
    }
    return Claim.decide(
        "LoRA overfits less: held-out loss minus training loss at the end is smaller than with all weights trained.",
        f"difference in nats, median; {_by_task(gaps_of)}",
        None
        if options.quick
        else all(gaps[FULL_TUNING] > max(gaps[name] for name in LORA) for gaps in gaps_of.values()),
    )


def _by_task(numbers: Mapping[str, Mapping[str, float]]) -> str:
    return "; ".join(
        f"{task}: " + ", ".join(f"{name} {value:.3g}" for name, value in values.items())
        for task, values in numbers.items()
    )
