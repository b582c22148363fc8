"""The figures: loss against the constant, and curves at the best constants."""

from lorate.report import rule_colour
from lorate.report.palette import line_styles
from lorate_papers.experiments.experiment import Drawing, Options, Results
from lorate_papers.experiments.plots import Curve, Panel, Points
from lorate_papers.experiments.rule_figures import Column, Group, drawing, rule_panels
from lorate_papers.experiments.rules.plan import ENOUGH, Task, seeds, tasks


def draw(results: Results, options: Options) -> list[Drawing]:
    """All figures, in the order of the report."""
    drawings = []
    for workload, task in tasks(options).items():
        drawings += [_sensitivity(results, workload, task), _curves(results, options, workload, task)]
    return drawings


def _sensitivity(results: Results, workload: str, task: Task) -> Drawing:
    curves = []
    for rule, dashes in zip(task.rules, line_styles(task.rules), strict=True):
        tuning = results[f"{workload}-{rule}"]
        kept = [trial for trial in tuning["grid"] if not trial["diverged"]]
        x, y = [trial["lr"] / tuning["best"] for trial in kept], [trial[task.by] for trial in kept]
        points, lost = Points(x, y, [0.0] * len(x)), len(kept) < len(tuning["grid"])
        curves.append(Curve(rule, x, y, points, rule_colour(rule), dashes, broken=lost))
    panels = [Panel(f"{task.loss} after {task.steps} steps, nats", curves, log=True)]
    caption = (
        f"{task.words.capitalize()}, one start. Horizontally each rule's constant, as a multiple of its best one, with "
        "which no start diverged. A cross: larger constants diverged. A wide valley means that the constant matters "
        f"little; usable are constants that bring {ENOUGH:.0%} of the rule's best fall."
    )
    return drawing(
        f"sensitivity-{workload}",
        f"Sensitivity, {task.words}.",
        caption,
        panels,
        "constant, as a multiple of the rule's best",
        log_x=True,
    )


def _curves(results: Results, options: Options, workload: str, task: Task) -> Drawing:
    groups = [
        Group(f"{rule}, a = {results[f'{workload}-{rule}']['best']:.3g}", rule, results[f"{workload}-{rule}"]["runs"])
        for rule in task.rules
    ]
    name = "loss" if task.by == "final_loss" else "validation"
    columns = (Column(f"{task.loss}, nats", name, True), Column("step size η", "eta", True))
    panels = rule_panels(groups, columns)
    caption = (
        f"{task.words.capitalize()}, every rule at the best constant of its grid with which no start diverged. Line: "
        f"median of {len(seeds(options))} starts; band: lowest to highest."
    )
    return drawing(
        f"curves-{workload}", f"At the best constants, {task.words}.", caption, panels, "step", log_x=task.batch is None
    )
