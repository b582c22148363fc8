"""The claims on speed and steadiness; those on rates and starts stand in files of their own."""

import math
from collections.abc import Iterable
from statistics import median

from lorate.experiments.experiment import Claim, Options, Results
from lorate.experiments.logistic.rate_claims import rate_claims
from lorate.experiments.logistic.settings import GIVEN_L, PAPER, PROVED, TUNED, seeds, size
from lorate.experiments.logistic.start_claims import start_claims
from lorate.experiments.measures import Result, final_losses, steps_to

WORSE = 2.0
"""A loss of at least this many times another one is clearly worse; at most this many times: still usable."""


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims, in the order of the report."""
    return [
        _other_scales(results, options),
        *(
            _same_scale(results, options, rules, name, scale)
            for name, scale in (("first step", "the same first step size"), ("mean step", "the same mean step size"))
            for rules in (PAPER[:2], PAPER[2:])
        ),
        _best(results, options),
        _usable(results, options),
        _rises(results, options),
        _given_smoothness(results, options),
        _nothing_to_tune(results, options),
        *rate_claims(results, options),
        *start_claims(results, options),
    ]


def tuned(results: Results, rule: str, rank: int) -> Result:
    """The runs of a tuned rule."""
    return results[f"tuned-{rule}-rank-{rank}"]


def proved(results: Results, options: Options, rule: str, rank: int) -> list[Result]:
    """The runs of a rule without a constant."""
    return [results[f"proved-{rule}-rank-{rank}-seed-{seed}"] for seed in seeds(options)]


def loss_in_words(value: float) -> str:
    """Three digits, or that it diverged."""
    return f"{value:.3g}" if math.isfinite(value) else "diverged"


def _other_scales(results: Results, options: Options) -> Claim:
    words, holds = [], True
    for rank in size(options).ranks:
        found = tuned(results, "constant", rank)
        lost = sum(run["diverged"] for run in found["large"])
        best, small = median(final_losses(found["runs"])), median(final_losses(found["small"]))
        holds &= lost == len(found["large"]) and small >= WORSE * best
        words.append(
            f"rank {rank}: at ten times the best ({found['best']:g}) {lost} of {len(found['large'])} runs diverged, "
            f"loss {small:.3g} at a tenth of it instead of {loss_in_words(best)}"
        )
    return Claim.decide(
        "Large constant rates diverge and small ones crawl: at ten times the best constant every run is lost, at a "
        f"tenth of it the loss ends at least {WORSE:g} times higher.",
        "; ".join(words),
        holds,
    )


def _same_scale(results: Results, options: Options, rules: tuple[str, ...], name: str, scale: str) -> Claim:
    words, holds = [], True
    for rank in size(options).ranks:
        parts = []
        for rule in rules:
            found = tuned(results, rule, rank)
            own, other = median(final_losses(found["runs"])), median(final_losses(found[name]))
            holds &= own < other
            parts.append(f"{rule} {loss_in_words(own)} (constant {loss_in_words(other)})")
        words.append(f"rank {rank}: {', '.join(parts)}")
    return Claim.decide(
        f"Tuned {' and '.join(rules)} end{'s' * (len(rules) == 1)} lower than a constant rate of {scale}.",
        f"final loss, median of {len(seeds(options))} starts; {'; '.join(words)}",
        holds,
    )


def _best(results: Results, options: Options) -> Claim:
    words, holds = [], True
    for rank in size(options).ranks:
        ends = {rule: median(final_losses(tuned(results, rule, rank)["runs"])) for rule in TUNED}
        holds &= all(ends[rule] < ends["constant"] for rule in PAPER)
        words.append(f"rank {rank}: {_listed(ends.items())}")
    return Claim.decide(
        "Each of the paper's three rules at its best constant ends lower than the best constant rate.",
        f"final loss, median; {'; '.join(words)}",
        holds,
    )


def _usable(results: Results, options: Options) -> Claim:
    words, holds = [], True
    for rank in size(options).ranks:
        counts = {}
        for rule in TUNED:
            losses = final_losses(tuned(results, rule, rank)["grid"])
            counts[rule] = sum(loss <= WORSE * min(losses) for loss in losses)
        holds &= all(counts[rule] > counts["constant"] for rule in PAPER)
        words.append(f"rank {rank}: " + ", ".join(f"{rule} {count}" for rule, count in counts.items()))
    return Claim.decide(
        "The paper's rules are less sensitive to their constant than a constant rate: more of the constants tried end "
        f"within {WORSE:g} times the rule's lowest loss.",
        f"of {size(options).points} constants over three decades; {'; '.join(words)}",
        holds,
    )


def _rises(results: Results, options: Options) -> Claim:
    words, holds = [], True
    for rank in size(options).ranks:
        shares = {
            rule: median([100 * run["rises"] / run["steps"] for run in tuned(results, rule, rank)["runs"]])
            for rule in TUNED
        }
        holds &= all(shares[rule] <= shares["constant"] for rule in PAPER)
        words.append(f"rank {rank}: " + ", ".join(f"{rule} {share:.2g}%" for rule, share in shares.items()))
    return Claim.decide(
        "The paper's rules run more steadily: at its best constant none of them raises the loss more often than the "
        "best constant rate does.",
        f"share of the steps after which the loss was higher, median; {'; '.join(words)}",
        holds,
    )


def _given_smoothness(results: Results, options: Options) -> Claim:
    words, holds = [], True
    for rank in size(options).ranks:
        targets = [run["final_loss"] for run in proved(results, options, "theory", rank)]
        parts = []
        for rule in GIVEN_L[1:]:
            runs = proved(results, options, rule, rank)
            needed = median([steps_to(run, target) for run, target in zip(runs, targets, strict=True)])
            holds &= needed < size(options).steps
            parts.append((rule, needed))
        words.append(f"rank {rank}: " + ", ".join(f"{rule} {needed:g}" for rule, needed in parts))
    return Claim.decide(
        "Given the same L, sharp, one-factor and majorizer need fewer steps than the paper's proved step size.",
        f"steps to the loss that theory has after {size(options).steps}, median; {'; '.join(words)}",
        holds,
    )


def _nothing_to_tune(results: Results, options: Options) -> Claim:
    words, holds = [], True
    for rank in size(options).ranks:
        own = median(final_losses(proved(results, options, "backtracking", rank)))
        ends = {rule: median(final_losses(tuned(results, rule, rank)["runs"])) for rule in TUNED}
        ends |= {rule: median(final_losses(proved(results, options, rule, rank))) for rule in PROVED[:-1]}
        best = min(ends, key=lambda rule: ends[rule])
        holds &= own <= ends[best]
        words.append(f"rank {rank}: {own:.3g}, best other {ends[best]:.3g} ({best})")
    return Claim.decide(
        "Backtracking, with nothing to tune, ends as low as the best of all other rules.",
        f"final loss, median; {'; '.join(words)}",
        holds,
    )


def _listed(ends: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{rule} {loss_in_words(loss)}" for rule, loss in ends)
