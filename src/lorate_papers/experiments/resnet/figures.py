"""The figures."""

from collections.abc import Sequence

import numpy as np

from lorate.report import rule_colour
from lorate_papers.experiments.experiment import Drawing, Options, Results
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.experiments.plots import Curve, Panel
from lorate_papers.experiments.resnet.plan import PROVED, TUNED, seeds, size
from lorate_papers.experiments.rule_figures import Column, Group, drawing, rule_panels
from lorate_papers.training.measures import Numbers, trailing_mean

SMOOTHED = 12
"""Steps over which noisy curves are averaged."""


def smoothed(values: Numbers) -> Numbers:
    """Mean over the last `SMOOTHED` values."""
    return trailing_mean(values, SMOOTHED)


COLUMNS = (
    Column("training loss, nats", "loss", log=True, change=smoothed),
    Column("held-out loss, nats", "validation", log=True),
    Column("squared gradient norm ‖∇J‖² of the batch", "grad_sq", log=True, change=smoothed),
    Column("norm of the adapters ‖V‖", "stacked_sq", log=True, change=np.sqrt),
    Column("step size η", "eta", log=True),
)


def draw(results: Results, options: Options) -> list[Drawing]:
    """All figures, in the order of the report."""
    how, starts = size(options), len(seeds(options))
    return [
        paper_rules(results, "The paper's rules on a residual network.", how.points, starts),
        _proved_rules(results, starts),
        constants(results, how.steps),
    ]


def _rules(name: str, title: str, caption: str, groups: Sequence[Group]) -> Drawing:
    return drawing(name, title, caption, rule_panels(groups, COLUMNS), "step")


def _starts(count: int) -> str:
    return (
        f"Line: median of {count} starts; band: lowest to highest. Loss and gradient are means over the "
        f"last {SMOOTHED} batches."
    )


def paper_rules(results: Results, title: str, points: int, starts: int) -> Drawing:
    """The tuned rules and the constant rate, and AdamW where it was run."""
    constant = results["tuned-constant"]
    groups = [Group(f"constant {constant['best']:.3g}", "constant", constant["runs"])]
    for name, multiple in (("small", 0.1), ("large", 10.0)):
        groups.append(Group(f"constant {multiple * constant['best']:.3g}", "constant", constant[name]))
    for rule in PAPER:
        groups.append(
            Group(f"{rule}, a = {results[f'tuned-{rule}']['best']:.3g}", rule, results[f"tuned-{rule}"]["runs"])
        )
    if "tuned-adamw" in results:
        adamw = results["tuned-adamw"]
        groups.append(Group(f"AdamW {adamw['best']:.3g}", "adamw", adamw["runs"]))
    caption = (
        f"Each rule at its best constant of {points} over two decades with which no start diverged, and the "
        f"constant rate at a tenth "
        f"and at ten times its best. {_starts(starts)} A cross: the run diverged."
    )
    return _rules("paper-rules", title, caption, groups)


def _proved_rules(results: Results, starts: int) -> Drawing:
    groups = [Group(rule, rule, results[f"untuned-{rule}"]["runs"]) for rule in PROVED]
    caption = (
        "Nothing is tuned: the first four rules are given the curvature at the start as L, the fifth finds an L for "
        f"each batch. {_starts(starts)}"
    )
    return _rules("proved-rules", "The rules with a proof, untuned.", caption, groups)


def constants(results: Results, steps: int) -> Drawing:
    """What came of the constants tried."""
    curves = []
    for rule in [rule for rule in TUNED if f"tuned-{rule}" in results]:
        tuning = results[f"tuned-{rule}"]
        points = [(run["lr"] / tuning["best"], run["final_loss"]) for run in tuning["grid"] if not run["diverged"]]
        lost = any(run["diverged"] for run in tuning["grid"])
        x, y = [place for place, _ in points], [loss for _, loss in points]
        label = "AdamW" if rule == "adamw" else rule
        curves.append(Curve(label, x, y, colour=rule_colour(rule), broken=lost))
    panels = [Panel("final training loss, nats", curves, log=True)]
    caption = (
        f"One start, {steps} steps. A curve ends with a cross at the last constant that did not diverge. "
        "The best constant of a rule is one with which no start diverged."
    )
    return drawing(
        "constants",
        "Sensitivity to the constant.",
        caption,
        panels,
        "constant, as a multiple of the rule's best",
        log_x=True,
    )
