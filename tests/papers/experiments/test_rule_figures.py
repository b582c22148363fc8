"""Figures of training runs: fixed colours, bands over seeds, diverged curves that end."""

from typing import Any

import numpy as np
import pytest

from lorate.report import rule_colour
from lorate_papers.experiments.plots import Curve, Panel, Points, curve_figure
from lorate_papers.experiments.rule_figures import Column, Group, rule_panels, spoken


def result(losses: list[float | None], diverged: bool = False) -> dict[str, Any]:
    steps = list(range(1, len(losses) + 1))
    trace = {"step": steps, "loss": losses, "stacked_sq": [4.0 * step**2 for step in steps]}
    return {
        "trace": trace,
        "diverged": diverged,
        "first_loss": losses[0],
        "validation": {"step": [0, 2], "loss": [5, 4]},
    }


THREE = Group("a = 1", "adaptive", [result([4, 3, 2]), result([4, 1, 1]), result([4, 2, 0.5])])
LOST = Group("a = 9", "adaptive", [result([4, 3, 50, None], diverged=True)])


def test_the_median_and_the_band() -> None:
    (panel,) = rule_panels([THREE], [Column("loss", "loss")])
    (curve,) = panel.curves
    assert list(curve.y) == [4, 2, 1] and curve.band == ([4, 1, 0.5], [4, 3, 2]) and not curve.broken
    (held_out,) = rule_panels([THREE], [Column("held-out", "validation")])
    assert list(held_out.curves[0].x) == [0, 2] and list(held_out.curves[0].y) == [5, 4]


def test_a_diverged_curve_ends_where_it_was_lost() -> None:
    loss, norm = rule_panels([LOST], [Column("loss", "loss"), Column("norm", "stacked_sq", change=np.sqrt)])
    assert list(loss.curves[0].y) == [4, 3] and list(norm.curves[0].y) == [2, 4] and loss.curves[0].broken
    assert spoken([loss]) == "loss, a = 9: 4 at 1, 3 at 2, where it diverged."


def test_one_rule_has_one_colour_and_several_styles() -> None:
    figure = curve_figure(rule_panels([THREE, LOST], [Column("loss", "loss", log=True)]), "step", log_x=True)
    (axes,) = figure.axes
    named = {line.get_label(): line for line in axes.lines if not str(line.get_label()).startswith("_")}
    assert {line.get_color() for line in named.values()} == {rule_colour("adaptive")}
    assert len({line.get_linestyle() for line in named.values()}) == 2
    assert axes.get_xscale() == "log" and axes.get_yscale() == "log" and axes.get_xlabel() == "step"
    assert len(axes.collections) == 1, "one band: the second group has one seed"
    assert any(line.get_marker() == "x" for line in axes.lines)


@pytest.mark.parametrize("x", ["step", "stacked_sq"])
def test_another_horizontal_axis(x: str) -> None:
    (panel,) = rule_panels([THREE], [Column("loss", "loss")], x)
    assert list(panel.curves[0].x) == ([1, 2, 3] if x == "step" else [4, 16, 36])


def test_the_cross_of_a_run_that_ended_is_not_hidden_by_its_last_point() -> None:
    curve = Curve("a = 9", [1, 2], [4, 3], Points([1, 2], [4, 3], [0, 0]), broken=True)
    lines = curve_figure([Panel("loss", [curve])], "step").axes[0].lines
    (cross,) = (line for line in lines if line.get_marker() == "x")
    dots = next(line for line in lines if line.get_marker() == "o" and len(line.get_xdata()) == 2)
    assert cross.get_zorder() > dots.get_zorder() and cross.get_markersize() > dots.get_markersize()
