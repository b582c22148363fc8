"""The claims on speed and steadiness; those on rates and starts stand in files of their own."""

import math
from dataclasses import replace
from statistics import median

from lorate_papers.experiments.experiment import Claim, Options, Results, all_hold
from lorate_papers.experiments.logistic.plan import EMBEDDINGS, GIVEN_L, PROVED, TUNED, only_of, seeds, size
from lorate_papers.experiments.logistic.rate_claims import bounds, growth, rate_claims, slower_than_linear
from lorate_papers.experiments.logistic.start_claims import start_claims
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.experiments.rule_claims import (
    beat_the_best_constant,
    loss_in_words,
    one_ended,
    other_scales,
    same_scale,
    second_in_words,
    usable_constants,
)
from lorate_papers.training.measures import Result, final_losses, steps_to


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims, in the order of the report."""
    return [
        *speed_claims(results, options),
        *rate_claims(results, options),
        *start_claims(results, options),
        *embedded_claims(results, options),
    ]


def speed_claims(results: Results, options: Options) -> list[Claim]:
    """Those on speed and steadiness."""
    settings = {f"rank {rank}": {rule: tuned(results, rule, rank) for rule in TUNED} for rank in size(options).ranks}
    return [
        other_scales(settings),
        *(
            same_scale(
                settings,
                name,
                f"Tuned {' and '.join(rules)} end{'s' * (len(rules) == 1)} lower than a constant rate of {scale}.",
                rules,
                f"{len(seeds(options))} starts",
            )
            for name, scale in (("first step", "the same first step size"), ("mean step", "the same mean step size"))
            for rules in (PAPER[:2], PAPER[2:])
        ),
        beat_the_best_constant(settings),
        usable_constants(settings, f"{size(options).points} constants over three decades"),
        _rises(results, options),
        _given_smoothness(results, options),
        _nothing_to_tune(results, options),
    ]


ON_EMBEDDINGS = "On embeddings of images: "


def embedded_claims(results: Results, options: Options) -> list[Claim]:
    """Those on the other workload, in the same words."""
    found = only_of(EMBEDDINGS, results)
    claims = [
        *speed_claims(found, options),
        growth(found, options),
        slower_than_linear(found, options),
        bounds(found, options),
    ]
    return [replace(claim, claim=ON_EMBEDDINGS + claim.claim) for claim in claims]


def tuned(results: Results, rule: str, rank: int) -> Result:
    """The runs of a tuned rule."""
    return results[f"tuned-{rule}-rank-{rank}"]


def proved(results: Results, options: Options, rule: str, rank: int) -> list[Result]:
    """The runs of a rule without a constant."""
    return [results[f"proved-{rule}-rank-{rank}-seed-{seed}"] for seed in seeds(options)]


def _rises(results: Results, options: Options) -> Claim:
    words, holds, ended = [], True, True
    for rank in size(options).ranks:
        shares = {
            rule: median([100 * run["rises"] / run["steps"] for run in tuned(results, rule, rank)["runs"]])
            for rule in TUNED
        }
        holds &= all(shares[rule] <= shares["constant"] for rule in PAPER)
        ended &= not any(run["diverged"] for rule in TUNED for run in tuned(results, rule, rank)["runs"])
        words.append(f"rank {rank}: " + ", ".join(f"{rule} {share:.2g}%" for rule, share in shares.items()))
    return Claim.decide(
        "The paper's rules run more steadily: at its best constant none of them raises the loss more often than the "
        "best constant rate does.",
        f"share of the steps after which the loss was higher, median; {'; '.join(words)}",
        holds if ended else None,
    )


def _given_smoothness(results: Results, options: Options) -> Claim:
    words, holds, known = [], True, True
    for rank in size(options).ranks:
        targets = final_losses(proved(results, options, "theory", rank))
        known &= all(map(math.isfinite, targets))
        parts = []
        for rule in GIVEN_L[1:]:
            runs = proved(results, options, rule, rank)
            needed = median([steps_to(run, target) for run, target in zip(runs, targets, strict=True)])
            holds &= needed < size(options).steps
            parts.append((rule, needed))
        words.append(f"rank {rank}: " + ", ".join(f"{rule} {_steps(needed)}" for rule, needed in parts))
    return Claim.decide(
        "Given the same L, sharp, one-factor and majorizer need fewer steps than the paper's proved step size.",
        f"steps to the loss that theory has after {size(options).steps}, median; {'; '.join(words)}",
        holds if known else None,
    )


def _steps(count: float) -> str:
    return f"{count:g}" if math.isfinite(count) else "never"


def _nothing_to_tune(results: Results, options: Options) -> Claim:
    words, parts = [], list[bool | None]()
    for rank in size(options).ranks:
        own = median(final_losses(proved(results, options, "backtracking", rank)))
        ends = {rule: median(final_losses(tuned(results, rule, rank)["runs"])) for rule in TUNED}
        ends |= {rule: median(final_losses(proved(results, options, rule, rank))) for rule in PROVED[:-1]}
        best = min(ends, key=lambda rule: ends[rule])
        parts.append(own <= ends[best] if one_ended(own, ends[best]) else None)
        others = ", ".join(
            f"{rule}{second}" for rule in TUNED if (second := second_in_words(tuned(results, rule, rank)))
        )
        words.append(f"rank {rank}: {loss_in_words(own)}, best other {loss_in_words(ends[best])} ({best})")
        words[-1] += f"; of the others {others}" if others else ""
    return Claim.decide(
        "Backtracking, with nothing to tune, ends as low as the best of all other rules.",
        f"final loss, median; {'; '.join(words)}",
        all_hold(parts),
    )
