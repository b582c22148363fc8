"""The claims about the recipe."""

import math
from statistics import fmean

import numpy as np

from lorate_papers.experiments.alpha.readings import slope
from lorate_papers.experiments.experiment import Claim, Results, all_hold
from lorate_papers.experiments.recipe.plan import (
    AUTO_ALPHAS,
    FULL_TUNING,
    MERGED,
    METHODS,
    PAPER_RATE,
    RECIPE,
    RIVALS,
    Study,
    auto_name,
    best_rate,
    losses,
    run_name,
)
from lorate_papers.experiments.rule_claims import loss_in_words
from lorate_papers.training.measures import Numbers, ahead, leads, mean_and_error, with_error

NEAR = 3.5
"""Learning rates within this factor are about the same."""
ALIKE = 1.2
"""Factors that differ by less are alike: neighbours on a grid are 3 or 3.3 apart."""
AS_LOW = 0.02
"""Relative excess of a loss that still counts as as low."""
KEPT = 0.005
"""Nats of held-out loss that rounding may cost."""


def decide(results: Results, study: Study) -> list[Claim]:
    """All claims, in the order of the report."""
    best = {method: best_rate(results, method, study) for method in METHODS}
    own = best[FULL_TUNING]
    return [
        _lower(results, study, "at the paper's rate of 2e-5", dict.fromkeys(METHODS, PAPER_RATE)),
        _lower(results, study, "at the rate that is best for full fine-tuning", dict.fromkeys(METHODS, own)),
        _lower(results, study, "each at its own best rate", best),
        _same_rate(best, study),
        _reaches_full(results, study, best),
        _along(results, study, best),
        *([_accuracy(results, study, best)] if study.classes else []),
        _merging(results, study, best),
        *_auto(results, study),
    ]


def _lower(results: Results, study: Study, words: str, rates: dict[str, float]) -> Claim:
    ends = {method: losses(results, method, rate, study) for method, rate in rates.items()}
    gains = {rival: leads(ends[RECIPE], ends[rival]) for rival in RIVALS}
    listed = ", ".join(f"{loss_in_words(fmean(ends[method]))} ({method}, lr {rates[method]:g})" for method in METHODS)
    behind = ", ".join(f"{with_error(gain)} below {rival}" for rival, gain in gains.items())
    return Claim.decide(
        f"LoRA-α (alpha = 256√r) ends lower than LoRA, rsLoRA, LoRA+ and PiSSA, {words}.",
        f"held-out loss {listed}; LoRA-α by {behind}; decided beyond 2 standard errors, paired by seed",
        all_hold(ahead(gain) for gain in gains.values()),
    )


def _same_rate(best: dict[str, float], study: Study) -> Claim:
    """Plain LoRA as near to full fine-tuning would leave nothing to LoRA-α."""
    own = best[FULL_TUNING]
    away = {method: max(best[method] / own, own / best[method]) for method in (RECIPE, *RIVALS)}
    nearest = min(away[rival] for rival in RIVALS)
    edges = [method for method in (RECIPE, FULL_TUNING) if best[method] in (study.rates[0], study.rates[-1])]
    note = f"; at an edge of the grid: {', '.join(edges)}" if edges else ""
    factors = ", ".join(f"{best[method]:g} ({method}, a factor of {factor:.2g})" for method, factor in away.items())
    alike = away[RECIPE] / ALIKE < nearest < away[RECIPE] * ALIKE
    near = away[RECIPE] <= NEAR
    return Claim.decide(
        "With alpha = 256√r the best learning rate is about that of full fine-tuning, and that of LoRA, rsLoRA, LoRA+ "
        "and PiSSA is further from it.",
        f"{own:g} ({FULL_TUNING}), {factors}; about means a factor of at most {NEAR:g}{note}",
        None if edges or (near and alike) else near and nearest > away[RECIPE],
    )


def _reaches_full(results: Results, study: Study, best: dict[str, float]) -> Claim:
    own, full = (losses(results, method, best[method], study) for method in (RECIPE, FULL_TUNING))
    more, reached = _as_low(fmean(own), fmean(full))
    return Claim.decide(
        "LoRA-α reaches full fine-tuning, each at its own best rate.",
        f"held-out loss {loss_in_words(fmean(own))} against {loss_in_words(fmean(full))}{more and f', {more}'}; "
        f"reached means at most {AS_LOW:.0%} above",
        reached,
    )


def _as_low(own: float, other: float) -> tuple[str, bool | None]:
    """By how much a loss lies above another, and whether it counts as as low; None where both diverged."""
    if math.isfinite(own) and math.isfinite(other):
        return f"{own / other - 1:+.1%}", own <= (1 + AS_LOW) * other
    return "", math.isfinite(own) if own != other else None


def gap(results: Results, study: Study, method: str, rate: float, full_rate: float) -> Numbers:
    """How far a method lies above full fine-tuning at each measurement after the first, shape ``[seeds, times]``."""
    both = []
    for name, lr in ((method, rate), (FULL_TUNING, full_rate)):
        runs = [results[run_name(name, lr, seed)] for seed in study.seeds]
        times = study.steps // study.every
        both.append([[*run["validation"]["loss"], *[math.inf] * times][1 : times + 1] for run in runs])
    own, full = (np.array(values, dtype=float) for values in both)
    with np.errstate(invalid="ignore"):  # nan where both diverged
        found: Numbers = own - full
    return found


