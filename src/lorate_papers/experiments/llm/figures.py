"""The figures about language models."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lorate.report import rule_colour
from lorate_papers.experiments.experiment import Drawing, Options, Results
from lorate_papers.experiments.llm.plan import (
    RULES,
    SMALL_START,
    STARTS,
    TUNED,
    UNTUNED,
    run_name,
    seeds,
    size,
)
from lorate_papers.experiments.llm.readings import ends, winners
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.experiments.plots import Curve, Dashes, Panel, Points
from lorate_papers.experiments.rule_figures import Column, Group, drawing, rule_panels

DASHES: dict[str, Dashes] = {"adamw": (0, (5.0, 2.0)), "adaptive-loss": (0, (3.0, 2.5))}
"""AdamW's grey is close to that of the constant rate; adaptive-loss often lies on adaptive."""
TRAINING = (
    Column("gradient norm ‖∇J‖", "grad_sq", log=True, change=np.sqrt),
    Column("norm of the adapters ‖V‖", "stacked_sq", log=True, change=np.sqrt),
    Column("step size η", "eta", log=True),
)


def draw(results: Results, options: Options) -> list[Drawing]:
    """All figures, in the order of the report."""
    return [_held_out(results, options), _constants(results, options), _start(results, options)]


def _held_out(results: Results, options: Options) -> Drawing:
    how = size(options)
    panels = [
        _panel(
            f"held-out loss, nats; A starts with standard deviation {title}",
            [Group(rule, rule, winners(results, rule, start)) for rule in RULES],
            "validation",
        )
        for start, title in STARTS.items()
    ]
    chosen = _by_start(lambda rule, start: results[run_name(rule, start)]["lr"])
    caption = (
        f"The small language model, batches of {how.batch} sequences, LoRA of rank 8. Median of "
        f"{len(seeds(options))} seeds, band from the lowest to the highest. Constants from the two starts: {chosen}; "
        "auto has none, and its averaged adapters are shown."
    )
    return drawing("held-out", "Each rule at its best.", caption, panels, "step", columns=3)


def _constants(results: Results, options: Options) -> Drawing:
    middles = size(options).middles
    panels = []
    for start, title in STARTS.items():
        curves = []
        for rule in TUNED:
            grid = results[run_name(rule, start)]["grid"]
            x = [entry["lr"] / middles[start][rule] for entry in grid]
            y = [math.nan if math.isinf(loss) else loss for loss in ends(grid)]
            curves.append(Curve(rule, x, y, Points(x, y, [0.0] * len(x)), rule_colour(rule)))
        level = float(ends(results[run_name(UNTUNED, start)]["grid"])[0])
        places = [place for curve in curves for place in curve.x]
        curves.append(Curve(UNTUNED, [min(places), max(places)], [level] * 2, colour=rule_colour(UNTUNED)))
        panels.append(Panel(f"held-out loss at the end, nats; start {title}", _told_apart(curves)))
    words = _by_start(lambda rule, start: middles[start][rule])
    caption = (
        f"All constants tried, one seed, from the two starts as multiples of {words}. Where a line ends, the next "
        "constant diverged or was not tried; auto has no constant."
    )
    return drawing(
        "constants", "Sensitivity to the constant.", caption, panels, "constant, relative", log_x=True, columns=3
    )


def _start(results: Results, options: Options) -> Drawing:
    groups = [Group(rule, rule, winners(results, rule, SMALL_START)) for rule in ("constant", *PAPER)]
    panels = [replace(panel, curves=_told_apart(panel.curves)) for panel in rule_panels(groups, TRAINING)]
    caption = (
        f"From the start with standard deviation {STARTS[SMALL_START]} gradient and adapters are small at first, and "
        f"with them the progress. Each rule at its best constant, {len(seeds(options))} seeds."
    )
    return drawing("start", "The flat region at the origin.", caption, panels, "step", log_x=True)


def _panel(title: str, groups: Sequence[Group], column: str) -> Panel:
    (panel,) = rule_panels(groups, [Column(title, column)])
    return replace(panel, curves=_told_apart(panel.curves))


def _told_apart(curves: Sequence[Curve]) -> list[Curve]:
    return [replace(curve, dashes=DASHES.get(curve.label, curve.dashes)) for curve in curves]


def _by_start(constant: Callable[[str, float], float]) -> str:
    return ", ".join(f"{rule} {' and '.join(format(constant(rule, start), 'g') for start in STARTS)}" for rule in TUNED)
