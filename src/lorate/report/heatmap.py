"""Norms of each layer against steps, as heat maps."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lorate.jsonl import Record
from lorate.report.layer_names import Panel, arrange
from lorate.report.style import label_steps, new_figure, style, ticks_in_words
from lorate.report.words import number, step_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LAYER_LABELS = {
    "a_norm": "‖A‖ of each layer",
    "b_norm": "‖B‖ of each layer",
    "stacked_norm": "‖V‖ of each layer",
    "grad_norm": "‖∇J‖ of each layer",
    "effective_rank": "Effective rank of each layer's update",
}
"""What can be drawn, with its title."""

_READ = ("a_norm", "b_norm", "grad_norm", "effective_rank", "rank")

MOST_ROWS = 200
"""Rows of a panel; of more layers neighbours share one, which shows their maximum."""


@dataclass(frozen=True)
class LayerNorms:
    """Norms of each layer at some steps.

    Attributes:
        names: module paths of the layers.
        steps: the steps, ascending; where ``bucket`` > 1 the first step of each bucket.
        values: for ``a_norm``, ``b_norm``, ``grad_norm``, ``effective_rank`` and ``rank`` an array of shape
            ``[steps, layers]``; NaN is missing.
        bucket: how many records one column stands for; it shows their maximum.
    """

    names: Sequence[str] = ()
    steps: Sequence[float] = ()
    values: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    bucket: int = 1

    @cached_property
    def panels(self) -> list[Panel]:
        """The layers arranged for drawing."""
        return arrange(self.names)

    def quantity(self, key: str) -> NDArray[np.float64]:
        """The array of a quantity; ``stacked_norm`` is sqrt(‖A‖² + ‖B‖²)."""
        if key == "stacked_norm":
            return np.hypot(self.values["a_norm"], self.values["b_norm"])
        return self.values[key]


def layer_norms(records: Iterable[Record], columns: int = 200) -> LayerNorms:
    """Read the records of ``layers.jsonl``: a header with the names, then norms.

    Args:
        records: read once; records that do not fit the header are passed over.
        columns: at most twice this many columns are kept; of more, neighbours are joined by their maximum.
    """
    names: list[str] = []
    steps: list[float] = []
    blocks: list[NDArray[np.float64]] = []
    filled = bucket = 1
    for record in records:
        if isinstance(record.get("names"), list):
            names = names or [str(name) for name in record["names"]]
            continue
        step = step_of(record)
        rows = [_row(record.get(key), len(names)) for key in _READ]
        if step is None or not names or all(np.isnan(row).all() for row in rows):
            continue
        block = np.stack(rows)
        if blocks and filled < bucket:
            blocks[-1] = np.fmax(blocks[-1], block)
            filled += 1
            continue
        steps.append(step)
        blocks.append(block)
        filled = 1
        if len(blocks) > 2 * columns:
            blocks = [np.fmax(a, b) for a, b in zip(blocks[::2], blocks[1::2], strict=False)] + [blocks[-1]]
            steps = steps[::2]
            bucket *= 2
    stacked = np.stack(blocks) if blocks else np.empty((0, len(_READ), len(names)))
    values = {key: stacked[:, place] for place, key in enumerate(_READ)}
    return LayerNorms(names, steps, values, bucket)


def _row(values: Any, layers: int) -> NDArray[np.float64]:
    if not isinstance(values, list) or len(values) != layers:
        return np.full(layers, np.nan)
    return np.array([math.nan if (value := number(entry)) is None else value for entry in values])


def layer_figure(norms: LayerNorms, key: str) -> "Figure":
    """A heat map: layers downwards, steps to the right; gradients on a logarithmic colour scale.

    Args:
        norms: from `layer_norms`.
        key: of `LAYER_LABELS`.
    """
    from matplotlib.colors import LogNorm, Normalize

    panels = norms.panels
    data = norms.quantity(key)
    known = data[np.isfinite(data)]
    positive = known[known > 0]
    scale: Any = Normalize(0, known.max() if known.size and known.max() > 0 else 1)
    if key != "b_norm" and known.size and known.max() > known.min():
        scale = Normalize(known.min(), known.max())  # A starts away from zero: from zero on, all would look alike
    if key == "grad_norm" and positive.size and positive.max() > positive.min():
        # Five decades show all that matters; a vanishing gradient would stretch the scale without end.
        scale = LogNorm(max(positive.min(), positive.max() * 1e-5), positive.max())
    columns = 2 if len(panels) > 1 else 1
    lines = math.ceil(len(panels) / columns)
    with style():
        figure = new_figure(0.75 + lines * (0.3 + _panel_height(panels)))
        mesh = None
        for place, panel in enumerate(panels):
            axes = figure.add_subplot(lines, columns, place + 1)
            mesh = _draw_panel(axes, panel, norms.steps, data, scale)
            if place < len(panels) - columns:
                axes.set_xticklabels([])
                axes.set_xlabel("")
        if mesh is not None:
            inch = 1 / figure.get_figheight()
            bar = figure.colorbar(mesh, ax=figure.axes, location="top", aspect=40, fraction=0.12 * inch, pad=0.1 * inch)
            bar.outline.set_visible(False)
            ticks_in_words(bar.ax.xaxis, log=isinstance(scale, LogNorm))
            bar.ax.set_title(LAYER_LABELS[key], loc="left", pad=6)
            bar.ax.minorticks_off()
        return figure


def joined_rows(norms: LayerNorms) -> int:
    """How many layers share a row of the heat map; 1 unless there are more of a kind than can be distinguished."""
    return max((math.ceil(len(panel.rows) / MOST_ROWS) for panel in norms.panels), default=1)


def _panel_height(panels: Sequence[Panel]) -> float:
    rows = min(MOST_ROWS, max((len(panel.rows) for panel in panels), default=1))
    single = len(panels) == 1 and not panels[0].title
    return max(0.9, rows * 0.135) if single else max(0.9, min(2.2, rows * 0.075))


def _draw_panel(axes: "Axes", panel: Panel, steps: Sequence[float], data: NDArray[np.float64], scale: Any) -> Any:
    joined = math.ceil(len(panel.rows) / MOST_ROWS)
    labels = panel.rows[::joined]
    rows = len(labels)
    values = np.fmax.reduceat(data[:, panel.indices], np.arange(0, len(panel.rows), joined), axis=1)
    mesh = axes.pcolormesh(
        _edges(steps),
        np.arange(rows + 1) - 0.5,
        np.ma.masked_invalid(values.T),
        norm=scale,
        cmap="viridis",
        rasterized=True,
    )
    axes.invert_yaxis()
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)
    every = 1 if not panel.title and rows <= 120 else math.ceil(rows / 8)
    axes.set_yticks(range(0, rows, every), labels[::every])
    axes.tick_params(length=0)
    if panel.title:
        axes.set_title(panel.title, loc="left", pad=3)
    else:
        axes.tick_params(axis="y", labelsize=7.6)
    label_steps(axes)
    return mesh


def _edges(steps: Sequence[float]) -> NDArray[np.float64]:
    """Borders half-way between neighbouring steps; half a step before the first and after the last."""
    points = np.asarray(steps, dtype=np.float64)
    return np.concatenate([[points[0] - 0.5], (points[1:] + points[:-1]) / 2, [points[-1] + 0.5]])
