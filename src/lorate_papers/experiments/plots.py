"""Lines with measured points on them: the figure that theory and simulation share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lorate.report.style import HEIGHT, new_figure, style, ticks_in_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0b7a75", "#c2571a", "#7a5cc4", "#5f7285")
"""For curves that belong to no rule; contrast of at least 3:1 on light and on dark paper."""
MARKERS = ("o", "s", "D", "^", "v", "P")
Dashes = str | tuple[int, tuple[float, ...]]


@dataclass(frozen=True)
class Points:
    """Measured values with one standard error each way."""

    x: Sequence[float] = ()  # places
    y: Sequence[float] = ()  # values
    error: Sequence[float] = ()  # standard errors, 0 for a single measurement


@dataclass(frozen=True)
class Curve:
    """A line, the points measured on it, or both."""

    label: str  # for the legend
    x: Sequence[float] = ()  # of the line
    y: Sequence[float] = ()  # of the line; nan leaves a gap
    points: Points = field(default_factory=Points)  # measured
    colour: str | None = None  # of both; the next of `COLOURS` if None
    dashes: Dashes = "solid"  # style of the line
    # lower and upper end of what surrounds the line, at the same places
    band: tuple[Sequence[float], Sequence[float]] | None = None
    broken: bool = False  # the line ends because the run did; marked by a cross


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    curves: Sequence[Curve]
    log: bool = False


def curve_figure(panels: Sequence[Panel], xlabel: str, log_x: bool = False, columns: int = 2) -> "Figure":
    """Panels under each other that share the horizontal axis and one legend.

    Args:
        panels: from top to bottom; all have the same curves in the same order.
        xlabel: what stands under the last one.
        log_x: a logarithmic horizontal axis.
        columns: of the legend.
    """
    with style():
        rows = math.ceil(len(panels[0].curves) / columns)
        figure = new_figure(HEIGHT + 1.75 * (len(panels) - 1) + 0.2 * rows)
        first = None
        log_x = log_x and any(_positive(curve.x, curve.points.x) for panel in panels for curve in panel.curves)
        for place, panel in enumerate(panels):
            axes = figure.add_subplot(len(panels), 1, place + 1, sharex=first)
            first = first or axes
            for number, curve in enumerate(panel.curves):
                colour = curve.colour or COLOURS[number % len(COLOURS)]
                marker = MARKERS[number % len(MARKERS)]
                shown = marker if len(curve.points.x) else ""
                # one entry in the legend with line and marker, although they are drawn apart
                axes.plot([], [], color=colour, linestyle=_line(curve), marker=shown, markersize=4, label=curve.label)
                axes.plot(curve.x, curve.y, color=colour, linestyle=curve.dashes)
                if curve.band is not None:
                    axes.fill_between(curve.x, *curve.band, color=colour, alpha=0.18, linewidth=0)
                if curve.broken and len(curve.x):
                    # arms longer than a marker of the points, which may lie on it
                    cross: dict[str, Any] = {"marker": "x", "markersize": 7, "linestyle": "none", "zorder": 5}
                    axes.plot(curve.x[-1:], curve.y[-1:], color=colour, **cross)
                if len(curve.points.x):
                    axes.errorbar(
                        curve.points.x,
                        curve.points.y,
                        yerr=curve.points.error,
                        color=colour,
                        linestyle="none",
                        marker=marker,
                        markersize=4,
                        capsize=2,
                        elinewidth=1.1,
                        zorder=4,
                    )
            if log_x:
                axes.set_xscale("log", nonpositive="mask")
            log_y = panel.log and any(_positive(curve.y, curve.points.y) for curve in panel.curves)
            if log_y:
                axes.set_yscale("log")
            axes.set_title(panel.title, loc="left", pad=7)
            axes.margins(x=0.03)
            ticks_in_words(axes.yaxis, log_y)
            axes.tick_params(labelbottom=place == len(panels) - 1)
        axes.set_xlabel(xlabel)
        ticks_in_words(axes.xaxis, log_x)
        handles, labels = axes.get_legend_handles_labels()
        if len(labels) > 1:
            order = [entry for column in range(columns) for entry in range(column, len(labels), columns)]
            figure.legend(
                [handles[entry] for entry in order],
                [labels[entry] for entry in order],
                loc="outside lower left",
                ncols=columns,
            )
        return figure


def _positive(*values: Sequence[float]) -> bool:
    """Whether there is something for a logarithmic axis: where every run diverged there is not."""
    return any(math.isfinite(value) and value > 0 for some in values for value in some)


def _line(curve: Curve) -> Dashes:
    return curve.dashes if len(curve.x) else "none"
