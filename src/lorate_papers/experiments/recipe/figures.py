"""The figures about the recipe."""

from statistics import fmean

import numpy as np

from lorate_papers.experiments.experiment import Drawing, Results
from lorate_papers.experiments.plots import Curve, Panel, Points
from lorate_papers.experiments.recipe.claims import gap
from lorate_papers.experiments.recipe.plan import FULL_TUNING, METHODS, RECIPE, Study, best_rate, losses
from lorate_papers.experiments.rule_figures import drawing
from lorate_papers.training.measures import mean_and_error

COLOURS = dict(zip(METHODS, ("#5f7285", "#c2571a", "#7a5cc4", "#9a6b00", "#b03a6e", "#0b7a75"), strict=True))


def draw(results: Results, study: Study) -> list[Drawing]:
    """All figures, in the order of the report."""
    return [_rates(results, study), _gap(results, study)]


def _rates(results: Results, study: Study) -> Drawing:
    curves: list[Curve] = []
    for method in METHODS:
        found = {rate: losses(results, method, rate, study) for rate in study.rates}
        kept = {rate: mean_and_error(values) for rate, values in found.items() if np.isfinite(values).all()}
        x, y = list(kept), [mean for mean, _ in kept.values()]
        points = Points(x, y, [error for _, error in kept.values()])
        dashes = "dashed" if method == FULL_TUNING else "solid"
        curves.append(Curve(method, x, y, points, COLOURS[method], dashes, broken=len(kept) < len(found)))
    caption = (
        f"Where each method has its best learning rate. Held-out loss after {study.steps} steps of AdamW, rank 8, mean "
        f"of {len(study.seeds)} seeds with one standard error. A cross: beyond it a run diverged."
    )
    return drawing(
        "rates", "Learning rates.", caption, [Panel("held-out loss", curves, True)], "learning rate", True, 3
    )


def _gap(results: Results, study: Study) -> Drawing:
    curves: list[Curve] = []
    full_rate = best_rate(results, FULL_TUNING, study)
    steps = [study.every * (place + 1) for place in range(study.steps // study.every)]
    for method in METHODS:
        if method == FULL_TUNING:
            continue
        rate = best_rate(results, method, study)
        found = gap(results, study, method, rate, full_rate)
        band = (found.min(0).tolist(), found.max(0).tolist())
        style = "solid" if method == RECIPE else "dashed"
        means = [fmean(values) for values in found.T]
        curves.append(Curve(f"{method}, lr {rate:g}", steps, means, colour=COLOURS[method], dashes=style, band=band))
    caption = (
        f"Held-out loss above that of training all weights (lr {full_rate:g}), each method at its best rate. Line: "
        f"mean of {len(study.seeds)} seeds; band: lowest to highest."
    )
    panels = [Panel("held-out loss above all weights", curves)]
    return drawing("gap", "Gap to full fine-tuning.", caption, panels, "step", columns=2)
