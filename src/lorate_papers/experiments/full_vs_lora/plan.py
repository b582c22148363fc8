"""What is run: all weights and LoRA of several ranks, and what a step of each costs."""

import json
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
EVALUATIONS = 12
"""Measurements of the held-out loss in a run, after the first."""


class Size(NamedTuple):
    """How much is run."""

    steps: int  # of training
    seeds: int  # starts of each variant
    points: int  # learning rates in a grid


FULL = Size(180, 3, 5)
QUICK = Size(24, 2, 3)


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def seeds(options: Options) -> list[int]:
    """Seeds of the starts."""
    return options.seeds(size(options).seeds)


def grid(adapter: Adapter, options: Options) -> tuple[float, ...]:
    """Learning rates: as many for all weights as for LoRA, whose best ones are larger."""
    lowest = 2e-4 if adapter is None else 1e-3
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
    """Cost so far, and held-out loss of every seed ``[seeds, measurements]``; runs that ended early are left out."""
    runs = [run for run in variant["runs"] if not run["diverged"]]
    steps = np.array(runs[0]["validation"]["step"], dtype=float)
    losses = np.array([run["validation"]["loss"] for run in runs])
    return steps * cost_of_a_step(variant, cost), losses


def loss_at_equal_cost(results: Results, task: str, cost: Cost) -> dict[str, float]:
    """Held-out loss of every variant when the first of them has come to the end of its run, median over the seeds."""
    curves = {name: held_out_curves(found, cost) for name, found in variants(results, task).items()}
    budget = min(places[-1] for places, _ in curves.values())
    return {
        name: median([float(np.interp(budget, places, losses)) for losses in all_losses])
        for name, (places, all_losses) in curves.items()
    }


def runs(options: Options) -> list[Run]:
    """The slow ones first."""
    how = size(options)
    runs = []
    for task, batch in TASKS.items():
        common = {"task": task, "batch": batch, "quick": options.quick}
        for variant, adapter in VARIANTS.items():
            given = {"adapter": adapter, "grid": grid(adapter, options), "seeds": seeds(options), "steps": how.steps}
            runs.append(Run(run_name(task, variant), tuned_variant, {**common, **given}))
        runs.append(Run(f"memory-{task}", memory, common))
    return runs
