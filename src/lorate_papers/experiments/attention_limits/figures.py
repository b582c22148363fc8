"""The figures on what fine-tuning can reach."""

import math

from lorate_papers.experiments.attention_limits.claims import TRAINED, active_differences
from lorate_papers.experiments.attention_limits.plan import BEST, MODEL, POOL, SHARES, size
from lorate_papers.experiments.experiment import Drawing, Options, Results
from lorate_papers.experiments.plots import Curve, Panel, Points
from lorate_papers.experiments.rule_figures import drawing
from lorate_papers.training.measures import mean_and_error

LABELS = {
    **{name: "trained, best λ′" if name == BEST else f"trained, λ′ = {name}" for name in TRAINED},
    "same map": "Bayes-optimal fine-tuning",
}
COLOURS = dict(zip(LABELS, ("#0b7a75", "#c2571a", "#7a5cc4", "#1b5faa", "#5f7285"), strict=True))


def draw(results: Results, options: Options) -> list[Drawing]:
    """All figures, in the order of the report."""
    return [_bound(results, options), _active(results, options)]


def _bound(results: Results, options: Options) -> Drawing:
    how = size(options)
    rows = [results[f"theory-at-{alpha:g}"] for alpha in how.alphas]
    panels = []
    for name, words in (("error", "test error E′"), ("overlap", "overlap of adapter and teacher")):
        curves = []
        for key, label in LABELS.items():
            found = [mean_and_error(results[f"simulation-at-{alpha:g}"][key][name]) for alpha in how.simulated]
            points = Points(how.simulated, [mean for mean, _ in found], [error for _, error in found])
            dashes = "dashed" if key == "same map" else "solid"
            line = [math.nan if row[key][name] is None else row[key][name] for row in rows]  # an adapter that is 0
            curves.append(Curve(label, how.alphas, line, points, COLOURS[key], dashes))
        both = Curve("and pre-training too", how.alphas, [row["best map"][name] for row in rows], dashes="dotted")
        flat = [row["frozen"] if name == "error" else math.nan for row in rows]  # without an adapter no overlap
        frozen = Curve("frozen map alone", how.alphas, flat, colour="#9a6b00")
        panels.append(Panel(words, [*curves, both, frozen]))
    caption = (
        "The trained adapter lies between the frozen map and the dashed line, which no learner on the same map can "
        f"pass. α = {MODEL['alpha']:g}, T = {MODEL['tokens']}, Δ = {MODEL['noise']:g}, best λ. Lines: theory. Points: "
        f"mean of {how.seeds} simulations at D = {how.dimension} with one standard error; of the dashed line by "
        "message passing from the trained adapter."
    )
    return drawing("bound", "Between the frozen map and the bound.", caption, panels, "α′ = N′/D", True)


def _active(results: Results, options: Options) -> Drawing:
    how, panels = size(options), []
    for name, words in (("error", "adapter's part of the test error"), ("overlap", "overlap")):
        theory = [results["active-theory"][f"{share:g}"] for share in SHARES]
        line = [row["chosen"][name] - row["as they come"][name] for row in theory]
        found = [mean_and_error(active_differences(results, name, share)) for share in SHARES]
        points = Points(SHARES, [mean for mean, _ in found], [error for _, error in found])
        panels.append(Panel(f"change of the {words}", [Curve("chosen against as they come", SHARES, line, points)]))
    caption = (
        f"Fine-tuning on the share ρ of a pool of {POOL} D sequences on which the frozen map predicts least, against "
        f"as many taken as they come; no label noise. Line: theory. Points: mean of {how.active_seeds} simulations at "
        f"D = {how.active_dimension} with one standard error, in pairs."
    )
    return drawing("active", "What choosing the sequences adds.", caption, panels, "share chosen, ρ", True)
