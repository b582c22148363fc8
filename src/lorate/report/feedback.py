"""What rule ``auto`` saw on its way: signal fraction, and curvature with its probes."""

import math
from typing import TYPE_CHECKING

from lorate.report.palette import rule_colour
from lorate.report.style import HEIGHT, MUTED, label_steps, new_figure, style, ticks_in_words
from lorate.report.track import Track

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Signal fraction γ and curvature L."
CAPTION = (
    "γ: how much of the slope that a batch promises is there on the next, unseen batch. 1: all of it, steps go by "
    "signal; near 0: the rest is noise, and η falls with it. L (line): the running mean of the probes (points); where "
    "it falls, larger steps are safe. Both drive η: see How auto works in the documentation."
)


def has_feedback(run: Track) -> bool:
    """Whether the run's records hold any of it."""
    return any(math.isfinite(value) for key in ("signal_fraction", "probe") for value in run.curve(key)[1])


def feedback_figure(run: Track) -> "Figure":
    """Two panels against steps: γ from 0 to 1, and L with every drawn probe, logarithmic."""
    colour = rule_colour(run.rule)
    with style():
        figure = new_figure(HEIGHT + 1.75)
        upper = figure.add_subplot(2, 1, 1)
        upper.plot(*run.curve("signal_fraction"), color=colour)
        upper.set_ylim(0, 1.05)
        upper.set_title("signal fraction γ", loc="left", pad=9)
        lower = figure.add_subplot(2, 1, 2, sharex=upper)
        steps, probes = run.curve("probe")
        shown = [value if value > 0 else math.nan for value in probes]
        lower.plot(steps, shown, color=MUTED, linestyle="none", marker="o", markersize=3, label="one probe")
        lower.plot(*run.curve("smoothness"), color=colour, label="L in force")
        if any(math.isfinite(value) for value in shown):
            lower.set_yscale("log")
        lower.set_title("curvature L", loc="left", pad=9)
        for axes in (upper, lower):
            axes.margins(x=0.02)
            ticks_in_words(axes.yaxis, axes.get_yscale() == "log")
        upper.tick_params(labelbottom=False)
        label_steps(lower)
        figure.legend(*lower.get_legend_handles_labels(), loc="outside lower left", ncols=2)
        return figure
