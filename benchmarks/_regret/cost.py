"""Extra time of ``auto`` over AdamW: both train side by side, step by step, so that a busy machine disturbs both."""

import random
import statistics
import time
from collections.abc import Sequence

import torch

from _regret.methods import METHODS
from _regret.settings import Setting, task_of
from _regret.training import Stepper

SETTINGS = (Setting("small-lm", 8, 16, batch=8, steps=500), Setting("resnet", 8, 16, batch=32, steps=500))
LENGTHS = (200, 500)
"""Steps after which the time is read."""
AUTO, BASELINE = "auto", "adamw"
BASELINE_LR = 1e-3
REPEATS = 3
Costs = dict[str, dict[str, float]]
"""By name of the setting and number of steps."""


def extra_costs(settings: Sequence[Setting] = SETTINGS, lengths: Sequence[int] = LENGTHS) -> Costs:
    """Time of a whole run over the same run with AdamW, minus 1: by setting and length the median of `REPEATS`."""
    found = {}
    for setting in settings:
        repeats = [_ratios(setting, lengths, seed) for seed in range(REPEATS)]
        medians = [statistics.median(ratios) - 1 for ratios in zip(*repeats, strict=True)]
        found[setting.name] = dict(zip(map(str, lengths), medians, strict=True))
    return found


def _ratios(setting: Setting, lengths: Sequence[int], seed: int) -> list[float]:
    """One pair of runs: the ratio of their times after each number of steps."""
    torch.set_num_threads(1)
    task = task_of(setting)
    steppers = {}
    for method, lr in ((AUTO, None), (BASELINE, BASELINE_LR)):
        model = task.model(setting.adapter, seed)
        steppers[method] = Stepper(task, model, METHODS[method](model, lr, max(lengths)))
    spent = dict.fromkeys(steppers, 0.0)
    order, found = random.Random(seed), []
    for step, batch in zip(range(1, max(lengths) + 1), task.batches(setting.batch, seed), strict=False):
        for method in order.sample(list(steppers), 2):
            began = time.perf_counter()
            steppers[method].step(batch)
            spent[method] += time.perf_counter() - began
        if step in lengths:
            found.append(spent[AUTO] / spent[BASELINE])
    return found


def worst(costs: Costs | None, length: int) -> float | None:
    """Over the settings; None if it was not measured."""
    return None if costs is None else max(own[str(length)] for own in costs.values())
