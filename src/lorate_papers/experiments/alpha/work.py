"""What a run does: train adapters, and watch how the weights move."""

from functools import cache
from typing import Any

from lorate_papers.experiments.alpha import network
from lorate_papers.experiments.alpha.drift_watch import DriftWatch
from lorate_papers.training.recipe import Recipe
from lorate_papers.training.training_run import train_model
from lorate_papers.workloads import AdapterSpec, Workload, load_workload


def train_and_watch(
    task: str,
    rank: int,
    alpha: float,
    rule: str,
    lr: float | None,
    steps: int,
    batch: int,
    seed: int,
    quick: bool = False,
    data: str | None = None,
) -> dict[str, Any]:
    """Train adapters of one rank and alpha.

    Args:
        task: ``"network"`` (whose weights are drawn from the seed too) or the name of a workload.
        rank: r.
        alpha: ``lora_alpha``.
        rule: a rule or a baseline.
        lr: its constant.
        steps: at most.
        batch: examples a step.
        seed: of the adapters' start and the order of the data.
        quick: the small form of the workload.
        data: other data for it.

    Returns:
        The point (``task``, ``rank``, ``alpha``, ``rule``, ``lr``, ``seed``); ``loss``: held out, at the end, None if
        the run diverged; ``first_loss`` of the first batch; ``diverged``; and what `DriftWatch.values` returns.
    """
    workload = network.load(seed) if task == "network" else _workload(task, quick, data)
    model = workload.model(AdapterSpec(rank, alpha), seed)
    watch = DriftWatch(model)
    seen = train_model(workload, model, Recipe(rule, lr, steps, batch, seed), after_step=watch)
    point = {"task": task, "rank": rank, "alpha": alpha, "rule": rule, "lr": lr, "seed": seed}
    outcome = {"loss": seen["final_validation"], "first_loss": seen["first_loss"], "diverged": seen["diverged"]}
    return point | outcome | watch.values()


@cache
def _workload(name: str, quick: bool, data: str | None) -> Workload:
    """Loading takes as long as some ten steps, and a process has many runs."""
    return load_workload(name, quick=quick, data=data)
