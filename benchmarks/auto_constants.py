"""What becomes of ``auto`` without one of its parts, and if its own constants are halved or doubled.

Three quick settings of `benchmarks/regret.py` that ``auto`` was made on, five seeds each that the regret benchmark does
not use. One part or constant is changed at a time. Excess is the mean held-out loss over the seeds, relative to that of
the best of 8 AdamW rates with cosine, the same rate for all seeds, minus 1.

Writes results/auto_constants.json and the table in docs/auto.md.

Run: python benchmarks/auto_constants.py
     python benchmarks/auto_constants.py --draw   the table from the committed results, no runs
"""

import json
import os
import re
import statistics
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small models; read when torch is imported

import numpy as np
import torch
from _record import RESULTS, record
from _regret.labels import label_of
from _regret.methods import METHODS, Prepared
from _regret.settings import DEVELOP, Setting, task_of
from _regret.summary import plain
from _regret.table import percent
from _regret.training import Stepper
from rich.progress import track
from torch import nn

import lorate
from lorate.optim import move, whitening
from lorate.rules.auto import Auto, control
from lorate.runs import write_atomically
from lorate_papers.training.measures import mean_and_error
from lorate_papers.workloads.tensor_workload import TensorWorkload

COMMAND = "python benchmarks/auto_constants.py"
PAGE = Path(__file__).parents[1] / "docs" / "auto.md"
BLOCK = re.compile(r"(<!-- auto constants -->\n).*?(<!-- /auto constants -->)", re.DOTALL)
SETTINGS = DEVELOP[:3]
SEEDS = range(3, 8)
BASELINE = "adamw-cosine"

CONSTANTS: Mapping[str, tuple[ModuleType, str, Iterable[float]]] = {
    "length of the first step": (control, "FIRST_LENGTH", (1e-5, 1e-3)),
    "gain times steps": (control, "GAIN_STEPS", (1.5, 6)),
    "least gain": (control, "LEAST_GAIN", (0.015, 0.06)),
    "largest gain": (control, "LARGEST_GAIN", (0.25, 1)),
    "steps over which the aim halves": (control, "AIM_STEPS", (5, 20)),
    "steps that a slope above the aim counts for": (control, "AIM_UPHILL", (0, 10, 40)),
    "memory of the mean squares": (control, "MEMORY", (0.8, 0.95)),
    "slope that halves the step": (control, "OVERSHOOT", (4, 16)),
    "memory of the sensitivity": (move, "SENSITIVITY_MEMORY", (0.9, 0.975)),
    "share of the average in y": (Auto, "gradient_share", (0.3, 0.7)),
    "exponent of the average": (Auto, "average_exponent", (1, 4)),
    "largest root mean square of D": (whitening, "LONGEST", (0.5, 2)),
    "memory of the second moments": (whitening, "SQUARES_MEMORY", (0.998, 0.9995)),
    "memory of the Gram matrices": (whitening, "BASIS_MEMORY", (0.98, 0.995)),
}
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "Adam's coordinates, no first moment": {
        "direction": partial(torch.optim.AdamW, betas=(0.0, 0.999), weight_decay=0)
    },
    "AdamW with its first moment": {"direction": partial(torch.optim.AdamW, weight_decay=0)},
}
"""Options of `lorate.create_optimizer`."""


@dataclass(frozen=True)
class Row:
    """One change.

    Attributes:
        constant: what was changed.
        usual: its usual value.
        value: the one that was tried.
        excess: by name of the setting.
    """

    constant: str
    usual: float
    value: float
    excess: Mapping[str, float]


@dataclass(frozen=True)
class Ablation:
    """A part that is left out.

    Attributes:
        part: which.
        excess: by name of the setting.
    """

    part: str
    excess: Mapping[str, float]


def main() -> None:
    path = RESULTS / "auto_constants.json" if "--draw" in sys.argv[1:] else measured()
    shown = table(json.loads(path.read_text(encoding="utf-8")))
    text = PAGE.read_text(encoding="utf-8")
    write_atomically(PAGE, BLOCK.sub(lambda found: found[1] + shown + found[2], text))


