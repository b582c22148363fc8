"""One run: a setting, a method, a learning rate or none, a seed."""

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from _regret.methods import METHODS, Prepared
from _regret.settings import Setting, starting_loss, task_of
from lorate_papers.workloads import Batch, Workload


def train(setting: Mapping[str, Any], method: str, lr: float | None, seed: int) -> dict[str, Any]:
    """Train once on one thread; all methods start from the same adapters and see the same batches.

    Returns:
        ``validation``: held-out loss at the end; None if the run diverged, which means that this loss or one on the
        way was not finite: a run that overshoots may come back. ``start``: held-out loss before the first step;
        ``steps`` taken; ``seconds`` and ``cpu_seconds`` of the training steps.
    """
    torch.set_num_threads(1)
    chosen = Setting(**setting)
    task = task_of(chosen)
    model = task.model(chosen.adapter, seed)
    torch.manual_seed(seed)
    prepared = METHODS[method](model, lr, chosen.steps)
    stepper = Stepper(task, model, prepared)
    wall, cpu = time.perf_counter(), time.process_time()
    batches = task.batches(chosen.batch, seed)
    loss = 0.0
    while stepper.steps < chosen.steps and math.isfinite(loss):
        loss = stepper.step(next(batches))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    with prepared.result():
        validation = task.validation_loss(model) if math.isfinite(loss) else math.inf
    return {
        "validation": validation if math.isfinite(validation) else None,
        "start": starting_loss(chosen),
        "steps": stepper.steps,
        "seconds": wall,
        "cpu_seconds": cpu,
    }


class Stepper:
    """Takes the steps of a run, in the way that every method here can be used: with a closure."""

    def __init__(self, task: Workload, model: nn.Module, prepared: Prepared) -> None:
        self.task, self.model, self.prepared = task, model, prepared
        self.highest = [group.get("lr") for group in prepared.optimizer.param_groups]
        self.steps = 0

    def step(self, batch: Batch) -> float:
        """One step; the loss before it."""
        optimizer = self.prepared.optimizer

        def closure() -> Tensor:
            loss = self.task.loss(self.model, batch)
            if loss.requires_grad:  # auto asks for the loss alone too
                optimizer.zero_grad()
                loss.backward()
            return loss

        if self.prepared.multiplier is not None:
            for group, highest in zip(optimizer.param_groups, self.highest, strict=True):
                group["lr"] = highest * self.prepared.multiplier(self.steps)
        loss: Tensor = optimizer.step(closure)
        self.prepared.after_step()
        self.steps += 1
        return float(loss.detach())
