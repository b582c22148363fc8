"""The figures on bounded and free adapters."""

import math

import numpy as np

from lorate_papers.experiments.bounded.plan import CONTROLS, DECAY, RULES, TASKS, seeds, size
from lorate_papers.experiments.experiment import Drawing, Options, Results
from lorate_papers.experiments.plots import COLOURS, Curve, Panel, Points
from lorate_papers.experiments.rule_figures import Column, Group, drawing, rule_panels
from lorate_papers.training.measures import Numbers, least_since_peak

STEP = "step of full-batch descent"


def draw(results: Results, options: Options) -> list[Drawing]:
    """All figures, in the order of the report."""
    return [
        *(_rule(results, options, task, rule) for task in TASKS for rule in ("sharp", "constant")),
        *(_stationarity(results, task) for task in TASKS),
        _survivors(results, options),
    ]


def _rule(results: Results, options: Options, task: str, rule: str) -> Drawing:
    comparison = results[f"compared-{task}-{rule}"]
    groups = [Group(words, rule, comparison[control]) for control, words in CONTROLS.items()]
    columns = (
        Column("training loss", "loss", log=True),
        Column("norm of the adapters ‖V‖", "stacked_sq", change=np.sqrt),
        Column("sum of the step sizes Σ η", "sum_eta", log=True),
    )
    panels = rule_panels(groups, columns)
    constant = "" if comparison["best"] is None else f" with a = {comparison['best']:.3g}"
    caption = (
        f"{TASKS[task].capitalize()}, rule {rule}{constant}. The cap is half-way between the norms at which the free "
        f"run starts and ends; weight decay has λ = {DECAY:g}. Line: median of {len(seeds(options))} starts; band: "
        "lowest to highest."
    )
    name, title = f"{task}-{rule}", f"{TASKS[task].capitalize()}, {rule}."
    return drawing(name, title, caption, panels, STEP, log_x=True, columns=3)


def _stationarity(results: Results, task: str) -> Drawing:
    panels = []
    for control, words in CONTROLS.items():
        groups = [Group(rule, rule, results[f"compared-{task}-{rule}"][control]) for rule in RULES]
        column = Column(f"least squared gradient mapping; {words}", "mapping_sq", True, _least)
        panels += rule_panels(groups, [column])
    caption = (
        f"{TASKS[task].capitalize()}. The gradient mapping ‖V_t − V_t₊₁‖/η is ‖∇J‖ for free adapters and vanishes "
        "where the held problem is stationary; least means since its peak. It ends where steps are lost in rounding."
    )
    title = f"Stationarity, {TASKS[task]}."
    return drawing(f"stationarity-{task}", title, caption, panels, STEP, log_x=True)


def _least(values: Numbers) -> Numbers:
    # a step that is not known ends the curve: nothing after it is less than minus infinity
    least = least_since_peak(np.where(np.isnan(values), -math.inf, values))
    return np.where(least > 1e-9 * np.nanmax(values), least, math.nan)


def _survivors(results: Results, options: Options) -> Drawing:
    panels = []
    for task, words in TASKS.items():
        found, curves = results[f"survivors-{task}"], []
        for number, (control, label) in enumerate(CONTROLS.items()):
            rows = [row for row in found["rows"] if row["control"] == control]
            kept = [row for row in rows if not row["diverged"]]
            x, y = [row["lr"] for row in kept], [row["final_loss"] for row in kept]
            points = Points(x, y, [0.0] * len(x))
            curves.append(Curve(label, x, y, points, COLOURS[number], broken=len(kept) < len(rows)))
        panels.append(Panel(f"final training loss; {words}, cap {found['cap']:.2g}", curves, log=True))
    caption = (
        f"A constant rate, {size(options).survival[1]} steps, one start. A curve ends with a cross at the last "
        "constant that did not diverge."
    )
    return drawing("survivors", "Too large a constant.", caption, panels, "constant step size η", log_x=True, columns=3)
