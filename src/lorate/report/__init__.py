"""The report: figures of a run, and one HTML page that holds them all.

Needs the extra ``report`` (matplotlib, jinja2), imported when something is drawn.
"""

from lorate.report.figures import eta_figure, gradient_figure, loss_figure, norm_figure, save_figure
from lorate.report.heatmap import LayerNorms, layer_figure, layer_norms
from lorate.report.page import write_report
from lorate.report.palette import line_styles, rule_colour
from lorate.report.style import new_figure, style
from lorate.report.track import Track, track

__all__ = [
    "LayerNorms",
    "Track",
    "eta_figure",
    "gradient_figure",
    "layer_figure",
    "layer_norms",
    "line_styles",
    "loss_figure",
    "new_figure",
    "norm_figure",
    "rule_colour",
    "save_figure",
    "style",
    "track",
    "write_report",
]
