"""The results as a table in Markdown."""

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from _regret.labels import LABELS, SPLITS, label_of, suffix_of
from lorate.runs import write_atomically

BLOCK = re.compile(r"(<!-- regret -->\n).*?(<!-- /regret -->)", re.DOTALL)
"""Where a page shows the table."""


def table(results: Mapping[str, Any]) -> str:
    """Regret in percent, the median of the seeds; the settings that ``auto`` was made on first.

    Args:
        results: content of ``results/regret.json``.
    """
    head = ["Setting", "Best rate", *LABELS.values(), "Tuning cost"]
    lines = [_line(head), _line(["---", *["---:"] * (len(head) - 1)])]
    for split, words in SPLITS.items():
        of_split = [row for row in results["rows"] if row["split"] == split]
        if of_split:
            lines.append(_line([f"*`auto` was {words}*", *[""] * (len(head) - 1)]))
        lines += [_line(_cells(list(rows))) for _, rows in groupby(of_split, key=lambda row: row["setting"])]
    summary = results["summary"]
    for word in ("median", "worst"):
        cells = [percent(summary[f"{word}_regret{suffix_of(name)}"]) for name in LABELS]
        cost = f"{summary['tuning_cost']:.0f}×" if word == "median" else ""
        lines.append(_line([f"**{word}**", "", *cells, cost]))
    return "\n".join(lines) + "\n"


def write_into(page: Path, results: Mapping[str, Any]) -> bool:
    """Replace the table of a page; tells whether the page has one."""
    text = page.read_text(encoding="utf-8")
    new, count = BLOCK.subn(lambda found: found[1] + table(results) + found[2], text)
    if count:
        write_atomically(page, new)
    return bool(count)


def percent(regret: float | str | None) -> str:
    """A regret for readers.

    >>> percent(-0.0041), percent(-1e-5), percent(0.25), percent(31.2), percent("infinite"), percent(None)
    ('−0.4%', '+0.0%', '+25%', '+3,120%', 'diverged', '–')
    """
    if regret is None:
        return "–"
    if isinstance(regret, str):
        return "diverged"
    digits = 1 if abs(regret) < 0.0995 else 0
    return f"{round(100 * regret, digits) + 0.0:+,.{digits}f}%".replace("-", "−")


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    rates = dict.fromkeys(_rate(row) for row in rows)
    regrets = [_median([row["regrets"][name] for row in rows if name in row["regrets"]]) for name in LABELS]
    costs = [row["tuning_cost"] for row in rows if row["tuning_cost"] is not None]
    return [label_of(rows[0]), " / ".join(rates), *regrets, f"{statistics.median(costs):.0f}×" if costs else ""]


def _median(regrets: Sequence[float | str]) -> str:
    values = [math.inf if isinstance(one, str) else one for one in regrets]
    middle = statistics.median(values) if values else None
    return percent("infinite" if middle == math.inf else middle)


def _rate(row: Mapping[str, Any]) -> str:
    """The best of the cosine grid, with a star if the best may lie outside the grid."""
    return f"{row['rates']['adamw-cosine']:g}" + "\\*" * ("adamw-cosine" in row["best_at_edge"])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
