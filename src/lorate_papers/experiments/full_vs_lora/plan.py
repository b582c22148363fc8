"""What is run: all weights and LoRA of several ranks, and what a step of each costs."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy as np
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lorate.errors import LorateError
from lorate.sweep import Run
from lorate_papers.experiments.experiment import Options, Results
from lorate_papers.training.measures import Numbers
from lorate_papers.training.training_run import Values, train_under_rule
from lorate_papers.training.tuned_runs import tuned_runs
from lorate_papers.training.tuning import constants
from lorate_papers.workloads import AdapterSpec, load_workload

Adapter = Mapping[str, Any] | None
"""Fields of `AdapterSpec`; None trains all weights."""

TASKS = {"small-lm": 8, "resnet": 32}
"""Workloads, with their batch sizes."""
RANKS = (1, 4, 16)
SCALING = 2
"""alpha over rank."""
FULL_TUNING = "all weights"
VARIANTS: dict[str, Adapter] = {
    FULL_TUNING: None,
    **{f"LoRA, r = {rank}": {"rank": rank, "alpha": SCALING * rank} for rank in RANKS},
}
LORA = tuple(name for name, adapter in VARIANTS.items() if adapter is not None)
OPTIMIZER = "adamw"
LOWEST_RATES = {"small-lm": (2e-4, 1e-3), "resnet": (4e-5, 4e-4)}
"""Where the grids of learning rates begin, for all weights and for LoRA."""
EVALUATIONS = 12
"""Measurements of the held-out loss in a run, after the first."""


class Size(NamedTuple):
    """How much is run."""

    steps: int  # of training
    seeds: Mapping[str, int]  # by workload: starts of each variant; they scatter most on the residual network
    points: int  # learning rates in a grid


FULL = Size(180, {"small-lm": 4, "resnet": 16}, 5)
QUICK = Size(24, {"small-lm": 2, "resnet": 2}, 3)


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def seeds(task: str, options: Options) -> list[int]:
    """Seeds of the starts."""
    return options.seeds(size(options).seeds[task])


def grid(task: str, adapter: Adapter, options: Options) -> tuple[float, ...]:
    """Learning rates: as many for all weights as for LoRA, whose best ones are larger."""
    lowest = LOWEST_RATES[task][adapter is not None]
    return constants(lowest, 30 * lowest, size(options).points)


def run_name(task: str, variant: str) -> str:
    """Of the run of a variant."""
    adapter = VARIANTS[variant]
    return f"{task}-" + ("full" if adapter is None else f"rank-{adapter['rank']}")


def tuned_variant(
    task: str, adapter: Adapter, grid: Sequence[float], seeds: Sequence[int], steps: int, batch: int, quick: bool
) -> Values:
    """Tune the learning rate, run on all seeds, and count the operations of a step."""

    def descend(rule: str, lr: float, seed: int) -> Values:
        every = max(1, steps // EVALUATIONS)
        return train_under_rule(
            task, adapter, rule, lr, steps, batch, seed, quick=quick, validate_every=every, keep=steps
        )

    tuning = tuned_runs(descend, OPTIMIZER, grid, seeds)
    return {**tuning, "flops": flops_of_a_step(task, adapter, batch, quick)}


def flops_of_a_step(task: str, adapter: Adapter, batch: int, quick: bool) -> int:
    """Floating-point operations of one forward and backward pass, as PyTorch counts them.

    Matrix products, convolutions and attention count; the optimizer and other element-wise work does not.
    """
    workload = load_workload(task, quick=quick)
    model = workload.model(None if adapter is None else AdapterSpec(**adapter), 0)
    # the fused attention kernel of the CPU is unknown to the counter
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        workload.loss(model, next(workload.batches(batch, 0))).backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def memory(task: str, batch: int, quick: bool) -> Values:
    """Peak memory of every variant in MiB, see `lorate_papers.experiments.full_vs_lora.memory`, in fresh processes.

    Raises:
        LorateError: a process failed, or the system ended it.
    """
    words = [
        sys.executable,
        "-m",
        "lorate_papers.experiments.full_vs_lora.memory",
        task,
        str(batch),
        *["--quick"] * quick,
    ]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"])[-1]
        raise LorateError(f"The memory of {task} could not be measured: {reason}")
    measured: Values = json.loads(done.stdout.splitlines()[-1])
    return measured


Cost = Literal["steps", "FLOPs", "seconds"]


def variants(results: Results, task: str) -> dict[str, Any]:
    """The result of every variant of a task."""
    return {name: results[run_name(task, name)] for name in VARIANTS}


def cost_of_a_step(found: Any, cost: Cost) -> float:
    """What one step of a variant costs; of seconds the median over all its runs."""
    if cost == "steps":
        return 1.0
    if cost == "FLOPs":
        return float(found["flops"])
    return float(median(run["seconds_per_step"] for run in found["runs"]))


def held_out_curves(variant: Any, cost: Cost) -> tuple[Numbers, Numbers]:
    """Cost so far, and held-out loss of every seed ``[seeds, measurements]``; runs that diverged are left out."""
    kept = [run["validation"] for run in variant["runs"] if not run["diverged"]]
    steps = np.array(kept[0]["step"] if kept else [], dtype=float)
    losses = np.array([one["loss"] for one in kept]).reshape(len(kept), len(steps))
    return steps * cost_of_a_step(variant, cost), losses


def losses_at_equal_cost(results: Results, task: str, cost: Cost) -> dict[str, list[float]]:
    """Held-out loss of every variant when the first of them has come to its end, one a seed; infinite if diverged."""
    costs = {name: cost_of_a_step(found, cost) for name, found in variants(results, task).items()}
    runs = {name: found["runs"] for name, found in variants(results, task).items()}
    ends = [costs[name] * run["validation"]["step"][-1] for name in runs for run in runs[name] if not run["diverged"]]
    budget = min(ends, default=0.0)

    def loss(run: Any, step_cost: float) -> float:
        steps, losses = (np.array(run["validation"][name], dtype=float) for name in ("step", "loss"))
        return math.inf if run["diverged"] else float(np.interp(budget, steps * step_cost, losses))

    return {name: [loss(run, costs[name]) for run in runs[name]] for name in runs}


def runs(options: Options) -> list[Run]:
    """The slow ones first."""
    how = size(options)
    runs = []
    for task, batch in TASKS.items():
        common = {"task": task, "batch": batch, "quick": options.quick}
        for variant, adapter in VARIANTS.items():
            given = {"adapter": adapter, "grid": grid(task, adapter, options), "steps": how.steps}
            runs.append(Run(run_name(task, variant), tuned_variant, {**common, **given, "seeds": seeds(task, options)}))
        runs.append(Run(f"memory-{task}", memory, common))
    return runs
