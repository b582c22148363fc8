"""The figures: held-out loss against steps, operations and time."""

import numpy as np

from lorate_papers.experiments.experiment import Drawing, Options, Results
from lorate_papers.experiments.full_vs_lora.plan import TASKS, Cost, cost_of_a_step, held_out_curves, variants
from lorate_papers.experiments.plots import Curve, Panel
from lorate_papers.experiments.rule_figures import drawing
from lorate_papers.training.measures import Numbers, column, trailing_mean

AXES: dict[Cost, str] = {
    "steps": "step",
    "FLOPs": "floating-point operations so far, in units of 10⁹",
    "seconds": "processor time so far, s (steps times the median of a step)",
}
UNITS: dict[Cost, float] = {"steps": 1.0, "FLOPs": 1e9, "seconds": 1.0}
TITLES: dict[Cost, str] = {
    "steps": "at equal steps",
    "FLOPs": "at equal operations",
    "seconds": "in equal processor time",
}

FALLING_FAR = ("resnet",)
"""Tasks whose loss falls by orders of magnitude."""


def draw(results: Results, options: Options) -> list[Drawing]:
    """All figures, in the order of the report."""
    return [_curves(results, task, cost) for task in TASKS for cost in AXES]


def _curves(results: Results, task: str, cost: Cost) -> Drawing:
    training, held_out = [], []
    for name, found in variants(results, task).items():
        label = f"{name}, lr {found['best']:.2g}"
        places, losses = held_out_curves(found, cost)
        held_out.append(_curve(label, places / UNITS[cost], losses))
        runs = [run for run in found["runs"] if not run["diverged"]]
        steps = column(runs[0], "step") if runs else np.zeros(0)
        smoothed = np.array([_smoothed(column(run, "loss")) for run in runs])
        training.append(_curve(label, steps * cost_of_a_step(found, cost) / UNITS[cost], smoothed))
    log = task in FALLING_FAR
    panels = [Panel("training loss, nats", training, log), Panel("held-out loss, nats", held_out, log)]
    starts = max(len(found["runs"]) for found in variants(results, task).values())
    caption = (
        f"AdamW, each variant at its best learning rate. Line: median of {starts} starts; band: lowest to "
        "highest. Training loss is the mean over a tenth of the steps."
    )
    title = f"{task}: all weights against LoRA {TITLES[cost]}."
    return drawing(f"{task}-{cost.lower()}", title, caption, panels, AXES[cost])


def _curve(label: str, places: Numbers, losses: Numbers) -> Curve:
    if not len(losses):
        return Curve(f"{label}: every run diverged")
    band = (losses.min(0).tolist(), losses.max(0).tolist()) if len(losses) > 1 else None
    return Curve(label, places.tolist(), np.median(losses, axis=0).tolist(), band=band)


def _smoothed(values: Numbers) -> Numbers:
    """Mean over the tenth of the run before each step."""
    return trailing_mean(values, max(1, len(values) // 10))
