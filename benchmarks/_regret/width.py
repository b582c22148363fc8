"""How much a wrong learning rate costs: regret against the rate, relative to the best one."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lorate.report import rule_colour
from lorate.report.style import INK, MUTED, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS = {
    "adamw-cosine": ("AdamW, warm-up and cosine", {"color": INK, "linestyle": "-"}),
    "adamw": ("AdamW, constant", {"color": INK, "linestyle": "--"}),
    "schedule-free": ("Schedule-Free", {"color": MUTED, "linestyle": "-"}),
}
FACTORS = np.geomspace(1 / 8, 8, 73)
HIGHEST = 10.0
"""Regret at which runs that diverged are counted, and larger ones."""
NEAR = 0.02
"""The region is flat where the regret is at most this much above its least value."""


def regret_at(row: Mapping[str, Any], grid: str) -> NDArray[np.float64]:
    """Regret at each of `FACTORS` times the grid's own best rate.

    Between two rates on a line, beyond the grid as at its end, which flatters what lies there.
    """
    best = min(_number(loss) for _, loss in row["curves"]["adamw-cosine"])
    rates = np.array([rate for rate, _ in row["curves"][grid]])
    regrets = np.minimum([_number(loss) / best - 1 for _, loss in row["curves"][grid]], HIGHEST)
    places = np.log(rates / rates[regrets.argmin()])
    return np.interp(np.log(FACTORS), places, regrets)


def medians(rows: Sequence[Mapping[str, Any]], grid: str) -> NDArray[np.float64]:
    """Median over the rows."""
    found: NDArray[np.float64] = np.median([regret_at(row, grid) for row in rows], axis=0)
    return found


def flat(rows: Sequence[Mapping[str, Any]], grid: str) -> float:
    """Largest over smallest rate of the flat region around the best one, see `NEAR`: the median over the rows."""
    return float(np.median([_flat(regret_at(row, grid)) for row in rows]))


def _flat(values: NDArray[np.float64]) -> float:
    near = values <= values.min() + NEAR
    middle = len(near) // 2
    below, above = near[middle::-1], near[middle:]
    first = middle - (len(below) if below.all() else int(below.argmin())) + 1
    last = middle + (len(above) if above.all() else int(above.argmin())) - 1
    return float(FACTORS[last] / FACTORS[first])


def width_figure(results: Mapping[str, Any]) -> "Figure":
    """One line a method with a learning rate, and ``auto``, which has none, as a horizontal one.

    Args:
        results: content of ``results/regret.json``.
    """
    with style():
        figure = new_figure(3.4)
        axes = figure.add_subplot()
        axes.axhline(0, color=MUTED, linewidth=0.6)
        for grid, (label, look) in LOOKS.items():
            axes.plot(FACTORS, 100 * medians(results["grids"], grid), label=label, **look)
        level = 100 * float(results["summary"]["median_regret"])
        axes.axhline(level, color=rule_colour("auto"), label="auto: no rate")
        axes.set_xscale("log", base=2)
        ticks = [2.0**power for power in range(-3, 4)]
        axes.set_xticks(ticks, [f"1/{1 / tick:.0f}" if tick < 1 else f"{tick:.0f}" for tick in ticks])
        axes.set_ylim(-6, 50)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f}%".replace("-", "−"))
        axes.set_xlabel("learning rate / best rate of the same method")
        axes.set_ylabel("regret, median of all runs")
        figure.legend(loc="outside lower left", ncols=2)
    return figure


def width_description(results: Mapping[str, Any]) -> str:
    """The figure in words, for those who do not see it."""
    parts = []
    for grid, (label, _) in LOOKS.items():
        values = medians(results["grids"], grid)
        low, high = (values[abs(FACTORS - factor).argmin()] for factor in (0.25, 4))
        parts.append(
            f"{label}: {100 * low:+.0f}% at a quarter and {100 * high:+.0f}% at four times the best rate, "
            f"within 2% of its best over a factor of {flat(results['grids'], grid):.1f}"
        )
    return f"Regret against the learning rate on {len(results['grids'])} runs. {'; '.join(parts)}."


def _number(loss: float | str) -> float:
    return float("inf") if isinstance(loss, str) else loss