def _along(results: Results, study: Study, best: dict[str, float]) -> Claim:
    gaps = {
        method: gap(results, study, method, best[method], best[FULL_TUNING]).mean(1) for method in (RECIPE, *RIVALS)
    }
    gains = {rival: leads(gaps[RECIPE], gaps[rival]) for rival in RIVALS}
    full_lost = not np.isfinite(losses(results, FULL_TUNING, best[FULL_TUNING], study)).all()
    means = {method: float(values.mean()) for method, values in gaps.items()}
    listed = ", ".join(
        f"{mean:.3f} ({method})" if math.isfinite(mean) else f"not known ({method})" for method, mean in means.items()
    )
    return Claim.decide(
        "LoRA-α stays closer to full fine-tuning than its rivals along the whole run, each at its own best rate.",
        "held-out loss above that of full fine-tuning, mean along the run: "
        f"{listed}; decided beyond 2 standard errors, paired by seed",
        None if full_lost else all_hold(ahead(gain) for gain in gains.values()),
    )


def _accuracy(results: Results, study: Study, best: dict[str, float]) -> Claim:
    sentence = (
        "LoRA-α is right on more held-out examples than LoRA, rsLoRA, LoRA+ and PiSSA, each at the rate of its "
        "lowest loss."
    )
    runs = {method: [results[run_name(method, rate, seed)] for seed in study.seeds] for method, rate in best.items()}
    found = {method: [run["accuracy"] for run in of_method] for method, of_method in runs.items()}
    if any(None in shares for shares in found.values()):
        return Claim.decide(sentence, "the model of this form has no classes", None)
    if lost := [method for method, of_method in runs.items() if any(run["diverged"] for run in of_method)]:
        return Claim.decide(sentence, f"not known where a run diverged: {', '.join(lost)}", None)
    gains = {rival: leads(found[rival], found[RECIPE]) for rival in RIVALS}
    listed = ", ".join(f"{fmean(shares):.1%} ({method})" for method, shares in found.items())
    points = []
    for rival, gain in gains.items():
        mean, error = mean_and_error(100 * gain)
        points.append(f"{mean:+.2f} ± {error:.2f} ({rival})")
    return Claim.decide(
        sentence,
        f"{listed}; LoRA-α over its rivals, in points: {', '.join(points)}; "
        "decided beyond 2 standard errors, paired by seed",
        all_hold(ahead(gain) for gain in gains.values()),
    )


def _merging(results: Results, study: Study, best: dict[str, float]) -> Claim:
    words, costs = [], []
    for method in MERGED:
        runs = [results[run_name(method, best[method], seed)]["merged"] for seed in study.seeds]
        found = [one["merged"] - one["beside"] for one in runs if one is not None]
        costs.append(max(map(abs, found), default=math.nan))
        cost = "not known" if math.isnan(costs[-1]) else f"{costs[-1]:.4f}"
        words.append(f"{cost} ({method}, alpha = {(METHODS[method] or {})['alpha']:g})")
    return Claim.decide(
        "Merging at a large alpha is as harmless as at a usual one: in bfloat16 it costs next to nothing.",
        f"held-out loss changes by at most {', '.join(words)} against the adapters kept apart; next to nothing means "
        f"at most {KEPT:g}",
        None if any(map(math.isnan, costs)) else max(costs) <= KEPT,
    )


def _auto(results: Results, study: Study) -> list[Claim]:
    runs = {alpha: [results[auto_name(alpha, seed)] for seed in study.seeds] for alpha in AUTO_ALPHAS}
    ends = {
        alpha: fmean(math.inf if run["final_validation"] is None else run["final_validation"] for run in of_alpha)
        for alpha, of_alpha in runs.items()
    }
    etas = {alpha: fmean(run["eta"] for run in of_alpha) for alpha, of_alpha in runs.items()}
    usual, large = AUTO_ALPHAS[0], AUTO_ALPHAS[-1]
    more, as_well = _as_low(ends[large], ends[usual])
    power = slope(list(etas), list(etas.values()))
    listed = ", ".join(f"{loss_in_words(loss)} at alpha = {alpha:.0f}" for alpha, loss in ends.items())
    return [
        Claim.decide(
            "auto trains as well at alpha = 256√r as at 2r.",
            f"held-out loss {listed}{more and f': {more}'}; as well means at most {AS_LOW:.0%} above",
            as_well,
        ),
        Claim.decide(
            "auto makes up for alpha: its step falls like 1/alpha.",
            f"last step size {', '.join(f'{eta:.2g} at {alpha:.0f}' for alpha, eta in etas.items())}: power "
            f"{power:.2f}, allowed −1.25 to −0.75",
            -1.25 <= power <= -0.75 if all(map(math.isfinite, ends.values())) else None,
        ),
    ]
