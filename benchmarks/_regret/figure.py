"""The results as a figure: one line a setting, one point a method and seed."""

from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from _regret.labels import LABELS, SPLITS, label_of, suffix_of
from _regret.table import percent
from lorate.report import rule_colour
from lorate.report.style import GRID, INK, MUTED, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS = {
    "adamw-habit": {"marker": "x", "color": MUTED},
    "adamw-formula": {"marker": "+", "color": INK},
    "dog": {"marker": "v", "facecolors": "none", "edgecolors": MUTED},
    "d-adaptation": {"marker": "^", "facecolors": "none", "edgecolors": MUTED},
    "prodigy": {"marker": "s", "facecolors": "none", "edgecolors": MUTED},
    "prodigy-plus": {"marker": "s", "facecolors": "none", "edgecolors": INK},
    "schedule-free": {"marker": "D", "facecolors": "none", "edgecolors": INK},
    "auto": {"marker": "o", "facecolors": rule_colour("auto"), "edgecolors": rule_colour("auto")},
}
"""In the order in which they are drawn, ``auto`` on top."""
SIZE = {"s": 26, "linewidths": 1.1}
LINEAR = 0.1
"""Regret up to which the axis is linear; it is logarithmic beyond."""
TICKS = (-0.1, -0.05, 0.0, 0.05, 0.1, 1.0, 10.0)
DIVERGED = 100.0
"""Where runs that diverged are drawn, and larger regrets."""
ROW = 0.4
"""Height of a setting in inches."""
LINE = 0.16
"""How far below the middle of a setting its points lie; its name is above."""


def regret_figure(results: Mapping[str, Any]) -> "Figure":
    """Regret of every method on every setting.

    Args:
        results: content of ``results/regret.json``.
    """
    lines: list[tuple[str, list[Mapping[str, Any]]]] = []
    for split, words in SPLITS.items():
        of_split = [row for row in results["rows"] if row["split"] == split]
        if of_split:
            lines.append((f"auto was {words}", []))
        lines += [(label_of(rows[0]), rows) for _, group in groupby(of_split, _setting) if (rows := list(group))]
    with style():
        figure = new_figure(ROW * len(lines) + 1.1)
        axes = figure.add_subplot()
        for place, (label, rows) in enumerate(lines):
            look, height = ({}, -0.28) if rows else ({"fontweight": "bold"}, 0.2)
            axes.text(0, place + height, label, transform=axes.get_yaxis_transform(), va="center", **look)
            if not rows:
                continue
            axes.axhline(place + LINE, color=GRID, linewidth=0.8, zorder=0)
            axes.vlines(0, place + LINE - 0.2, place + LINE + 0.2, color=INK, linewidth=1, zorder=1)
            for name, look in LOOKS.items():
                values = [_shown(row["regrets"][name]) for row in rows if name in row["regrets"]]
                axes.scatter(values, [place + LINE] * len(values), clip_on=False, zorder=3, **SIZE, **look)
        for name in LABELS:
            axes.scatter([], [], label=LABELS[name], **SIZE, **LOOKS[name])
        axes.set_xscale("symlog", linthresh=LINEAR, linscale=1.6)
        least = min(_shown(row["regrets"][name]) for _, rows in lines for row in rows for name in row["regrets"])
        axes.set_xlim(min(-LINEAR, 1.1 * least), DIVERGED)
        axes.set_xticks([*TICKS, DIVERGED], [*(_tick(value) for value in TICKS), "∞"])
        axes.minorticks_off()
        axes.set_ylim(len(lines) - 0.5, -0.2)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("regret against the best of 8 rates of AdamW with cosine\n(∞: diverged)")
        figure.legend(loc="outside lower left", ncols=2)
    return figure


def description(results: Mapping[str, Any]) -> str:
    """The figure in words, for those who do not see it."""
    summary = results["summary"]
    parts = []
    for name, label in LABELS.items():
        median, worst = (percent(summary[f"{word}_regret{suffix_of(name)}"]) for word in ("median", "worst"))
        parts.append(f"{label}: median {median}, worst {worst}")
    return f"Regret on {summary['settings']} settings with {summary['seeds']} seeds. {'; '.join(parts)}."


def _setting(row: Mapping[str, Any]) -> str:
    return str(row["setting"])


def _shown(regret: float | str) -> float:
    return DIVERGED if isinstance(regret, str) else min(regret, DIVERGED)


def _tick(regret: float) -> str:
    return f"{100 * regret:,.0f}%".replace("-", "−")
