"""Numbers read off the results: losses at equal cost."""

from statistics import median
from typing import Any, Literal

import numpy as np

from lorate_papers.experiments.experiment import Results
from lorate_papers.experiments.full_vs_lora.settings import VARIANTS, run_name
from lorate_papers.training.measures import Numbers

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


def held_out_curves(found: Any, cost: Cost) -> tuple[Numbers, Numbers]:
    """Cost so far, and held-out loss of every seed ``[seeds, measurements]``; runs that ended early are left out."""
    runs = [run for run in found["runs"] if not run["diverged"]]
    steps = np.array(runs[0]["validation"]["step"], dtype=float)
    losses = np.array([run["validation"]["loss"] for run in runs])
    return steps * cost_of_a_step(found, cost), losses


def loss_at_equal_cost(results: Results, task: str, cost: Cost) -> dict[str, float]:
    """Held-out loss of every variant when the first of them has come to the end of its run, median over the seeds."""
    curves = {name: held_out_curves(found, cost) for name, found in variants(results, task).items()}
    budget = min(places[-1] for places, _ in curves.values())
    return {
        name: median([float(np.interp(budget, places, losses)) for losses in all_losses])
        for name, (places, all_losses) in curves.items()
    }