def measured() -> Path:
    """Runs everything; where the results are."""
    tasks = {setting: task_of(setting) for setting in SETTINGS}
    best = {setting: best_of_grid(task, setting) for setting, task in tasks.items()}

    def excess(**options: Any) -> dict[str, tuple[float, float]]:
        """Mean over the seeds and its standard error."""
        found = {}
        for setting, task in tasks.items():
            losses = np.array([auto_loss(task, setting, seed, **options) for seed in SEEDS])
            found[setting.name] = mean_and_error(losses / best[setting] - 1)
        return found

    usual = excess()
    rows = []
    for name, (module, attribute, values) in track(CONSTANTS.items(), "Constants"):
        before = getattr(module, attribute)
        for value in values:
            with patch.object(module, attribute, value):
                rows.append(Row(name, before, value, _means(excess())))
    with patch.object(Auto, "gradient_share", 0.0):
        ablated = [Ablation("gradients at z, not half-way to the average", _means(excess()))]
    ablated += [Ablation(name, _means(excess(**options))) for name, options in track(ABLATIONS.items(), "Parts")]
    numbers = {
        "worst_excess": max(mean for mean, _ in usual.values()),
        "worst_excess_with_another_constant": max(max(row.excess.values()) for row in rows),
        **{f"excess {name}": mean for name, (mean, _) in usual.items()},
        **{f"standard error {name}": error for name, (_, error) in usual.items()},
    }
    return record(
        "auto_constants",
        COMMAND,
        plain(numbers),
        protocol=__doc__,
        best_of_grid=plain({setting.name: loss for setting, loss in best.items()}),
        rows=[plain(asdict(row)) for row in rows],
        ablations=[plain(asdict(row)) for row in ablated],
    )


def table(results: Mapping[str, Any]) -> str:
    """In Markdown, from the content of ``results/auto_constants.json``."""
    names = [setting.name for setting in SETTINGS]
    usual, errors = ([results["summary"][f"{word} {name}"] for name in names] for word in ("excess", "standard error"))
    lines = [
        f"| constant | usual | tried | {' | '.join(label_of({'setting': name}) for name in names)} |",
        f"| --- | ---: | ---: | {' | '.join(['---:'] * len(names))} |",
        f"| **as it is** | | | {' | '.join(map(percent, usual))} |",
        f"| *standard error* | | | {' | '.join(f'{100 * error:.1f}%' for error in errors)} |",
    ]
    for row in results["ablations"]:
        lines.append(f"| {row['part']} | | | {' | '.join(percent(row['excess'][name]) for name in names)} |")
    for row in results["rows"]:
        cells = " | ".join(percent(row["excess"][name]) for name in names)
        lines.append(f"| {row['constant']} | {row['usual']:g} | {row['value']:g} | {cells} |")
    return "\n".join(lines) + "\n"


def _means(excess: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    return {name: mean for name, (mean, _) in excess.items()}


def best_of_grid(task: TensorWorkload, setting: Setting) -> float:
    """Mean held-out loss of the best rate over the seeds."""
    means = []
    for lr in track(setting.grid, f"AdamW on {setting.name}"):
        losses = []
        for seed in SEEDS:
            model = task.model(setting.adapter, seed)
            losses.append(loss_after(task, setting, model, METHODS[BASELINE](model, lr, setting.steps), seed))
        means.append(statistics.fmean(losses))
    return min(means)


def auto_loss(task: TensorWorkload, setting: Setting, seed: int, **options: Any) -> float:
    """Held-out loss of the averaged adapters."""
    model = task.model(setting.adapter, seed)
    optimizer = lorate.create_optimizer(model, rule="auto", **options)
    return loss_after(task, setting, model, Prepared(optimizer, result=optimizer.averaged), seed)


def loss_after(task: TensorWorkload, setting: Setting, model: nn.Module, prepared: Prepared, seed: int) -> float:
    """Held-out loss after the steps of a setting."""
    torch.manual_seed(seed)
    stepper, batches = Stepper(task, model, prepared), task.batches(setting.batch, seed)
    for _ in range(setting.steps):
        stepper.step(next(batches))
    with prepared.result():
        return task.validation_loss(model)


if __name__ == "__main__":
    main()
