"""The figures of the symmetric case."""

import numpy as np

from lorate_papers.experiments.burer_monteiro.claims import runs_of
from lorate_papers.experiments.burer_monteiro.plan import RULES, WORDS, seeds, size
from lorate_papers.experiments.experiment import Drawing, Options, Results
from lorate_papers.experiments.plots import Curve, Panel, curve_figure
from lorate_papers.experiments.rule_figures import Column, Group, drawing, rule_panels, spoken
from lorate_papers.training.measures import Result

STEP = "step of gradient descent on V"


def draw(results: Results, options: Options) -> list[Drawing]:
    """All figures, in the order of the report."""
    return [
        _rules(results, options, "sensing"),
        _rules(results, options, "max-cut"),
        _columns(results, options),
        _origin(results, options),
    ]


def _rules(results: Results, options: Options, problem: str) -> Drawing:
    groups = [Group(rule, rule, runs_of(results, options, f"{problem}-{rule}")) for rule in RULES]
    # sensing has the minimum 0; of max-cut the lowest value of all runs is taken for the minimum
    lowest = 0.0 if problem == "sensing" else min(run["least"] for name, run in results.items() if "cut" in name)
    columns = (
        Column("f above its minimum", "loss", True, lambda values: np.where(values > lowest, values - lowest, np.nan)),
        Column("squared gradient norm ‖∇‖²", "grad_sq", True),
        Column("step size η", "eta", True),
    )
    panels = rule_panels(groups, columns)
    minimum = "0" if problem == "sensing" else "the lowest value of all runs"
    caption = (
        f"{WORDS[problem].capitalize()}; the minimum is {minimum}. Line: median of {len(seeds(options))} starts; band: "
        "lowest to highest."
    )
    figure = curve_figure(panels, STEP, log_x=True, columns=3)
    if problem == "sensing":
        for axes, bottom in zip(figure.axes, (1e-14, 1e-14), strict=False):
            axes.set_ylim(bottom=bottom)
    return Drawing(problem, f"{WORDS[problem].capitalize()}.", caption, spoken(panels), figure)


def _curve(label: str, run: Result) -> Curve:
    return Curve(label, run["trace"]["step"], [value / run["first_loss"] for value in run["trace"]["loss"]])


def _columns(results: Results, options: Options) -> Drawing:
    seed = seeds(options)[0]
    curves = [_curve(f"{rank} columns", results[f"rank-{rank}-seed-{seed}"]) for rank in size(options).ranks]
    panels = [Panel("f, as a share of its first value", curves, log=True)]
    caption = "Matrix sensing, rule majorizer, one start. The solution has rank 2."
    figure = curve_figure(panels, STEP, log_x=True, columns=3)
    figure.axes[0].set_ylim(bottom=1e-14)
    return Drawing("columns", "More columns than needed.", caption, spoken(panels), figure)


def _origin(results: Results, options: Options) -> Drawing:
    seed = seeds(options)[0]
    panels = []
    for problem, name in WORDS.items():
        starts = ((norm, results[f"start-{norm:g}-{problem}-seed-{seed}"]) for norm in size(options).norms)
        curves = [_curve(f"{norm:g} times the usual V₀", run) for norm, run in starts]
        panels.append(Panel(f"{name}: f, as a share of its first value", curves))
    caption = "Rule sharp, one start of each size. V = 0 is stationary for every f."
    return drawing("origin", "The flat region at the origin.", caption, panels, STEP, log_x=True)
