"""The figures on mini-batches."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lorate.report import rule_colour
from lorate_papers.experiments.experiment import Drawing, Options, Results
from lorate_papers.experiments.minibatch.plan import (
    CARRIED,
    CARRIED_BATCH,
    FACTORS,
    SCALING,
    TASKS,
    TUNED,
    label,
    size,
)
from lorate_papers.experiments.plots import COLOURS, Curve, Panel, Points
from lorate_papers.experiments.rule_figures import drawing
from lorate_papers.training.measures import final_losses, mean_and_error

OWN = {"relative": COLOURS[0], "relative-adagrad": COLOURS[3], "alternate": COLOURS[2]}
"""Colours of rules that the palette has none for."""


def draw(results: Results, options: Options) -> list[Drawing]:
    """All figures, in the order of the report."""
    return [_batches(results, options), _constants(results), _carried(results)]


def _curve(rule: str, x: Sequence[float], groups: Sequence[Sequence[Mapping[str, Any]]]) -> Curve:
    """Mean final loss and standard error of each group of runs; a group with a run that diverged is left out."""
    found = [(place, *mean_and_error(final_losses(runs))) for place, runs in zip(x, groups, strict=True)
             if not any(run["diverged"] for run in runs)]  # fmt: skip
    places, means = [one[0] for one in found], [one[1] for one in found]
    errors = [0.0 if math.isnan(one[2]) else one[2] for one in found]
    colour = OWN.get(rule) or rule_colour(rule)
    lost = len(found) < len(groups)
    return Curve(label(rule), places, means, Points(places, means, errors), colour, broken=lost)


def _batches(results: Results, options: Options) -> Drawing:
    batches = size(options).batches
    panels = []
    for task, words in TASKS.items():
        curves = [
            _curve(rule, batches, [results[f"{task}-{rule}-batch-{batch}"]["runs"] for batch in batches])
            for rule in (*TUNED, "auto")
        ]
        panels.append(Panel(f"final training loss; {words}", curves, log=True))
    caption = (
        f"After {size(options).steps} steps, over all training data: mean of {size(options).seeds - 1} starts with "
        "one standard error. Every rule but auto has its best constant of a grid, chosen on another start."
    )
    return drawing("batches", "Rules at their best constants", caption, panels, "examples in a batch", log_x=True)


def _constants(results: Results) -> Drawing:
    panels = []
    for task, words in TASKS.items():
        curves = []
        for rule in TUNED:
            found = results[f"{task}-{rule}-batch-{CARRIED_BATCH}"]
            x = [run["lr"] / found["best"] for run in found["grid"]]
            curves.append(_curve(rule, x, [[run] for run in found["grid"]]))
        panels.append(Panel(f"final training loss; {words}", curves, log=True))
    caption = (
        f"Batch {CARRIED_BATCH}, the start on which constants are chosen. A curve ends where the grid does, or where "
        "the next constant ended above the first loss."
    )
    return drawing(
        "constants", "What a wrong constant costs", caption, panels, "constant over the best one", log_x=True
    )


def _carried(results: Results) -> Drawing:
    curves = []
    for rule in CARRIED:
        groups = [one["runs"] for one in results[f"logistic-{rule}-batch-{CARRIED_BATCH}"]["carried"]]
        curves.append(_curve(rule, FACTORS, groups))
    panels = [Panel(f"final training loss at s = {SCALING:g}", curves, log=True)]
    caption = (
        f"Logistic regression, batch {CARRIED_BATCH}. At 1 a rule has the constant that was chosen at s = 1. Mean and "
        "standard error over the starts; a curve ends early where a run diverged."
    )
    return drawing(
        "carried", "Constants carried to another scaling", caption, panels, "factor on the constant", log_x=True
    )
