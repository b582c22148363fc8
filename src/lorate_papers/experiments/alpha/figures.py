"""The figures about the scaling factor."""

import math
import statistics
from collections.abc import Callable, Sequence

from lorate.report import rule_colour
from lorate.report.scaling_map import describe_scaling, scaling_figure
from lorate_papers.experiments.alpha.plan import (
    AUTO,
    AXIS_ALPHA,
    LR,
    NETWORK_ALPHA,
    SGD_LR,
    TUNED_LR,
    Point,
    Size,
    axis,
    network_axis,
    size,
    spread_points,
)
from lorate_papers.experiments.alpha.readings import PointResults, fitted, sweep_losses
from lorate_papers.experiments.experiment import Drawing, Options, Results
from lorate_papers.experiments.plots import COLOURS, Curve, Panel, Points
from lorate_papers.experiments.rule_figures import drawing

KNOBS = {"alpha": ("lora_alpha raised", COLOURS[0]), "lr": ("learning rate raised", COLOURS[1])}
Measure = Callable[[Point], Sequence[float]]


def draw(results: Results, options: Options) -> list[Drawing]:
    """All figures, in the order of the report."""
    measured, how = PointResults(results), size(options)
    return [draw_one(measured, how) for draw_one in (_sweep, _axes, _network, _first_step, _auto)]


def _sweep(measured: PointResults, how: Size) -> Drawing:
    losses = sweep_losses(measured, how)
    caption = (
        f"Held-out loss of the small language model after {how.steps} steps of AdamW at lr {LR:g}. Colour: how far "
        "above the rank's best. Rings: best alpha of a rank, refined by a parabola; a rank whose best lies at the edge "
        "has none."
    )
    return Drawing(
        "sweep", "Rank and alpha.", caption, describe_scaling(losses), scaling_figure(losses, fitted(measured, how))
    )


def _axes(measured: PointResults, how: Size) -> Drawing:
    panels = _panels(measured, how.factors, {over: axis(how, over) for over in KNOBS})
    caption = (
        f"The small language model, rank {how.axis_rank}, from α = {AXIS_ALPHA:g} and lr {LR:g}: either is multiplied, "
        f"which gives the same first step. Drift over signal: mean over windows of 10 steps. {_seeds(how.seeds)}"
    )
    return drawing("alpha-and-lr", "Alpha against the learning rate.", caption, panels, "factor on α or lr", True)


def _network(measured: PointResults, how: Size) -> Drawing:
    start = how.network_lrs[len(how.network_lrs) // 2]
    panels = _panels(measured, how.network_factors, {over: network_axis(how, "adamw", start, over) for over in KNOBS})
    caption = (
        f"A network of five layers, {how.network_steps} steps of AdamW, from α = {NETWORK_ALPHA:g} and lr {start:g}. A "
        f"cross marks the last factor before a run diverged. {_seeds(how.network_seeds)}"
    )
    return drawing("network", "How far each can be raised.", caption, panels, "factor on α or lr", True)


def _panels(measured: PointResults, factors: Sequence[float], axes: dict[str, list[Point]]) -> list[Panel]:
    measures: list[tuple[str, Measure]] = [
        ("held-out loss", lambda point: [math.nan if x is None else x for x in measured.losses(point)]),
        ("drift / signal", lambda point: [measured.drift_ratio(point)]),
    ]
    return [
        Panel(title, [_curve(*KNOBS[over], factors, points, measure) for over, points in axes.items()], log=True)
        for title, measure in measures
    ]


def _curve(label: str, colour: str, x: Sequence[float], at: Sequence[Point], measure: Measure) -> Curve:
    """Means over the seeds with their standard error, up to the first point where a seed diverged."""
    measurements = [list(measure(point)) for point in at]
    end = next((place for place, values in enumerate(measurements) if any(map(math.isnan, values))), len(measurements))
    means = [statistics.fmean(values) for values in measurements[:end]]
    errors = [
        statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0 for values in measurements[:end]
    ]
    broken = end < len(measurements)
    apart = max(end - broken, 0)  # the cross stands alone
    points = Points(x[:apart], means[:apart], errors[:apart])
    return Curve(label, x[:end], means, points, colour=colour, broken=broken)


def _first_step(measured: PointResults, how: Size) -> Drawing:
    axes = {
        "AdamW": (how.network_factors, network_axis(how, "adamw", how.network_lrs[0], "alpha")),
        "plain SGD": (how.sgd_factors, network_axis(how, "sgd", SGD_LR, "alpha")),
    }
    measures: list[tuple[str, Measure]] = [
        ("length of the first step", lambda point: [measured.first_move(point)]),
        ("drift / signal", lambda point: [measured.drift_ratio(point)]),
    ]
    panels = [
        Panel(
            title,
            [
                _curve(name, colour, factors, points, measure)
                for (name, (factors, points)), colour in zip(axes.items(), COLOURS[2:], strict=True)
            ],
            log=True,
        )
        for title, measure in measures
    ]
    caption = (
        f"The same network, α raised from {NETWORK_ALPHA:g}: AdamW at lr {how.network_lrs[0]:g}, SGD without momentum "
        f"at lr {SGD_LR:g}. {_seeds(how.network_seeds)}"
    )
    return drawing("optimizers", "Where SGD differs.", caption, panels, "factor on α", True)


def _auto(measured: PointResults, how: Size) -> Drawing:
    labels = {"adamw": f"AdamW, lr {TUNED_LR:g}", AUTO: "auto"}
    curves = [
        _curve(
            label,
            rule_colour(rule),
            how.spread,
            spread_points(how, rule),
            lambda point: [math.nan if x is None else x for x in measured.losses(point)],
        )
        for rule, label in labels.items()
    ]
    panels = [Panel("held-out loss", curves)]
    caption = f"The small language model, rank {how.axis_rank}, {how.steps} steps. {_seeds(how.seeds)}"
    return drawing("auto", "The choice of alpha under auto.", caption, panels, "lora_alpha", True)


def _seeds(count: int) -> str:
    return "One seed." if count == 1 else f"Mean of {count} seeds with one standard error."
