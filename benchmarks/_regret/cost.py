"""Extra time of ``auto`` over AdamW: both train side by side, step by step, so that a busy machine disturbs both."""

import random
import statistics
import time
from collections.abc import Sequence

import torch
from rich.progress import track

from _regret.methods import METHODS
from _regret.settings import Setting, task_of
from _regret.training import Stepper

SETTINGS = (
    Setting("small-lm", 8, 16, batch=8, steps=100),
    Setting("resnet", 8, 16, batch=32, steps=100),
    Setting("smollm2", 8, 16, batch=4, steps=20, tokens=64),
)
AUTO, BASELINE = "auto", "adamw"
BASELINE_LR = 1e-3
REPEATS = 3


def extra_costs(settings: Sequence[Setting] = SETTINGS) -> dict[str, float]:
    """The median step of ``auto`` over that of AdamW, minus 1, by workload: the median of `REPEATS` pairs of runs."""
    repeats = [(setting, seed) for setting in settings for seed in range(REPEATS)]
    found: dict[str, list[float]] = {}
    for setting, seed in track(repeats, description="extra time"):
        found.setdefault(setting.workload, []).append(_ratio(setting, seed) - 1)
    return {workload: statistics.median(extra) for workload, extra in found.items()}


def _ratio(setting: Setting, seed: int) -> float:
    """One pair of runs."""
    torch.set_num_threads(1)
    task = task_of(setting)
    steppers = {}
    for method, lr in ((AUTO, None), (BASELINE, BASELINE_LR)):
        model = task.model(setting.adapter, seed)
        steppers[method] = Stepper(task, model, METHODS[method](model, lr, setting.steps))
    spent: dict[str, list[float]] = {method: [] for method in steppers}
    order = random.Random(seed)
    for _, batch in zip(range(setting.steps), task.batches(setting.batch, seed), strict=False):
        for method in order.sample(list(steppers), 2):
            began = time.perf_counter()
            steppers[method].step(batch)
            spent[method].append(time.perf_counter() - began)
    return statistics.median(spent[AUTO]) / statistics.median(spent[BASELINE])
