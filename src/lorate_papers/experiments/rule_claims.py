"""Claims that several experiments decide in the same words: rules against constant rates."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from lorate_papers.experiments.experiment import Claim, all_hold
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.training.measures import final_losses
from lorate_papers.training.tuning import Criterion

ByRule = Mapping[str, Mapping[str, Any]]
"""By rule, what `lorate_papers.training.tuned_runs.tuned_runs` returned."""
Settings = Mapping[str, ByRule]
"""By a word for the setting, such as ``rank 4``."""

WORSE = 2.0
"""A loss of at least this many times another one is clearly worse; at most this many times: still usable."""


def loss_in_words(value: float, form: str = ".3g") -> str:
    """Three digits, or that it diverged."""
    return format(value, form) if math.isfinite(value) else "diverged"


def one_ended(*losses: float) -> bool:
    """Whether a comparison says anything: where all runs diverged none is lower.

    >>> one_ended(1.0, math.inf), one_ended(math.inf, math.inf)
    (True, False)
    """
    return any(map(math.isfinite, losses))


def other_scales(settings: Settings) -> Claim:
    """From the runs ``large`` and ``small`` of the constant rate, at ten times and a tenth of its best."""
    words, holds = [], True
    for word, by_rule in settings.items():
        constant = by_rule["constant"]
        lost = sum(run["diverged"] for run in constant["large"])
        best, small = median(final_losses(constant["runs"])), median(final_losses(constant["small"]))
        holds &= lost == len(constant["large"]) and math.isfinite(small) and small >= WORSE * best
        words.append(
            f"{word} (best {constant['best']:g}{refused_in_words(constant)}): {lost} of {len(constant['large'])} runs "
            f"at ten times the best diverged, loss {loss_in_words(small)} at a tenth of it instead of "
            f"{loss_in_words(best)}"
        )
    return Claim.decide(
        "Large constant rates diverge and small ones crawl: at ten times the best constant every run is lost, at a "
        f"tenth of it the loss ends at least {WORSE:g} times higher.",
        "; ".join(words),
        holds,
    )


def same_scale(
    settings: Settings, name: str, claim: str, rules: Sequence[str] = PAPER, starts: str = "the starts"
) -> Claim:
    """From the runs of constant rates that have a rule's own scale: its ``first step`` or its ``mean step``."""
    words, compared = [], list[bool | None]()
    for word, by_rule in settings.items():
        parts = []
        for rule in rules:
            own, other = median(final_losses(by_rule[rule]["runs"])), median(final_losses(by_rule[rule][name]))
            compared.append(own < other if one_ended(own, other) else None)
            parts.append(f"{rule} {loss_in_words(own)} (constant {loss_in_words(other)})")
        words.append(f"{word}: {', '.join(parts)}")
    return Claim.decide(claim, f"final loss, median of {starts}; {'; '.join(words)}", all_hold(compared))


def beat_the_best_constant(settings: Settings) -> Claim:
    """From the tuned runs of the paper's rules and of the constant rate.

    Open where the loser's best constant lies at the edge of its grid: one that was not tried may be better.
    """
    words, parts = [], list[bool | None]()
    for word, by_rule in settings.items():
        ends = ends_of(by_rule)
        for rule in PAPER:
            below = ends[rule] < ends["constant"]
            open_ = by_rule["constant" if below else rule]["at_edge"] or not one_ended(ends[rule], ends["constant"])
            parts.append(None if open_ else below)
        words.append(f"{word}: " + ", ".join(f"{rule} {end_in_words(by_rule, rule)}" for rule in by_rule))
    return Claim.decide(
        "Each of the paper's three rules at its best constant ends lower than the best constant rate.",
        f"final loss, median; {'; '.join(words)}",
        all_hold(parts),
    )


def end_in_words(by_rule: ByRule, rule: str) -> str:
    """Final loss of a rule at its best constant; whether a better one may lie outside its grid, or was refused."""
    tuning = by_rule[rule]
    edge = " (at the edge of its grid)" if tuning["at_edge"] else ""
    return f"{loss_in_words(ends_of(by_rule)[rule])}{edge}{second_in_words(tuning)}"


def second_in_words(tuning: Mapping[str, Any], by: Criterion = "final_loss") -> str:
    """Of a rule whose best constant is not the one that ended lowest where all were tried: which one, and why.

    >>> grid = [{"lr": 0.3, "final_loss": 0.2}, {"lr": 1.0, "final_loss": 0.1}]
    >>> second_in_words({"grid": grid, "best": 0.3, "refused": [1.0]})
    ' (with 0.3; 1 ended lower on one start, at 0.1, and diverged on another)'
    """
    refused = refused_in_words(tuning, by)
    return f" (with {tuning['best']:g}{refused})" if refused else ""


def refused_in_words(tuning: Mapping[str, Any], by: Criterion = "final_loss") -> str:
    """The constants that ended lower where all were tried but were not taken; to follow the one that was."""
    tried = {trial["lr"]: trial[by] for trial in tuning["grid"]}
    return "".join(
        f"; {lr:g} ended lower on one start, at {loss_in_words(tried[lr])}, and diverged on another"
        for lr in tuning["refused"]
        if tried[lr] is not None
    )


def usable_constants(settings: Settings, grid: str) -> Claim:
    """From the grids of all tuned rules.

    Args:
        settings: the paper's rules and the constant rate.
        grid: what was tried, such as ``7 constants over three decades``.
    """
    words, holds = [], True
    for word, by_rule in settings.items():
        counts = {rule: _usable(one["grid"]) for rule, one in by_rule.items()}
        holds &= all(counts[rule] > counts["constant"] for rule in PAPER)
        words.append(f"{word}: " + ", ".join(f"{rule} {count}" for rule, count in counts.items()))
    return Claim.decide(
        "The paper's rules are less sensitive to their constant than a constant rate: more of the constants tried end "
        f"within {WORSE:g} times the rule's lowest loss.",
        f"of {grid}, each tried on one start; {'; '.join(words)}",
        holds,
    )


def tuned_claims(settings: Settings, grid: str) -> list[Claim]:
    """The four above, of rules that were set against constant rates of their own mean step size; ``grid`` as there."""
    return [
        other_scales(settings),
        same_scale(
            settings,
            "mean step",
            "Each of the paper's three rules, tuned, ends lower than a constant rate of the mean of its own step "
            "sizes.",
        ),
        beat_the_best_constant(settings),
        usable_constants(settings, grid),
    ]


def ends_of(by_rule: ByRule) -> dict[str, float]:
    """Final training loss of every rule, median over the starts; infinite if half of them diverged."""
    return {rule: median(final_losses(one["runs"])) for rule, one in by_rule.items()}


def _usable(grid: Sequence[Mapping[str, Any]]) -> int:
    losses = final_losses(grid)
    return sum(math.isfinite(loss) and loss <= WORSE * min(losses) for loss in losses)
