"""The figures."""

import numpy as np

from lorate.report import rule_colour
from lorate_papers.experiments.conditions.plan import size
from lorate_papers.experiments.conditions.readings import lead, spacings
from lorate_papers.experiments.experiment import Drawing, Options, Results
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.experiments.plots import Curve, Dashes, Panel
from lorate_papers.experiments.rule_figures import drawing


def draw(results: Results, options: Options) -> list[Drawing]:
    """All figures, in the order of the report."""
    return [_horizons(results, options), _spacing(results, options)]


def _dashes(rule: str) -> Dashes:
    """adaptive-loss often lies on adaptive."""
    return (0, (3.0, 2.5)) if rule == "adaptive-loss" else "solid"


def _even(first: float, last: float) -> Curve:
    return Curve("as low as the constant rate", [first, last], [1.0, 1.0], colour="#5b6675", dashes="dotted")


def _horizons(results: Results, options: Options) -> Drawing:
    how = size(options)
    panels = []
    for start in how.starts:
        curves = []
        for rule in PAPER:
            ratios = 2 ** -lead(results, rule, start)
            band = (ratios.min(0).tolist(), ratios.max(0).tolist())
            middle = np.median(ratios, axis=0).tolist()
            curves.append(
                Curve(rule, list(how.horizons), middle, colour=rule_colour(rule), band=band, dashes=_dashes(rule))
            )
        panels.append(
            Panel(
                f"loss, as a multiple of the constant rate's; A starts with {start:g}",
                [*curves, _even(how.horizons[0], how.horizons[-1])],
                log=True,
            )
        )
    caption = (
        "Below the dotted line a rule of the paper is better than the best constant rate. All at the best of "
        f"{how.points} constants over three decades, chosen for each point. Line: median of {how.seeds} seeds; band: "
        "lowest to highest. A starts with the standard deviation given, B with 0."
    )
    return drawing("horizons", "Start and length.", caption, panels, "steps", log_x=True)


def _spacing(results: Results, options: Options) -> Drawing:
    how, steps = size(options), spacings(options)
    decade = steps[-1]
    x = [decade / step for step in steps]
    panels = []
    for start in how.starts:
        curves = []
        for rule in PAPER:
            ratios = np.array([2 ** -lead(results, rule, start, step)[:, -1] for step in steps])
            band = (ratios.min(1).tolist(), ratios.max(1).tolist())
            curves.append(
                Curve(
                    rule,
                    x,
                    np.median(ratios, axis=1).tolist(),
                    colour=rule_colour(rule),
                    band=band,
                    dashes=_dashes(rule),
                )
            )
        panels.append(
            Panel(
                f"loss, as a multiple of the constant rate's; A starts with {start:g}",
                [*curves, _even(x[-1], x[0])],
                log=True,
            )
        )
    caption = (
        f"After {how.horizons[-1]} steps. To the left few constants of each rule are tried, to the right many; the "
        "mean over where the grid begins. Below the dotted line a rule of the paper is better."
    )
    return drawing("spacing", "Fineness of the grid.", caption, panels, "constants tried in a decade", log_x=True)
