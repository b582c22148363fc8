"""What is run: tuned rules, and rules with a proof given a measured L."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from lorate.adapters import find_pairs
from lorate.smoothness import HessianNorm, hessian_norm
from lorate.sweep import Run
from lorate_papers.experiments.experiment import Options
from lorate_papers.experiments.paper_rules import PAPER, tuned_beside_constants
from lorate_papers.training.training_run import Values, train_under_rule
from lorate_papers.training.tuning import constants
from lorate_papers.workloads import AdapterSpec, Workload, load_workload

TUNED = ("constant", *PAPER, "adamw")
"""Rules with a constant to tune; AdamW for comparison."""
PROVED = ("theory", "sharp", "one-factor", "majorizer", "backtracking")
"""Rules with nothing to tune; all but the last are given L."""
CENTRES = {"constant": 0.03, "adaptive": 3.0, "adaptive-loss": 3.0, "normalized": 0.1, "adamw": 3e-3}
"""Middle of each rule's grid, which spans two decades."""
RANK = 8
ADAPTER: dict[str, Any] = {"rank": RANK, "alpha": RANK}
"""LoRA with scaling 1."""
BATCH = 32
MEASURED_ON = 128
"""Training images on which L is measured."""


class Size(NamedTuple):
    """How much is run."""

    steps: int  # of training
    seeds: int  # starts of each rule
    points: int  # constants in a grid


FULL = Size(240, 3, 6)
QUICK = Size(60, 2, 3)


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def seeds(options: Options) -> list[int]:
    """Seeds of the starts."""
    return options.seeds(size(options).seeds)


def grid(rule: str, options: Options) -> tuple[float, ...]:
    """As many constants for each rule."""
    return constants(CENTRES[rule] / 10, CENTRES[rule] * 10, size(options).points)


WORKLOAD = "resnet"
EVALUATIONS = 8
"""Measurements of the held-out loss in a run, after the first."""


def tuned_rule(rule: str, grid: Sequence[float], seeds: Sequence[int], steps: int, where: Mapping[str, Any]) -> Values:
    """Tune a rule and run it on all seeds; ``where`` are the options of the workload."""
    return tuned_beside_constants(partial(_descend, steps=steps, where=where), rule, grid, seeds)


def untuned_rule(rule: str, seeds: Sequence[int], steps: int, where: Mapping[str, Any]) -> Values:
    """Run a rule that has nothing to tune on all seeds, with an L measured at the start."""
    measured = None if rule == "backtracking" else measured_smoothness(load_workload(WORKLOAD, **where))
    smoothness = None if measured is None else measured.value
    runs = [_descend(rule, None, seed, steps=steps, where=where, smoothness=smoothness) for seed in seeds]
    return {"smoothness": smoothness, "runs": runs}


def measured_smoothness(task: Workload) -> HessianNorm:
    """Curvature of the loss in the frozen weights before training, on part of the training set.

    A lower bound of the L that the theorems ask for, which is not known for such a network.
    """
    model = task.model(AdapterSpec(**ADAPTER), 0)
    layers: list[Any] = [pair.layer for pair in find_pairs(model)]
    batch = next(task.batches(MEASURED_ON, 0))
    weights = [layer.base_layer.weight for layer in layers]
    return hessian_norm(lambda: task.loss(model, batch), weights, tolerance=0.01, max_iterations=40)


def _descend(
    rule: str, lr: float | None, seed: int, *, steps: int, where: Mapping[str, Any], smoothness: float | None = None
) -> Values:
    return train_under_rule(
        WORKLOAD,
        ADAPTER,
        rule,
        lr,
        steps,
        BATCH,
        seed,
        **where,
        smoothness=smoothness,
        validate_every=max(1, steps // EVALUATIONS),
        keep=steps,
    )


def runs(options: Options) -> list[Run]:
    """The slow ones first."""
    where = {"quick": options.quick, "data": options.data, "model": options.model}
    common: dict[str, Any] = {"seeds": seeds(options), "steps": size(options).steps, "where": where}
    tuned = [Run(f"tuned-{rule}", tuned_rule, {"rule": rule, "grid": grid(rule, options), **common}) for rule in TUNED]
    return [*tuned, *(Run(f"untuned-{rule}", untuned_rule, {"rule": rule, **common}) for rule in PROVED)]
