"""The page on the early warning shows the committed runs."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _record

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "early-warning.md"
ROWS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "all": lambda run: True,
    "SGD": lambda run: run["optimizer"] == "sgd",
    "SGD with momentum": lambda run: run["optimizer"] == "momentum",
    "AdamW": lambda run: run["optimizer"] == "adamw",
    **{f"batches of {size}": lambda run, size=size: run["batch"] == size for size in (4, 8, 32)},
    "diverged at steps 1 to 10": lambda run: run["diverging"] is not None and run["diverging"] <= 10,
    "diverged at steps 11 to 50": lambda run: run["diverging"] is not None and 10 < run["diverging"] <= 50,
    "diverged after step 50": lambda run: run["diverging"] is not None and run["diverging"] > 50,
}


def row(name: str, runs: list[dict[str, Any]]) -> str:
    bad = [run for run in runs if run["diverging"] is not None]
    good = [run for run in runs if run["diverging"] is None]
    leads = [run["diverging"] - run["rising"] for run in bad if (run["rising"] or 1000) <= run["diverging"]]
    false = sum(run["rising"] is not None for run in good)
    cells = (name, len(bad), len(leads), f"{statistics.median(leads):g}" if leads else "–")
    return f"| {' | '.join(map(str, (*cells, len(good) or '–', false if good else '–')))} |"


def test_the_table_is_that_of_the_committed_runs():
    runs = json.loads((_record.RESULTS / "early_warning.json").read_text(encoding="utf-8"))["runs"]
    table = PAGE.read_text(encoding="utf-8").split("<!-- early warning -->\n")[1].split("<!-- /early warning -->")[0]
    assert table.splitlines()[2:] == [row(name, [run for run in runs if chosen(run)]) for name, chosen in ROWS.items()]
