"""The figures of the solvable attention model."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lorate.report import rule_colour
from lorate_papers.experiments.attention.plan import ACTIVE, BRIDGE, LINEAR, NARROW, RULES, SHORT, size
from lorate_papers.experiments.attention.readings import (
    REACHED,
    Measure,
    effective_noise,
    effective_noise_beta,
    effective_noise_reused,
    of_figure,
    simulated,
    success,
    theory,
)
from lorate_papers.experiments.experiment import Drawing, Options, Results
from lorate_papers.experiments.plots import Curve, Panel, Points, curve_figure
from lorate_papers.training.measures import Numbers, mean_and_error

ERROR, OVERLAP = "test error E′", "overlap of adapter and teacher"
SAMPLES = "fine-tuning sequences over dimension, α′ = N′/D"
DECAY = "weight decay λ of pre-training"


def draw(results: Results, options: Options) -> list[Drawing]:
    """All figures, in the order of the report."""
    how = size(options)
    marks = f"Lines: theory. Points: mean of {how.seeds} simulations at D = {how.dimension} with one standard error."
    return [
        _two_panels(
            results, options, "decay", "Data and pre-training.",
            f"{_words(LINEAR)}, λ′ = 0.5, fresh sequences. {marks}", SAMPLES,
        ),
        _two_panels(
            results, options, "finetune-decay", "Data and fine-tuning.",
            f"{_words(LINEAR)}, λ = 0.1, fresh sequences. {marks}", SAMPLES,
        ),
        _noise(results, options, marks),
        _two_panels(
            results, options, "mismatch", "Error and overlap disagree.",
            f"{_words(NARROW)}, α′ = 3, λ′ = 0.5. On reused sequences the overlap is best at the smallest λ, the error "
            f"at a larger one. {marks}", DECAY, log_x=True,
        ),
        _active(results, options),
        _two_panels(
            results, options, "softmax", "Softmax and linear attention.",
            f"{_words(SHORT)}, λ = 0.03, λ′ = 0.1, reused sequences. {marks}", SAMPLES,
        ),
        _rules(results, options),
        _random(results, options),
    ]  # fmt: skip


def _words(fixed: dict[str, Any]) -> str:
    return f"α = {fixed['alpha']:g}, T = {fixed['tokens']}, κ0 = {fixed['kappa0']:g}, Δ = {fixed['noise']:g}"


def _curve(results: Results, line: Any, name: str, label: str, measure: Measure | None = None) -> Curve:
    places, values = theory(results, line, name)
    points = simulated(results, line, name, measure) if line.simulated else []
    shown = Points([p.at for p in points], [p.mean for p in points], [p.error for p in points])
    return Curve(label, places, values, shown)


def _two_panels(
    results: Results, options: Options, figure: str, title: str, caption: str, xlabel: str, log_x: bool = False
) -> Drawing:
    lines = of_figure(options, figure)
    panels = [
        Panel(words, [_curve(results, line, name, line.label) for line in lines])
        for name, words in (("E_finetuned", ERROR), ("overlap", OVERLAP))
    ]
    columns = 2 if len(lines) == 2 else 3
    return Drawing(figure, title, caption, _spoken(panels), curve_figure(panels, xlabel, log_x, columns))


def _noise(results: Results, options: Options, marks: str) -> Drawing:
    (line,) = of_figure(options, "noise")
    curves = [
        _curve(results, line, "Delta_eff", "fresh sequences", effective_noise),
        _curve(results, line, "Delta_eff_beta", "fresh, best recalibration", effective_noise_beta),
        _curve(results, line, "Delta_eff_reused", "reused sequences", effective_noise_reused),
    ]
    panels = [Panel("effective noise", curves)]
    caption = f"What fine-tuning sees of pre-training. {_words(LINEAR)}. {marks}"
    return Drawing("noise", "Effective noise.", caption, _spoken(panels), curve_figure(panels, DECAY, log_x=True))


def _active(results: Results, options: Options) -> Drawing:
    rows = [row for row in results["active"]["rows"] if row["fraction"] is not None]
    (recalibrated,) = (row for row in results["active"]["rows"] if row["fraction"] is None)
    x = [row["fraction"] for row in rows]
    everything = next(row for row in rows if row["fraction"] == 1)
    panels = []
    for name, words in (("noise", "effective noise"), ("overlap", OVERLAP), ("error", ERROR)):

        def change(row: Any, name: str = name) -> tuple[float, float]:
            return mean_and_error(np.asarray(row[name]) - np.asarray(everything[name]))

        start = everything["theory"][name]
        measured = [change(row) for row in rows]
        points = Points(x, [mean for mean, _ in measured], [error for _, error in measured])
        chosen = Curve("actively chosen", x, [row["theory"][name] - start for row in rows], points)
        level, error = change(recalibrated)
        left = x[0] * 0.8
        best = Points([left], [level], [error])
        flat = [recalibrated["theory"][name] - start] * 2
        other = Curve("all, map recalibrated", [left, x[-1]], flat, best, dashes="dashed")
        panels.append(Panel(f"change of {words}", [chosen, other]))
    how = size(options)
    caption = (
        f"Fine-tuning on the share of a pool where the frozen map predicts least, against all of it. "
        f"{_words(ACTIVE)}, λ = 0.3, α′ = 1.5, "
        f"λ′ = 0.2. Lines: theory. Points: mean of {how.active_seeds} simulations at D = {how.dimension} with one "
        "standard error, on the same maps."
    )
    figure = curve_figure(panels, "share of the pool that is chosen, ρ", log_x=True)
    return Drawing("active", "Active fine-tuning.", caption, _spoken(panels), figure)


def _rules(results: Results, options: Options) -> Drawing:
    how = size(options)
    runs = [run for name, run in results.items() if name.startswith("rules-seed-")]
    panels = []
    for start in ("spectral", "informed"):
        curves = []
        for rule in RULES:
            gaps = np.array([_gap(run, start, rule) for run in runs])
            y = np.exp(np.log(np.maximum(gaps, 1e-15)).mean(0))
            steps = list(range(len(y)))
            curves.append(Curve(rule, steps, y.tolist(), colour=rule_colour(rule)))
        panels.append(Panel(f"training loss above its minimum, relative; {start} start", curves, log=True))
    caption = (
        f"A rank-one PEFT adapter under four rules, A and B held equal. {_words(BRIDGE)}, λ = 0.1, α′ = 3, λ′ = 0.5, "
        f"D = {how.dimension}; geometric mean of {len(runs)} instances. The minimum is that of L-BFGS from four starts."
    )
    figure = curve_figure(panels, "step of gradient descent")
    for axes in figure.axes:
        axes.set_ylim(bottom=1e-12)
    return Drawing("rules", "Gradient descent under the rules.", caption, _spoken(panels), figure)


def _gap(run: Any, start: str, rule: str) -> Numbers:
    (row,) = (row for row in run["rows"] if row["start"] == start and row["rule"] == rule)
    losses: Numbers = np.asarray(row["losses"])
    best: float = run["best"]["loss"]
    return losses / best - 1


def _random(results: Results, options: Options) -> Drawing:
    how = size(options)
    curves = []
    for start in ("random", "spectral", "informed"):
        shares = [success(results, alpha, start) for alpha in how.random_alphas]
        percent = [100 * share for share, _ in shares]
        errors = [100 * error for _, error in shares]
        dashes = "solid" if start == "random" else "dashed" if start == "spectral" else "dotted"
        points = Points(how.random_alphas, percent, errors)
        curves.append(Curve(start, how.random_alphas, percent, points, dashes=dashes))
    panels = [Panel("runs that reach the global minimum, %", curves)]
    count = how.random_seeds * how.random_starts
    caption = (
        f"Gradient descent (majorizer rule, {how.random_steps} steps) ending within {REACHED:.1%} of the lowest loss. "
        f"{count} random starts and {how.random_seeds} of each other kind a point, D = {how.random_dimension}; "
        "bars: one standard error of the share."
    )
    figure = curve_figure(panels, SAMPLES, columns=3)
    figure.axes[0].set_ylim(-4, 106)
    return Drawing("random", "From a random start.", caption, _spoken(panels), figure)


def _spoken(panels: Sequence[Panel]) -> str:
    """First and last values of every curve."""
    sentences = []
    for panel in panels:
        for curve in panel.curves:
            x, y = (curve.x, curve.y) if len(curve.x) else (curve.points.x, curve.points.y)
            if len(x):
                sentences.append(f"{panel.title}, {curve.label}: {y[0]:.4g} at {x[0]:.3g}, {y[-1]:.4g} at {x[-1]:.3g}.")
    return " ".join(sentences)
