"""What steers rule ``auto``: the slope of the averaged adapters in the step size."""

import math
from typing import TYPE_CHECKING

from lorate.report.palette import rule_colour
from lorate.report.style import HEIGHT, MUTED, label_steps, new_figure, style
from lorate.report.track import Track

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "What steers η: the slope r."
CAPTION = (
    "How the loss of each unseen batch would change if all recent steps had been longer, in units of its usual size. "
    "Below 0: longer steps would have helped; above: shorter ones. Single batches (points) are noisy; η follows their "
    "mean (line). It settles near 0, or above if the best step shrinks faster than η may. Where it stays far below, η "
    "is still on its way up: see How auto works in the documentation."
)


def has_feedback(run: Track) -> bool:
    """Whether the run's records hold any of it."""
    return any(math.isfinite(value) for value in run.curve("average_slope")[1])


def feedback_figure(run: Track) -> "Figure":
    """Slope r against steps: every drawn batch, and the running mean."""
    with style():
        figure = new_figure(HEIGHT)
        axes = figure.add_subplot()
        axes.axhline(0, color=MUTED, linewidth=0.8)
        steps, slopes = run.curve("average_slope")
        axes.plot(steps, slopes, color=MUTED, linestyle="none", marker="o", markersize=2, label="one batch")
        axes.plot(*run.smoothed("average_slope")[:2], color=rule_colour(run.rule), label="mean")
        axes.set_title("slope r", loc="left", pad=9)
        axes.margins(x=0.02)
        label_steps(axes)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2)
        return figure
