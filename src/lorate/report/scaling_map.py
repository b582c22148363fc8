"""A sweep over rank and lora_alpha as a heat map, with the best alpha of each rank and the law through them."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lorate.report.style import INK, MUTED, new_figure, style, ticks_in_words
from lorate.report.words import numeral
from lorate.scaling.power_law import Losses, ScalingFit, mean_loss

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE, _RING = "#101418", "#fdfdfd"
"""On the cells' own colours, whatever the page's."""


def scaling_figure(losses: Mapping[int, Losses], fit: ScalingFit | None) -> "Figure":
    """How far the loss of every rank (to the right) and alpha (upwards) lies above the lowest of its rank.

    Under each rank is its lowest loss. Runs that diverged are crossed out, points that were not run are left empty.

    Args:
        losses: for each rank and alpha one loss a seed, None where the run diverged; ranks may have tried different
            alphas.
        fit: gives the refined best alphas (rings) and the square-root law (dashed); None draws neither.
    """
    from matplotlib.colors import PowerNorm

    ranks = sorted(losses)
    alphas = sorted({alpha for row in losses.values() for alpha in row})
    means = np.array(
        [[mean_loss(losses[rank][alpha]) if alpha in losses[rank] else math.nan for rank in ranks] for alpha in alphas]
    )
    lowest = np.min(np.where(np.isfinite(means), means, np.inf), axis=0)
    excess = np.where(np.isfinite(means), means - np.where(np.isfinite(lowest), lowest, 0), np.nan)
    known = excess[np.isfinite(excess)]
    with style():
        figure = new_figure(1.45 + 0.3 * len(alphas))
        axes = figure.add_subplot()
        scale = PowerNorm(0.4, 0, max(float(known.max()), 1e-12) if known.size else 1)
        mesh = axes.pcolormesh(
            _edges(ranks), _edges(alphas), np.ma.masked_invalid(excess), norm=scale, cmap="viridis_r"
        )
        diverged = np.argwhere(np.isinf(means))
        axes.plot(
            [ranks[column] for _, column in diverged],
            [alphas[row] for row, _ in diverged],
            linestyle="none",
            marker="x",
            color=MUTED,
            label="diverged" if len(diverged) else None,
        )
        _axes(axes, ranks, alphas, lowest)
        if fit is not None:
            _draw_fit(axes, ranks, fit)
        bar = figure.colorbar(mesh, ax=axes, location="right", aspect=30, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.set_title("above\nlowest", loc="left", pad=7)
        ticks_in_words(bar.ax.yaxis, log=False)
        if axes.get_legend_handles_labels()[1]:
            legend = figure.legend(loc="outside lower left", ncols=3)
            for line in legend.get_lines():
                line.set_color(INK)  # on the page's colour, not on a cell's
        return figure


def describe_scaling(losses: Mapping[int, Losses]) -> str:
    """The best of each rank in words."""
    sentences = []
    for rank, row in sorted(losses.items()):
        means = {alpha: mean_loss(values) for alpha, values in row.items()}
        best = min(means, key=lambda alpha: means[alpha])
        lowest = f"lowest {numeral(means[best])} at alpha {best:g}" if math.isfinite(means[best]) else "all diverged"
        sentences.append(f"Rank {rank}: {lowest}.")
    return " ".join(sentences)


def _axes(axes: "Axes", ranks: list[int], alphas: list[float], lowest: NDArray[np.float64]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*_edges(ranks)[[0, -1]])
    axes.set_ylim(*_edges(alphas)[[0, -1]])
    losses = [numeral(loss, 3) if math.isfinite(loss) else "–" for loss in lowest]
    axes.set_xticks(ranks, [f"{rank}\n{loss}" for rank, loss in zip(ranks, losses, strict=True)])
    axes.set_yticks(alphas, [f"{float(f'{alpha:.5g}'):,g}" for alpha in alphas])
    axes.minorticks_off()
    axes.grid(False)
    axes.set_xlabel("rank r, and its lowest loss")
    axes.set_title("lora_alpha", loc="left", pad=7)


def _draw_fit(axes: "Axes", ranks: list[int], fit: ScalingFit) -> None:
    inside = {rank: one.alpha for rank, one in fit.best.items() if not one.at_edge}
    ring: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 8, "markerfacecolor": _RING}
    axes.plot(list(inside), list(inside.values()), markeredgecolor=_LINE, label="best of a rank", **ring)
    edges = _edges(ranks)
    ends = np.geomspace(edges[0], edges[-1], 40)
    axes.plot(ends, fit.c * np.sqrt(ends), color=_LINE, linestyle="dashed", linewidth=1.3, label=f"{fit.c:.0f}·√r")


def _edges(places: list[int] | list[float]) -> NDArray[np.float64]:
    """Borders of the cells, half-way between neighbours in the logarithm."""
    logs = np.log(np.asarray(places, dtype=np.float64))
    middle = (logs[1:] + logs[:-1]) / 2
    edges = np.concatenate(([2 * logs[0] - middle[0]], middle, [2 * logs[-1] - middle[-1]]))
    return np.asarray(np.exp(edges))
