"""What each part of ``auto`` gains, and what becomes of it if its own constants are halved or doubled.

Settings of `benchmarks/regret.py` that ``auto`` was made on, with five seeds that the regret benchmark does not use.
Parts are added one by one. Of the constants one is changed at a time, on the three quick settings. Excess is the mean
held-out loss over the seeds, relative to that of the best of 8 AdamW rates with cosine, the same rate for all seeds,
minus 1.

Writes results/auto_constants.json and the tables in docs/auto.md.

Run: python benchmarks/auto_constants.py
     python benchmarks/auto_constants.py --draw   the tables from the committed results, no runs
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small models; read when torch is imported

import joblib
import numpy as np
import torch
from _record import RESULTS, record
from _regret.labels import label_of
from _regret.methods import METHODS, Prepared
from _regret.settings import DEVELOP, Setting, task_of
from _regret.summary import plain
from _regret.table import percent
from _regret.training import Stepper
from numpy.typing import NDArray
from rich.progress import track
from torch import nn

import lorate
from lorate.optim import move, whitening
from lorate.rules.auto import Auto, control
from lorate.runs import write_atomically
from lorate_papers.training.measures import mean_and_error

COMMAND = "python benchmarks/auto_constants.py"
PAGE = Path(__file__).parents[1] / "docs" / "auto.md"
QUICK, ALL = DEVELOP[:3], DEVELOP[:4]
SEEDS = range(3, 8)
BASELINE = "adamw-cosine"


def auto(model: nn.Module, direction: Any = None) -> Prepared:
    """In another direction, or its own."""
    optimizer = lorate.create_optimizer(model, rule="auto", direction=direction)
    return Prepared(optimizer, result=optimizer.averaged)


@dataclass(frozen=True)
class Form:
    """One way to train.

    Attributes:
        name: of the part that is added, or of the constant that is changed.
        attributes: what is set for the run, and to what: of a module or a class.
        method: what trains.
    """

    name: str
    attributes: tuple[tuple[Any, str, float], ...] = ()
    method: Callable[[nn.Module], Prepared] = auto


ADAMW = partial(torch.optim.AdamW, weight_decay=0)
ALONG_ADAMW = partial(auto, direction=ADAMW)
PARTS = (
    Form("the feedback alone, along AdamW's steps", ((Auto, "average_exponent", 1e9),), ALONG_ADAMW),
    Form("and the average, with weights t²", ((Auto, "gradient_share", 0.0),), ALONG_ADAMW),
    Form("and gradients half-way to it", (), ALONG_ADAMW),
    Form("and no first moment", (), partial(auto, direction=partial(ADAMW, betas=(0.0, 0.999)))),
    Form("and whitened on the rank side: `auto`"),
)
"""With an exponent of 1e9 the average is the last step."""
CONSTANTS: Mapping[str, tuple[ModuleType | type, str, Sequence[float]]] = {
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


def main() -> None:
    path = RESULTS / "auto_constants.json" if "--draw" in sys.argv[1:] else measured()
    results = json.loads(path.read_text(encoding="utf-8"))
    write_atomically(PAGE, with_tables(PAGE.read_text(encoding="utf-8"), results))


def measured() -> Path:
    """Runs everything; where the results are."""
    best = {}
    for setting in track(ALL, "AdamW"):
        rates = [Form(f"{lr:g}", method=partial(METHODS[BASELINE], lr=lr, steps=setting.steps)) for lr in setting.grid]
        best[setting] = float(_losses(rates, [setting]).mean(-1).min())

    def rows(forms: Sequence[Form], settings: Sequence[Setting]) -> list[dict[str, Any]]:
        """One a form: by setting the mean over the seeds and its standard error."""
        losses = _losses(forms, settings)
        excess = losses / np.array([best[setting] for setting in settings])[None, :, None] - 1
        names = [setting.name for setting in settings]
        return [
            {"name": form.name, "excess": dict(zip(names, map(mean_and_error, own), strict=True))}
            for form, own in zip(forms, excess, strict=True)
        ]

    parts = rows(PARTS, ALL)
    constants = []
    for name, (owner, attribute, values) in track(CONSTANTS.items(), "Constants"):
        changed = rows([Form(name, ((owner, attribute, value),)) for value in values], QUICK)
        usual = {"usual": getattr(owner, attribute)}
        constants += [row | usual | {"value": value} for row, value in zip(changed, values, strict=True)]
    numbers = {
        "worst_excess": max(mean for mean, _ in parts[-1]["excess"].values()),
        "worst_excess_with_another_constant": max(mean for row in constants for mean, _ in row["excess"].values()),
    }
    return record(
        "auto_constants",
        COMMAND,
        plain(numbers),
        protocol=__doc__,
        best_of_grid=plain({setting.name: lowest for setting, lowest in best.items()}),
        parts=plain(parts),
        constants=plain(constants),
    )


def _losses(forms: Sequence[Form], settings: Sequence[Setting]) -> NDArray[np.float64]:
    """Held-out losses [forms, settings, seeds], one run a core at a time."""
    jobs = [(form, setting, seed) for form in forms for setting in settings for seed in SEEDS]
    found = joblib.Parallel(n_jobs=-1)(joblib.delayed(loss)(*job) for job in jobs)
    return np.array(found).reshape(len(forms), len(settings), len(SEEDS))


def loss(form: Form, setting: Setting, seed: int) -> float:
    """Held-out loss after the steps of a setting."""
    torch.set_num_threads(1)
    task = task_of(setting)
    model = task.model(setting.adapter, seed)
    torch.manual_seed(seed)
    with ExitStack() as changed:
        for owner, attribute, value in form.attributes:
            changed.enter_context(patch.object(owner, attribute, value))
        ready = form.method(model)
        stepper, batches = Stepper(task, model, ready), task.batches(setting.batch, seed)
        for _ in range(setting.steps):
            stepper.step(next(batches))
        with ready.result():
            return task.validation_loss(model)


def with_tables(page: str, results: Mapping[str, Any]) -> str:
    """The page with both tables, from the content of ``results/auto_constants.json``."""
    for name, table in (("parts", parts_table(results["parts"])), ("constants", constants_table(results))):
        page = re.sub(
            rf"(<!-- auto {name} -->\n).*?(<!-- /auto {name} -->)",
            lambda found, table=table: found[1] + table + found[2],
            page,
            flags=re.DOTALL,
        )
    return page


def parts_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a part."""
    names = list(rows[0]["excess"])
    lines = [[row["name"], *(_with_error(*row["excess"][name]) for name in names)] for row in rows]
    return _markdown(["part", *map(_label, names)], lines)


def _with_error(mean: float, error: float) -> str:
    return f"{percent(mean)} ± {100 * error:.1f}%"


def constants_table(results: Mapping[str, Any]) -> str:
    """One line a value that was tried."""
    names, usual = list(results["constants"][0]["excess"]), results["parts"][-1]["excess"]
    lines = [["**as it is**", "", "", *(percent(usual[name][0]) for name in names)]]
    lines.append(["*standard error*", "", "", *(f"{100 * usual[name][1]:.1f}%" for name in names)])
    for row in results["constants"]:
        cells = [percent(row["excess"][name][0]) for name in names]
        lines.append([row["name"], f"{row['usual']:g}", f"{row['value']:g}", *cells])
    return _markdown(["constant", "usual", "tried", *map(_label, names)], lines)


def _markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *lines))


def _label(setting: str) -> str:
    return label_of({"setting": setting})


if __name__ == "__main__":
    main()
