"""The figures about the spectrum."""

from lorate_papers.experiments.experiment import Drawing, Options, Results
from lorate_papers.experiments.plots import Curve, Panel, Points
from lorate_papers.experiments.rule_figures import drawing
from lorate_papers.experiments.spectrum.claims import ratios
from lorate_papers.experiments.spectrum.plan import ALPHAS, PAPER_ALPHA, size

EQUAL = "both alike"


def draw(results: Results, options: Options) -> list[Drawing]:
    """All figures, in the order of the report."""
    return [_over_alpha(results, options), _along(results, options)]


def _over_alpha(results: Results, options: Options) -> Drawing:
    how = size(options)
    panels = []
    for place, words in ((0, "at the start"), (-1, f"after {how.steps[-1]} steps")):
        curves = []
        for rank in how.ranks:
            found = {ALPHAS[a](rank) / rank: ratios(results, rank, a, options) for a in how.alphas}
            known = {x: values[place] for x, values in found.items() if place == 0 or len(values) == len(how.steps)}
            x, y = list(known), list(known.values())
            curves.append(Curve(f"rank {rank}", x, y, Points(x, y, [0.0] * len(x)), broken=len(known) < len(found)))
        curves.append(Curve(EQUAL, [1, 200], [1, 1], colour="#5f7285", dashes="dotted"))
        panels.append(Panel(f"curvature of adapters over weights, {words}", curves, log=True))
    caption = (
        "Below the dotted line the low-rank form suppresses the Hessian's spectrum, above it the opposite. Largest "
        f"absolute eigenvalues on one batch. {_seeds(how.seeds)}"
    )
    return drawing("ratio", "Suppressed, then magnified.", caption, panels, "alpha over rank", log_x=True)


def _along(results: Results, options: Options) -> Drawing:
    how = size(options)
    panels = []
    for rank in how.ranks:
        curves = []
        for alpha in how.alphas:
            values = ratios(results, rank, alpha, options)
            x = [step + 1 for step in how.steps[: len(values)]]
            dashes = "dashed" if alpha == PAPER_ALPHA else "solid"
            curves.append(Curve(f"alpha = {alpha}", x, values, dashes=dashes, broken=len(values) < len(how.steps)))
        panels.append(Panel(f"curvature of adapters over weights, rank {rank}", curves, log=True))
    caption = f"The same ratio along training; the first step is as long at every alpha. {_seeds(how.seeds)}"
    return drawing("training", "Along training.", caption, panels, "1 + step", log_x=True, columns=3)


def _seeds(count: int) -> str:
    return "One seed." if count == 1 else f"Geometric mean of {count} seeds."
