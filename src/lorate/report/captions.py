"""What a figure shows, in words: the caption under it, and the description for those who do not see it."""

import math
from collections.abc import Sequence

import numpy as np

from lorate.monitor.layers import LAYERS_EVERY
from lorate.report.heatmap import LAYER_LABELS, LayerNorms, joined_rows
from lorate.report.track import Track
from lorate.report.windows import reading
from lorate.report.words import listing, numeral, printable, whole

IDLE, USED_UP = 0.25, 0.75
"""Shares of the rank that the median layer uses; beyond them the report suggests another rank. Rules of thumb."""


def thinning(tracks: Sequence[Track]) -> str:
    """How a long series was thinned out; empty if every record is drawn."""
    longest = max(tracks, key=lambda run: run.series.bucket, default=None)
    if longest is None or longest.series.bucket == 1:
        return ""
    return (
        f" {whole(longest.series.total)} records, drawn as {whole(len(longest.series.records))}: of every "
        f"{whole(longest.series.bucket)} the first, the last, the lowest and highest of each quantity, "
        "alarms and skipped steps."
    )


def marks(tracks: Sequence[Track]) -> str:
    """What the marks mean, if there are any."""
    alarms = "Triangles at the top mark alarms." if any(run.alarm_steps() for run in tracks) else ""
    skipped = "Crosses at the bottom mark skipped steps." if any(run.skipped_steps() for run in tracks) else ""
    return f"{alarms} {skipped}".strip()


def loss_caption(tracks: Sequence[Track]) -> str:
    """The caption of the loss figure."""
    half_lives = [run.smoothed("loss")[2] for run in tracks] or [1.0]
    smooth = f"half-life {listing(list(dict.fromkeys(numeral(h, 2) for h in half_lives)))} steps"
    words = f"Training loss of every step (thin) and smoothed ({smooth})"
    if any(run.held_out()[0] for run in tracks):
        words += "; held-out loss (points) with one standard error each way"
    return f"{words}.{thinning(tracks)}"


def drift_caption(windows: Sequence[Track]) -> str:
    """The caption of signal and drift, with a sentence that reads it for a single run."""
    if len(windows) > 1:
        return (
            f"Of the movement of the adapted weights over {LAYERS_EVERY} steps the part that is bilinear in the steps "
            f"of A and B (drift), over the linear part (signal).{thinning(windows)}"
        )
    return (
        f"How far {LAYERS_EVERY} steps moved the adapted weights: the part linear in the steps of A and B (signal) and "
        f"the bilinear rest (drift). {reading(windows[0])}{thinning(windows)}"
    )


_SPOKEN = {
    "loss": "Training loss",
    "eta": "Step size",
    "stacked_norm": "Norm of V",
    "a_norm": "Norm of A",
    "b_norm": "Norm of B",
    "grad_norm": "Gradient norm",
    "signal": "Signal",
    "drift": "Drift",
    "drift_ratio": "Drift over signal",
    "average_slope": "Slope r",
}


def describe(tracks: Sequence[Track], keys: Sequence[str]) -> str:
    """Start, end and extremes of each curve, run by run."""
    sentences = []
    for run in tracks:
        for key in keys:
            name = _SPOKEN[key]
            steps, values = run.curve(key)
            points = [(s, v) for s, v in zip(steps, values, strict=True) if math.isfinite(v)]
            if not points:
                sentences.append(f"{name} of {printable(run.label)}: no values recorded.")
                continue
            low, high = min(v for _, v in points), max(v for _, v in points)
            sentences.append(
                f"{name} of {printable(run.label)}: {numeral(points[0][1])} at step {whole(points[0][0])}, "
                f"{numeral(points[-1][1])} at step {whole(points[-1][0])}, between {numeral(low)} and {numeral(high)}."
            )
        if "loss" in keys:
            where, losses, _ = run.held_out()
            points = list(zip(where, losses, strict=True))
            shown = points if len(points) <= 4 else [points[0], points[-1]]
            if shown:
                sentences.append(
                    "Held-out loss: " + listing([f"{numeral(v)} at step {whole(s)}" for s, v in shown]) + "."
                )
        alarms = run.alarm_steps()
        if alarms:
            sentences.append(f"Alarms at steps {listing([whole(step) for step in alarms])}.")
    return " ".join(sentences)


def describe_layers(norms: LayerNorms, key: str) -> str:
    """The largest and the smallest layer at the last step."""
    data = norms.quantity(key)
    place = int(max(np.flatnonzero(np.isfinite(data).any(axis=1)), default=len(data) - 1))
    last = data[place]
    known = [(float(value), name) for value, name in zip(last, norms.names, strict=True) if math.isfinite(value)]
    if not known:
        return f"{LAYER_LABELS[key]}: no values at the last step."
    (low, lowest), (high, highest) = min(known), max(known)
    return (
        f"{LAYER_LABELS[key]}, {len(norms.names)} layers, at step {whole(norms.steps[place])}: largest {numeral(high)} "
        f"({printable(highest)}), smallest {numeral(low)} ({printable(lowest)})."
    )


def layer_caption(norms: LayerNorms, key: str) -> str:
    """The caption of a heat map."""
    words = {
        "a_norm": "Norm of A in each layer.",
        "b_norm": "Norm of B in each layer: how far the layer has moved from the frozen model.",
        "stacked_norm": "Norm of A and B together in each layer.",
        "grad_norm": "Gradient norm of each layer, logarithmic; darkest is five decades under the largest, or less.",
        "effective_rank": f"Over how many directions the update BA of each layer spreads. {rank_advice(norms)}",
    }[key]
    if norms.bucket > 1:
        words += f" Each column shows the maximum of {norms.bucket} records."
    if (joined := joined_rows(norms)) > 1:
        words += f" A row shows the maximum of up to {joined} layers."
    return words


def rank_advice(norms: LayerNorms) -> str:
    """How much of the rank the last adapters use, in the median layer, and what to do; empty without records."""
    used, ranks = norms.quantity("effective_rank"), norms.quantity("rank")
    rows = np.flatnonzero(np.isfinite(used).any(axis=1))
    if not len(rows):
        return ""
    last, most = used[rows[-1]], ranks[rows[-1]]
    known = np.isfinite(last) & np.isfinite(most) & (most > 0)
    if not known.any():
        return ""
    shares = last[known] / most[known]
    middle = float(np.median(shares))
    low, median, high = (numeral(float(value), 2) for value in np.quantile(last[known], [0, 0.5, 1]))
    rank = whole(float(np.median(most[known])))
    step = whole(norms.steps[rows[-1]])
    seen = f"At step {step} it is {median} of the rank's {rank} in the median layer, and from {low} to {high} in all."
    if middle < IDLE:
        return f"{seen} Most of the rank is idle: try half of it, and keep it if the held-out loss is the same."
    if middle > USED_UP:
        return f"{seen} The rank is used up: if the held-out loss is too high, try twice the rank."
    return f"{seen} Nothing suggests another rank."
