"""A curve of the solvable attention model: theory as a line, simulation as points."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lorate
from lorate.cli.console import stderr
from lorate.errors import LorateError
from lorate.runs import RunDirectory, write_atomically
from lorate.runs.facts import now
from lorate.runs.strict_json import encode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VARIED = {"alpha": "alpha", "lambda": "lam", "finetune-alpha": "finetune_alpha", "finetune-lambda": "finetune_lam"}
SYMBOLS = {"alpha": "α", "lambda": "λ", "finetune-alpha": "α′", "finetune-lambda": "λ′"}
TITLES = {
    "E_finetuned": "test error E′",
    "overlap": "overlap of adapter and teacher",
    "E_pretrained": "test error after pre-training",
    "Q": "squared norm Q of the map",
    "M": "its product M with the teacher's",
}
SECOND_STAGE = ("q", "m", "overlap", "E_finetuned")
LINE = 24
"""Points of the theory line."""


@dataclass(frozen=True)
class Grid:
    """Where to compare: along one argument, or at a single point (``over`` is None)."""

    over: str | None
    values: Sequence[float]


@dataclass(frozen=True)
class Comparison:
    """What theory and simulation say.

    Attributes:
        grid: where.
        arguments: what stayed fixed, and the settings of the simulation.
        rows: one dictionary a quantity and point: over, at, name, theory, mean, standard_error.
        line: of the theory: one dictionary a point, with its place ``at``; empty for a single point.
        seconds: taken.
    """

    grid: Grid
    arguments: Mapping[str, Any]
    rows: list[dict[str, Any]]
    line: list[dict[str, Any]]
    seconds: float


def read_values(over: str | None, values: str | None, arguments: dict[str, Any]) -> Grid:
    """The grid of ``--over`` and ``--values``.

    Raises:
        LorateError: one is missing, the name is unknown, or the values are not a list of at least two numbers.
    """
    if (over is None) != (values is None):
        raise LorateError("--over and --values belong together: what is varied, and where to simulate.")
    if over is None or values is None:
        return Grid(None, (0.0,))
    if over not in VARIED:
        raise LorateError(f"--over must be one of {', '.join(VARIED)}; got {over!r}.")
    if over.startswith("finetune") and arguments["finetune_alpha"] is None:
        raise LorateError(f"--over {over} needs --finetune-alpha and --finetune-lambda.")
    try:
        numbers = sorted({float(word) for word in values.split(",")})
    except ValueError:
        raise LorateError(f"--values must be numbers separated by commas, such as 0.5,1,2; got {values!r}.") from None
    if len(numbers) < 2 or not numbers[0] > 0:
        raise LorateError(f"--values must hold at least two different positive numbers; got {values!r}.")
    return Grid(over, numbers)


def compare_along(
    grid: Grid, arguments: Mapping[str, Any], dimension: int, seeds: Sequence[int], device: str
) -> Comparison:
    """Predict and simulate every point, with a bar on standard error.

    Raises:
        NotConverged: the theory has no solution at one of the points that are simulated.
    """
    from rich.progress import Progress

    from lorate_papers.attention import NotConverged, sweep
    from lorate_papers.attention.simulation import compare

    began = time.monotonic()
    rows: list[dict[str, Any]] = []
    line: list[dict[str, Any]] = []
    first_stage_fixed = grid.over is not None and grid.over.startswith("finetune")
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as bar:
        task = bar.add_task("simulated points", total=len(grid.values))
        for at in grid.values:
            point = _at(grid, arguments, at)
            _, compared = compare(dimension=dimension, seeds=seeds, device=device, **point)
            for one in compared:
                if first_stage_fixed and one.name not in SECOND_STAGE:
                    continue  # the same at every point
                row = {"over": grid.over, "at": None if grid.over is None else at, "name": one.name}
                error = None if len(seeds) < 2 else one.standard_error
                rows.append(row | {"theory": one.theory, "mean": one.mean, "standard_error": error})
            bar.advance(task)
        if grid.over is not None:
            places = _between(grid.values)
            task = bar.add_task("theory line", total=len(places))
            solved = sweep([_at(grid, arguments, at) for at in places], progress=lambda *_: bar.advance(task))
            line = [
                {"at": at} | one.row()
                for at, one in zip(places, solved, strict=True)
                if not isinstance(one, NotConverged) and one.stable
            ]
    settings = {**arguments, "dimension": dimension, "seeds": list(seeds), "device": device, "over": grid.over}
    return Comparison(grid, settings, rows, line, time.monotonic() - began)


def write_comparison(folder: RunDirectory, comparison: Comparison) -> None:
    """Fill a run directory: run.json, comparison.jsonl, theory.jsonl and the figure of a curve."""
    from lorate.report import save_figure

    write_atomically(folder.inside("comparison.jsonl"), "".join(encode(row) + "\n" for row in comparison.rows))
    if comparison.grid.over is not None:
        write_atomically(folder.inside("theory.jsonl"), "".join(encode(row) + "\n" for row in comparison.line))
        save_figure(comparison_figure(comparison), folder.inside("figures/comparison"))
    folder.write_run(
        {
            "lorate": lorate.__version__,
            "command": "lorate attention compare",
            "status": "finished",
            "finished": now(),
            "seconds": comparison.seconds,
            "config": dict(comparison.arguments),
        }
    )


def comparison_figure(comparison: Comparison) -> "Figure":
    """Test error and overlap, or error and order parameters of pre-training alone, with the simulated points."""
    from lorate_papers.experiments.plots import Curve, Panel, Points, curve_figure

    assert comparison.grid.over is not None
    names = {row["name"] for row in comparison.rows}
    shown = ["E_finetuned", "overlap"] if "overlap" in names else ["E_pretrained", "Q", "M"]
    panels = []
    for name in shown:
        rows = [row for row in comparison.rows if row["name"] == name]
        points = Points(
            [row["at"] for row in rows], [row["mean"] for row in rows], [row["standard_error"] or 0.0 for row in rows]
        )
        places = [row["at"] for row in comparison.line]
        curve = Curve("theory and simulation", places, [row[name] for row in comparison.line], points)
        panels.append(Panel(TITLES[name], [curve]))
    wide = comparison.grid.values[-1] > 20 * comparison.grid.values[0]
    return curve_figure(panels, SYMBOLS[comparison.grid.over], log_x=wide)


def _at(grid: Grid, arguments: Mapping[str, Any], at: float) -> dict[str, Any]:
    return dict(arguments) if grid.over is None else {**arguments, VARIED[grid.over]: at}


def _between(values: Sequence[float]) -> list[float]:
    """Places of the line, evenly spread in the logarithm."""
    first, last = values[0], values[-1]
    return [first * (last / first) ** (place / (LINE - 1)) for place in range(LINE)]
