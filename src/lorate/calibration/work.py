"""One run of a sweep, from plain values to plain values."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from lorate.calibration.own_task import OwnTask
from lorate.calibration.plan import WORKLOAD, own_config
from lorate.experiments.recipe import Recipe
from lorate.experiments.training_run import train_model
from lorate.experiments.workloads import AdapterSpec, Workload, load_workload


def train_point(
    own: Mapping[str, Any] | None,
    quick: bool,
    rank: int,
    alpha: float,
    lr: float,
    steps: int,
    batch_size: int,
    seed: int,
) -> dict[str, Any]:
    """Train adapters under AdamW and measure the held-out loss.

    Args:
        own: options that say which model and data; None: the small language model.
        quick: its small form.
        rank: r.
        alpha: ``lora_alpha``.
        lr: learning rate.
        steps: at most; a run that diverges ends early.
        batch_size: samples a step.
        seed: of the adapters' start and the order of the data; of the user's own data also of what is held out.

    Returns:
        ``loss``, None if the run diverged; ``first_loss`` of the first batch.
    """
    adapter = AdapterSpec(rank, alpha)
    task: Workload = _small(quick) if own is None else OwnTask(own_config(own, rank, alpha, batch_size, seed))
    seen = train_model(task, task.model(adapter, seed), Recipe("adamw", lr, steps, batch_size, seed))
    return {"loss": seen["final_validation"], "first_loss": seen["first_loss"]}


@cache
def _small(quick: bool) -> Workload:
    return load_workload(WORKLOAD, quick=quick)
