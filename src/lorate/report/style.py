"""The look that all figures share: sizes, inks, ticks."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lorate.extras import require
from lorate.report.words import numeral, power_of_ten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

PAPER = "#ffffff"
INK = "#1b2430"
MUTED = "#5b6675"
GRID = "#dfe4ea"
ALARM = "#c0271b"

WIDTH = 3.9
"""Width of a figure in inches; at 100 units an inch its letters stay legible on a phone."""
HEIGHT = 2.6

_SETTINGS = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same picture on every machine
    "font.size": 8.4,
    "axes.labelsize": 8.4,
    "axes.titlesize": 8.4,
    "xtick.labelsize": 8.4,
    "ytick.labelsize": 8.4,
    "legend.fontsize": 8.4,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "ytick.minor.size": 0,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.2,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "text.usetex": False,
    "svg.fonttype": "none",  # text stays text: it can be selected, read aloud and takes the page's colours
    "svg.hashsalt": "lorate",
}


@contextmanager
def style() -> Iterator[None]:
    """Make and save figures in the style of the report.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    matplotlib = require("matplotlib", extra="report")
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A script that the bundled font lacks: the browser has a font for it, so this is no news to anybody.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def new_figure(height: float = HEIGHT) -> "Figure":
    """An empty figure of the common width; it belongs to no window and no global state."""
    require("matplotlib", extra="report")
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def ticks_in_words(axis: "Axis", log: bool) -> None:
    """Label the ticks with plain numerals, or with powers of ten on a long logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if not log:
        axis.set_major_locator(MaxNLocator(nbins=5, min_n_ticks=3))
        axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        return
    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low) if low > 0 else 0.0
    subdivisions: Any = (
        (1.0,) if decades > 2.5 else (1.0, 2.0, 5.0) if decades > 0.8 else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    )
    axis.set_major_locator(LogLocator(subs=subdivisions, numticks=7 if decades > 2.5 else 12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_formatter(NullFormatter())


def short(value: float) -> str:
    """A tick label.

    >>> short(0.25), short(20000), short(1e-6), short(-3e5)
    ('0.25', '20,000', '10⁻⁶', '−3×10⁵')
    """
    size = abs(value)
    if size == 0 or 1e-3 <= size < 1e5:
        return f"{value:,.10g}".replace("-", "−")
    exponent = math.floor(math.log10(size) + 1e-9)
    if math.isclose(value, 10.0**exponent, rel_tol=1e-6):
        return power_of_ten(exponent)
    if size < 1e-3 or size >= 1e7:
        return numeral(value, 3)
    return f"{value / 10.0**exponent:.3g}×{power_of_ten(exponent)}".replace("-", "−")


def label_steps(axes: "Axes") -> None:
    """The horizontal axis of all curves: training steps, whole numbers."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}".replace("-", "−")))
