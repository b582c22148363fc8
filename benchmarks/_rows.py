"""Rows of a table that take a while, each kept as it is made, so that a run goes on where it stopped."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from _record import RESULTS
from rich.progress import track

from lorate.jsonl import JsonlWriter, read_jsonl
from lorate.runs import write_atomically


def kept_rows(
    name: str, plan: Sequence[tuple[Any, ...]], make: Callable[..., dict[str, Any]], *, more: bool = True
) -> list[dict[str, Any]]:
    """Make the rows that ``results/NAME-runs.jsonl`` does not hold yet.

    Args:
        name: of the benchmark.
        plan: arguments of ``make``, one tuple a row.
        make: gives a row.
        more: make those that are missing; else the rows that are there are all.
    """
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-runs.jsonl"
    found = {tuple(row["plan"]): row for row in (read_jsonl(path).records if path.exists() else [])}
    if not more:
        return [found[args] for args in plan if args in found]
    with JsonlWriter(path) as writer:
        for args in track([args for args in plan if args not in found], description=name):
            found[args] = {"plan": list(args), **make(*args)}
            writer.write(found[args])
    return [found[args] for args in plan]


def change_rows(name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the rows that ``results/NAME-runs.jsonl`` holds, such as those of a rule that has changed since."""
    path = RESULTS / f"{name}-runs.jsonl"
    rows = [row | change(row) for row in track(read_jsonl(path).records, description=name)]
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))
