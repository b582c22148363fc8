"""What the runs do: functions of plain values that return plain values."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from lorate.adapters import find_pairs
from lorate.smoothness import HessianNorm, hessian_norm
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.experiments.resnet.settings import ADAPTER, BATCH, MEASURED_ON
from lorate_papers.training.training_run import Values, train_under_rule
from lorate_papers.training.tuned_runs import tuned_runs
from lorate_papers.workloads import AdapterSpec, Workload, load_workload

WORKLOAD = "resnet"
EVALUATIONS = 8
"""Measurements of the held-out loss in a run, after the first."""


def tuned_rule(rule: str, grid: Sequence[float], seeds: Sequence[int], steps: int, where: Mapping[str, Any]) -> Values:
    """Tune a rule and run it on all seeds; ``where`` are the options of the workload."""
    return tuned_runs(
        partial(_descend, steps=steps, where=where),
        rule,
        grid,
        seeds,
        multiples={"large": 10.0, "small": 0.1} if rule == "constant" else None,
        against=("mean step",) if rule in PAPER else (),
    )


def untuned_rule(rule: str, seeds: Sequence[int], steps: int, where: Mapping[str, Any]) -> Values:
    """Run a rule that has nothing to tune on all seeds, with an L measured at the start."""
    measured = None if rule == "backtracking" else measured_smoothness(load_workload(WORKLOAD, **where))
    smoothness = None if measured is None else measured.value
    runs = [_descend(rule, None, seed, steps=steps, where=where, smoothness=smoothness) for seed in seeds]
    return {"smoothness": smoothness, "runs": runs}


def measured_smoothness(task: Workload) -> HessianNorm:
    """Curvature of the loss in the frozen weights before training, on part of the training set.

    A lower bound of the L that the theorems ask for, which nobody knows for such a network.
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
