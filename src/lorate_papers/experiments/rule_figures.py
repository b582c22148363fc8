"""Curves of training runs, one a rule, in the rule's fixed colour, with a band over the seeds."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lorate.report import rule_colour
from lorate.report.palette import line_styles
from lorate_papers.experiments.experiment import Drawing
from lorate_papers.experiments.plots import Curve, Panel, curve_figure
from lorate_papers.training.measures import Numbers, column

if TYPE_CHECKING:
    pass

BEYOND = 3.0
"""A curve of a run that diverged is cut where its loss exceeds this many times the first one."""


@dataclass(frozen=True)
class Group:
    """Runs that one curve stands for: a rule with one constant, one run a seed."""

    label: str  # for the legend
    rule: str  # gives the colour
    runs: Sequence[Mapping[str, Any]]  # results of `lorate_papers.training.training_run.train_model`


@dataclass(frozen=True)
class Column:
    """What a panel shows of each run."""

    title: str  # with the unit
    name: str  # column of the trace; or ``"validation"``, the held-out loss
    log: bool = False  # a logarithmic vertical axis
    change: Callable[[Numbers], Numbers] = np.asarray  # of the values, for instance a square root


def rule_panels(groups: Sequence[Group], columns: Sequence[Column], x: str = "step") -> list[Panel]:
    """One panel per column, one curve per group: the median over the seeds, and a band from the lowest to the highest.

    Groups of one rule share its colour and differ in the style of the line. The curve of a group of which a seed
    diverged ends there, with a cross. ``x`` is a column of the trace: ``"step"``, ``"seconds"``, ``"sum_eta"``.
    """
    dashes = line_styles([group.rule for group in groups])
    return [
        Panel(
            shown.title,
            [_curve(group, shown, x, style) for group, style in zip(groups, dashes, strict=True)],
            shown.log,
        )
        for shown in columns
    ]


def spoken(panels: Sequence[Panel]) -> str:
    """First and last value of every curve, for those who do not see them."""
    sentences = []
    for panel in panels:
        for curve in panel.curves:
            shown = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if math.isfinite(y)]
            if shown:
                (x0, y0), (x1, y1) = shown[0], shown[-1]
                end = ", where it diverged" if curve.broken else ""
                sentences.append(f"{panel.title}, {curve.label}: {y0:.4g} at {x0:.4g}, {y1:.4g} at {x1:.4g}{end}.")
    return " ".join(sentences)


def drawing(
    name: str, title: str, caption: str, panels: Sequence[Panel], xlabel: str, log_x: bool = False, columns: int = 2
) -> Drawing:
    """Panels with their first and last values in words."""
    return Drawing(name, title, caption, spoken(panels), curve_figure(panels, xlabel, log_x, columns))


def _curve(group: Group, shown: Column, x: str, dashes: Any) -> Curve:
    pieces = [_values(run, shown, x) for run in group.runs]
    length = min(len(places) for places, _ in pieces)
    places = np.median([places[:length] for places, _ in pieces], axis=0)
    values = np.array([values[:length] for _, values in pieces])
    broken = any(run["diverged"] for run in group.runs)
    band = (values.min(0).tolist(), values.max(0).tolist()) if len(values) > 1 else None
    middle = np.median(values, axis=0).tolist()
    return Curve(
        group.label, places.tolist(), middle, colour=rule_colour(group.rule), dashes=dashes, band=band, broken=broken
    )


def _values(run: Mapping[str, Any], shown: Column, x: str) -> tuple[Numbers, Numbers]:
    """Places and values of one run; of a diverged one those before it was lost."""
    if shown.name == "validation":
        steps, losses = (np.array(run["validation"][name], dtype=float) for name in ("step", "loss"))
        places = steps if x == "step" else np.interp(steps, column(run, "step"), column(run, x))
        values = losses
    else:
        places, values, losses = (column(run, name) for name in (x, shown.name, "loss"))
    end = len(losses)
    if run["diverged"]:
        lost = ~(losses <= BEYOND * run["first_loss"])
        end = max(1, int(np.argmax(lost))) if lost.any() else end
    return places[:end], shown.change(values[:end])
