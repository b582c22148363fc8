"""The claims about the scaling factor, each with the number that decides it."""

import itertools
import math
from collections.abc import Mapping, Sequence

from lorate.report.words import count, listing
from lorate.scaling.power_law import ScalingFit
from lorate_papers.experiments.alpha.plan import (
    AUTO,
    LR,
    NETWORK_ALPHA,
    SGD_LR,
    TUNED_LR,
    Point,
    Size,
    axis,
    network_axis,
    other_lr_points,
    size,
    spread_points,
)
from lorate_papers.experiments.alpha.readings import PointResults, best_by_lr, fitted, slope
from lorate_papers.experiments.experiment import Claim, Options, Results, all_hold
from lorate_papers.experiments.rule_claims import loss_in_words

FLAT = 0.1
"""A drift ratio that grows with a larger power than this rises."""
FAR = 16
"""So many times 2r is the law with c = 256 at r = 64."""
EXACT = 0.05
"""A power this close to a whole number is that number."""
NOISE = 0.01
"""Relative differences of the held-out loss that another seed can make."""


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims."""
    measured, how = PointResults(results), size(options)
    fit = fitted(measured, how)
    return [
        _exponent(fit),
        _far_above_usual(fit),
        _belongs_to_a_learning_rate(measured, how),
        *_small_lr_is_enough(measured, how),
        *_drift(measured, how),
        *_stability(measured, how),
        _first_step(measured, how),
        _sgd_drift(measured, how),
        _auto(measured, how),
    ]


def _exponent(fit: ScalingFit | None) -> Claim:
    sentence = "The best lora_alpha grows like the square root of the rank (small language model, AdamW)."
    if fit is None or fit.interval is None:
        return Claim.decide(sentence, "too few ranks have their best alpha inside the grid", None)
    low, high = fit.interval
    value = (
        f"exponent {fit.exponent:.2f}, 95% interval {low:.2f} to {high:.2f}, from ranks "
        f"{listing([str(rank) for rank, one in fit.best.items() if not one.at_edge], most=9)}; with ½ held, "
        f"c = {fit.c:.0f} ({fit.c_interval[0]:.0f} to {fit.c_interval[1]:.0f}) at lr {LR:g}"
    )
    undecided = fit.contains_half and (low <= 0 or high >= 1)  # no law at all, or s = α/r, would fit as well
    return Claim.decide(sentence, value, None if undecided else fit.contains_half)


def _far_above_usual(fit: ScalingFit | None) -> Claim:
    sentence = "At a small learning rate the best lora_alpha lies far above the usual 2r, at every rank."
    if fit is None:
        return Claim.decide(sentence, "no fit", None)
    inside = {rank: one.alpha / (2 * rank) for rank, one in fit.best.items() if not one.at_edge}
    value = ", ".join(f"{factor:.0f} times at r = {rank}" for rank, factor in inside.items())
    edges = [str(rank) for rank in fit.best if rank not in inside]
    value += f"; at an edge of the grid, so not known, at r = {listing(edges, most=9)}" if edges else ""
    parts = [*(factor >= FAR for factor in inside.values()), *(None for _ in edges)]
    return Claim.decide(sentence, f"{value}; far means at least {FAR} times", all_hold(parts))


def _belongs_to_a_learning_rate(measured: PointResults, how: Size) -> Claim:
    sentence = (
        "The coefficient c belongs to a learning rate: the best lora_alpha falls about as 1/lr, their product stays."
    )
    best = best_by_lr(measured, how, other_lr_points(how))
    if len(best) < 2:
        return Claim.decide(sentence, "one learning rate only", None)
    power = slope(list(best), list(best.values()))
    value = ", ".join(f"{alpha:.0f} at lr {lr:g}" for lr, alpha in best.items())
    return Claim.decide(sentence, f"{value}: exponent {power:.2f}, allowed −1.25 to −0.75", -1.25 <= power <= -0.75)


def _small_lr_is_enough(measured: PointResults, how: Size) -> list[Claim]:
    """On both tasks: the lowest loss along the axis of alpha against that along the axis of the learning rate."""
    start = how.network_lrs[0]
    tasks = {
        "small language model": {over: axis(how, over) for over in ("alpha", "lr")},
        "network of five layers": {over: network_axis(how, "adamw", start, over) for over in ("alpha", "lr")},
    }
    claims = []
    for task, axes in tasks.items():
        (loss_alpha, at_alpha), (loss_lr, at_lr) = (_lowest(measured, axes[over]) for over in ("alpha", "lr"))
        claims.append(
            Claim.decide(
                f"With lora_alpha raised a small learning rate trains as well as a tuned one at a usual alpha: {task}.",
                f"held-out loss {loss_in_words(loss_alpha, '.4g')} with α = {at_alpha.alpha:g} at lr {at_alpha.lr:g}, "
                f"{loss_in_words(loss_lr, '.4g')} with α = {at_lr.alpha:g} at lr {at_lr.lr:g}; allowed 1% more",
                None if math.isinf(loss_alpha) and math.isinf(loss_lr) else loss_alpha <= loss_lr * (1 + NOISE),
            )
        )
    return claims


def _lowest(measured: PointResults, points: Sequence[Point]) -> tuple[float, Point]:
    """The first point with an infinite loss where all diverged."""
    known = [(measured.loss(point), point) for point in points if not math.isnan(measured.loss(point))]
    return min(known, key=lambda one: one[0], default=(math.inf, points[0]))


def _drift(measured: PointResults, how: Size) -> list[Claim]:
    """One claim for each knob, on the language model and on the network together."""
    return [
        _drift_claim(
            measured,
            how,
            "alpha",
            "Raising lora_alpha does not raise the drift ratio (AdamW).",
            f"not raised: below {FLAT:+g}",
        ),
        _drift_claim(measured, how, "lr", "Raising the learning rate raises it (AdamW).", f"raised: above {FLAT:+g}"),
    ]


def _drift_claim(measured: PointResults, how: Size, over: str, sentence: str, bound: str) -> Claim:
    powers = {"language model": _power(how.factors, measured, axis(how, over))}
    for start in how.network_lrs:
        points = network_axis(how, "adamw", start, over)
        powers[f"network from lr {start:g}"] = _power(how.network_factors, measured, points)
    value = f"power of the drift ratio in {'α' if over == 'alpha' else 'lr'}: "
    value += ", ".join(f"{_signed(power)} ({name})" for name, power in powers.items())
    known = not any(math.isnan(power) for power in powers.values())
    holds = all(power < FLAT if over == "alpha" else power > FLAT for power in powers.values())
    return Claim.decide(sentence, f"{value}; {bound}", holds if known else None)


def _signed(power: float) -> str:
    return "not known" if math.isnan(power) else f"{power:+.2f}"


def _power(factors: Sequence[float], measured: PointResults, points: Sequence[Point]) -> float:
    return slope(factors, [measured.drift_ratio(point) for point in points])


def _stability(measured: PointResults, how: Size) -> list[Claim]:
    """How far alpha and the learning rate can be raised on the network, from several learning rates."""
    words, confirmed, reversed_ = [], False, False
    further: list[bool | None] = []
    for start in how.network_lrs:
        stable = {
            over: dict(
                zip(how.network_factors, map(measured.stable, network_axis(how, "adamw", start, over)), strict=True)
            )
            for over in ("lr", "alpha")
        }
        confirmed |= stable["alpha"][256] and not stable["lr"][128]
        reversed_ |= stable["lr"][128] and not stable["alpha"][256]
        reach = {over: _reach(one) for over, one in stable.items()}
        # neither diverged, so the axes are too short; or both did where they begin
        equal = reach["alpha"] == reach["lr"] and reach["lr"] in (0, max(how.network_factors))
        further.append(None if equal else reach["alpha"] > reach["lr"])
        words.append(f"lr ×{reach['lr']:g} and α ×{reach['alpha']:g} from lr {start:g}")
    value = f"stable up to {', '.join(words)}; {count(how.network_seeds, 'seed')} each, α starts at {NETWORK_ALPHA:g}"
    return [
        Claim.decide(
            "There is a learning rate from which ×128 diverges while lora_alpha ×256 stays stable, and none from which "
            "it is the other way round (network of five layers, AdamW).",
            value,
            confirmed and not reversed_,
        ),
        Claim.decide(
            "lora_alpha can be raised further than the learning rate before the run diverges, from every learning rate "
            "(network of five layers, AdamW).",
            value,
            all_hold(further),
        ),
    ]


def _reach(stable: Mapping[float, bool]) -> float:
    """The largest factor up to which all are stable; 0 if the first is not."""
    return max(itertools.takewhile(lambda factor: stable[factor], sorted(stable)), default=0)


def _first_step(measured: PointResults, how: Size) -> Claim:
    sentence = "Under AdamW the first step of the weights is proportional to lora_alpha, under plain SGD to its square."
    axes = {
        "AdamW": (how.network_factors, network_axis(how, "adamw", how.network_lrs[0], "alpha"), 1),
        "SGD": (how.sgd_factors, network_axis(how, "sgd", SGD_LR, "alpha"), 2),
    }
    powers = {
        name: (slope(factors, [measured.first_move(point) for point in points]), expected)
        for name, (factors, points, expected) in axes.items()
    }
    value = ", ".join(f"power {power:.3f} under {name}" for name, (power, _) in powers.items())
    value += f"; allowed {EXACT:g} either way"
    return Claim.decide(sentence, value, all(abs(power - expected) < EXACT for power, expected in powers.values()))


def _sgd_drift(measured: PointResults, how: Size) -> Claim:
    sentence = "Plain SGD is outside the claim about drift: there raising lora_alpha raises the drift ratio too."
    powers = {
        over: _power(how.sgd_factors, measured, network_axis(how, "sgd", SGD_LR, over)) for over in ("alpha", "lr")
    }
    power = powers["alpha"]
    value = (
        f"power of the drift ratio {_signed(power)} in α, and {_signed(powers['lr'])} along the learning rates "
        f"with the same first steps; raised: above {FLAT:+g}"
    )
    return Claim.decide(sentence, value, None if math.isnan(power) else power > FLAT)


def _auto(measured: PointResults, how: Size) -> Claim:
    sentence = "Under the rule auto the choice of lora_alpha matters less than under AdamW at one learning rate."
    worst = {rule: max(regret(measured, how, rule)) for rule in ("adamw", AUTO)}
    above = {rule: f"at most {one:.3f}" if math.isfinite(one) else "infinitely far" for rule, one in worst.items()}
    value = (
        f"over a {how.spread[-1] / how.spread[0]:g}-fold range of α the held-out loss is {above[AUTO]} above the best "
        f"seen under auto, {above['adamw']} under AdamW at lr {TUNED_LR:g}"
    )
    lost = all(map(math.isinf, worst.values()))
    return Claim.decide(sentence, value, None if lost else worst[AUTO] < worst["adamw"])


def regret(measured: PointResults, how: Size, rule: str) -> list[float]:
    """How far each alpha lies above the best loss of both rules; infinite where it diverged."""
    both = [measured.loss(point) for one in ("adamw", AUTO) for point in spread_points(how, one)]
    best = min((loss for loss in both if not math.isnan(loss)), default=math.nan)  # not needed where all diverged
    losses = [measured.loss(point) for point in spread_points(how, rule)]
    return [math.inf if math.isnan(loss) else loss - best for loss in losses]
