"""Curves against steps: loss, step size, norms, gradient. Each function returns a matplotlib Figure.

All take a sequence of tracks (`lorate.report.track.track`); one track is drawn in its rule's colour, several
ones are overlaid with a legend. Alarms are marked by triangles at the top, skipped steps by crosses at the bottom.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorate.report.palette import line_styles, rule_colour
from lorate.report.style import ALARM, HEIGHT, MUTED, label_steps, new_figure, style, ticks_in_words
from lorate.report.track import Track
from lorate.report.words import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_UNDRAWABLE = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")
"""What neither XML nor a font has a place for."""
_MARKS = ("alarm", "skipped step")
LABELS = {
    "loss": "loss",
    "eta": "step size η",
    "stacked_norm": "‖V‖",
    "a_norm": "‖A‖",
    "b_norm": "‖B‖",
    "grad_norm": "‖∇J‖",
    "weight_grad_norm": "‖∇Loss(W)‖",
    "signal": "signal",
    "drift": "drift",
    "drift_ratio": "drift / signal",
}


def loss_figure(tracks: Sequence[Track]) -> "Figure":
    """Training loss (thin), smoothed (thick), and held-out loss with one standard error each way.

    The axis is logarithmic when the values are positive and span more than a factor 6.
    """
    with style():
        figure, [axes] = _frame(tracks)
        drawn: list[float] = []
        for run, line in zip(tracks, line_styles([run.rule for run in tracks]), strict=True):
            colour = rule_colour(run.rule)
            steps, losses = run.curve("loss")
            axes.plot(steps, losses, color=colour, linewidth=0.8, alpha=0.4, label=_legend("every step", tracks))
            smooth_steps, smooth, _ = run.smoothed("loss")
            axes.plot(smooth_steps, smooth, color=colour, linestyle=line, label=_legend("smoothed", tracks, run))
            where, held_out, errors = run.held_out()
            if where:
                axes.errorbar(
                    where,
                    held_out,
                    yerr=errors,
                    color=colour,
                    linestyle="none",
                    marker="o",
                    markersize=4.5,
                    capsize=2.5,
                    elinewidth=1.2,
                    label=_legend("held out", tracks),
                    zorder=4,
                )
            drawn += _finite([*losses, *held_out])
        log = bool(drawn) and min(drawn) > 0 and max(drawn) > 6 * min(drawn)
        return _finish(figure, axes, tracks, "loss", log)


def eta_figure(tracks: Sequence[Track]) -> "Figure":
    """The step size in force, logarithmic."""
    return _curve_figure(tracks, ["eta"], log=True)


def norm_figure(tracks: Sequence[Track], keys: Sequence[str] = ("stacked_norm", "a_norm", "b_norm")) -> "Figure":
    """The stacked norm ‖V‖ with its parts ‖A‖ and ‖B‖: together for one run, one panel each for several.

    The axis is logarithmic when the largest value is more than 6 times the middle one (a run that diverges).
    """
    values = sorted(value for run in tracks for key in keys for value in _finite(run.curve(key)[1]))
    return _curve_figure(tracks, list(keys), log=bool(values) and values[-1] > 6 * values[len(values) // 2] > 0)


def gradient_figure(tracks: Sequence[Track]) -> "Figure":
    """‖∇J‖, and ‖∇Loss(W)‖ when a single run measured it; logarithmic."""
    keys = ["grad_norm"]
    if len(tracks) == 1 and any(math.isfinite(value) for value in tracks[0].curve("weight_grad_norm")[1]):
        keys.append("weight_grad_norm")
    return _curve_figure(tracks, keys, log=True)


def drift_figure(tracks: Sequence[Track]) -> "Figure":
    """Signal and drift of one run, their ratio for several, from `lorate.report.windows.window_track`; logarithmic."""
    return _curve_figure(tracks, ["signal", "drift"] if len(tracks) == 1 else ["drift_ratio"], log=True)


def save_figure(figure: "Figure", path_without_suffix: Path) -> tuple[Path, Path]:
    """Write any matplotlib Figure as SVG and as PNG (200 dots an inch), each replaced in one step; returns both paths.

    Args:
        figure: what to write.
        path_without_suffix: ``figures/loss`` makes ``figures/loss.svg`` and ``figures/loss.png``; a directory
            that is missing is made.
    """
    from lorate.runs import write_atomically

    folder, name = path_without_suffix.parent, path_without_suffix.name
    folder.mkdir(parents=True, exist_ok=True)
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    write_atomically(svg, rendered(figure, "svg", {"Date": None}))
    write_atomically(png, rendered(figure, "png", {"Software": None}))
    return svg, png


def rendered(figure: "Figure", kind: str, metadata: dict[str, Any]) -> bytes:
    """A figure as the bytes of an ``svg`` or ``png`` file."""
    from io import BytesIO

    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if _UNDRAWABLE.search(text.get_text()):
            text.set_text(_UNDRAWABLE.sub("�", text.get_text()))
    buffer = BytesIO()
    with style():
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def _curve_figure(tracks: Sequence[Track], keys: list[str], log: bool) -> "Figure":
    with style():
        several = len(tracks) > 1
        panels = keys if several else [keys[0]]
        figure, all_axes = _frame(tracks, len(panels))
        styles = line_styles([run.rule for run in tracks])
        for axes, panel in zip(all_axes, panels, strict=True):
            for run, line in zip(tracks, styles, strict=True):
                for key, dash in [(panel, line)] if several else list(zip(keys, line_styles([""] * 3), strict=False)):
                    steps, values = run.curve(key)
                    if log:  # a logarithm has no place for zero
                        values = [value if value > 0 else math.nan for value in values]
                    axes.plot(
                        steps,
                        values,
                        color=rule_colour(run.rule),
                        linestyle=dash,
                        label=_legend(LABELS[key], tracks, run),
                    )
            title = LABELS[panel] if several or len(keys) == 1 else "norm"
            _finish(figure, axes, tracks, title, log, legend=axes is all_axes[-1])
        return figure


def _frame(tracks: Sequence[Track], panels: int = 1) -> tuple["Figure", list["Axes"]]:
    legend_rows = math.ceil(len(tracks) / _legend_columns(tracks)) if len(tracks) > 1 else 0
    figure = new_figure(HEIGHT + (panels - 1) * 1.55 + 0.2 * legend_rows)
    return figure, [figure.add_subplot(panels, 1, place + 1) for place in range(panels)]


def _legend_columns(tracks: Sequence[Track]) -> int:
    longest = max((len(printable(run.label, 44)) for run in tracks), default=0)
    return 3 if longest <= 12 else 2 if longest <= 22 else 1


def _legend(words: str, tracks: Sequence[Track], run: Track | None = None) -> str | None:
    """The words for one run; for several the run's label on its main line, nothing on the others."""
    if len(tracks) == 1:
        return words
    return printable(run.label, 44) if run else None


