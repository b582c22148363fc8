"""How far the weights moved in each window of the monitor, and how much of that was bilinear."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

from lorate.jsonl import Record
from lorate.monitor.layers import LAYERS_EVERY
from lorate.report.downsampling import downsample
from lorate.report.track import Track
from lorate.report.words import number, numeral

QUANTITIES = ("signal", "drift", "drift_ratio")
SHORTEST = LAYERS_EVERY - 1
"""Steps of the shortest window that is drawn: the first one, which begins after step 1. A resume cuts one shorter, and
the drift of fewer steps is a smaller part."""


def window_track(label: str, rule: str, records: Iterable[Record], buckets: int = 300) -> Track:
    """Prepare the records of ``layers.jsonl`` for drawing, all layers together.

    Args:
        label: name in the legend.
        rule: name of the rule.
        records: read once; those without a whole window are passed over.
        buckets: how finely a long series is drawn.

    Returns:
        A track with the quantities ``signal``, ``drift`` (norms over all layers) and ``drift_ratio``.
    """
    return Track(label, rule, downsample(_windows(records), QUANTITIES, buckets))


def _windows(records: Iterable[Record]) -> Iterator[dict[str, float]]:
    for record in records:
        start, step = number(record.get("window_start")), number(record.get("step"))
        signal, drift = _norm(record.get("signal")), _norm(record.get("drift"))
        if start is None or step is None or signal is None or drift is None or step - start < SHORTEST:
            continue
        ratio = drift / signal if signal > 0 else math.nan
        yield {"step": step, "signal": signal, "drift": drift, "drift_ratio": ratio}


def _norm(values: Any) -> float | None:
    """The norm over all layers; None if one of them is missing."""
    layers = [number(value) for value in values] if isinstance(values, list) else []
    known = [value for value in layers if value is not None]
    return math.hypot(*known) if known and len(known) == len(layers) else None


def reading(windows: Track) -> str:
    """One sentence about the drift: its mean share and its largest; empty if no window has one."""
    means = windows.series.means.get("drift_ratio", ())
    if not means:
        return ""
    total = sum(count for _, _, count in means)
    mean = sum(value * count for _, value, count in means) / total
    largest = max(value for value in windows.curve("drift_ratio")[1] if math.isfinite(value))
    share = f"The drift was {numeral(100 * mean, 2)}% of the signal on average and {numeral(100 * largest, 2)}% at most"
    if largest < 0.1:
        return f"{share}: the weights moved almost linearly with the adapters."
    return f"{share}: a smaller lr makes this share smaller."