def _finish(
    figure: "Figure", axes: "Axes", tracks: Sequence[Track], ylabel: str, log: bool, legend: bool = True
) -> "Figure":
    """Scales, marks of alarms and skipped steps, labels and legend."""
    from matplotlib.ticker import NullLocator

    values = [y for line in axes.get_lines() for y in _finite(line.get_ydata())]
    if not values:
        axes.text(0.5, 0.5, "no values recorded", transform=axes.transAxes, ha="center", color=MUTED)
        axes.yaxis.set_major_locator(NullLocator())
    elif log and min(values) > 0:
        axes.set_yscale("log")
        if min(values) < 1e-6 * max(values):  # a few tiny values would squeeze all others into a corner
            axes.set_ylim(bottom=1e-6 * max(values))
        if max(values) < 1.2 * min(values):  # a constant: show the decade around it instead of its rounding
            axes.set_ylim(min(values) / 3, max(values) * 3)
    elif max(values) - min(values) < 1e-9 * max(abs(value) for value in values):
        axes.set_ylim(min(values) - 0.1 * abs(min(values)) - 1e-12, max(values) + 0.1 * abs(max(values)) + 1e-12)
    axes.margins(x=0.02)
    _mark(axes, tracks)
    label_steps(axes)
    axes.set_title(ylabel, loc="left", pad=9)
    if values:
        ticks_in_words(axes.yaxis, axes.get_yscale() == "log")
    handles, labels = axes.get_legend_handles_labels()
    if legend and handles and (len(tracks) > 1 or len(handles) > 1):
        columns = 3 if len(tracks) == 1 else _legend_columns(tracks)
        order = _row_by_row(sorted(range(len(labels)), key=lambda place: labels[place] in _MARKS), columns)
        figure.legend(
            [handles[place] for place in order],
            [labels[place] for place in order],
            loc="outside lower left",
            ncols=columns,
        )
    return figure


def _row_by_row(items: list[int], columns: int) -> list[int]:
    """The order in which a legend must be given its entries, to be read in rows: it fills column by column."""
    return [item for column in range(columns) for item in items[column::columns]]


def _mark(axes: "Axes", tracks: Sequence[Track]) -> None:
    """Triangles for alarms and crosses for skipped steps; marks closer than a fiftieth of the axis are one."""
    low, high = axes.get_xlim()
    several = len(tracks) > 1
    for height, marker, pick, words in (
        (1.0, "v", Track.alarm_steps, _MARKS[0]),
        (0.02, "x", Track.skipped_steps, _MARKS[1]),
    ):
        for run in tracks:
            steps: list[float] = []
            for step in pick(run):
                if not steps or step - steps[-1] > (high - low) / 50:
                    steps.append(step)
            if steps:
                axes.plot(
                    steps,
                    [height] * len(steps),
                    transform=axes.get_xaxis_transform(),
                    color=rule_colour(run.rule) if several else ALARM if marker == "v" else MUTED,
                    marker=marker,
                    markersize=4.5,
                    linestyle="none",
                    clip_on=False,
                    zorder=5,
                    label=None if several else words,
                )


def _finite(values: Any) -> list[float]:
    return [float(value) for value in values if math.isfinite(float(value))]
