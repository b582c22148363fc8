"""The claims about language models."""

import math
from statistics import fmean, median

import numpy as np

from lorate_papers.experiments.experiment import Claim, Options, Results
from lorate_papers.experiments.llm.plan import (
    LARGE_START,
    REGRET,
    RULES,
    SMALL_START,
    STARTS,
    run_name,
)
from lorate_papers.experiments.llm.readings import (
    BEGUN,
    begun,
    closeness,
    end_in_words,
    ends,
    lead,
    regret,
    steps_in_words,
    winners,
)
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.training.measures import ahead, column, with_error

SLOW = 2.0
"""A start that takes at least this many times as long is slow."""


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims, in the order of the report."""
    return [
        *(wins(results, rule) for rule in PAPER),
        come_close(results),
        lead_shrinks(results),
        _flat(results),
        _start_sooner(results),
        _without_constant(results),
    ]


def wins(results: Results, rule: str) -> Claim:
    """Whether a rule is ahead of the constant rate from the small start."""
    leads = lead(results, rule, SMALL_START)
    return Claim.decide(
        f"From a start of A with standard deviation {STARTS[SMALL_START]} the rule {rule} ends lower than the best "
        "constant rate.",
        f"held-out loss {end_in_words(results, rule, SMALL_START)} against "
        f"{end_in_words(results, 'constant', SMALL_START)}; lower by {with_error(leads)} over {len(leads)} seeds, "
        "decided beyond 2 standard errors",
        ahead(leads),
    )


def come_close(results: Results) -> Claim:
    """Whether the rules are near the constant rate from the large start."""
    runs = winners(results, "constant", LARGE_START)
    words, close = closeness(
        runs[0]["validation"]["loss"][0],
        {rule: ends(winners(results, rule, LARGE_START)) for rule in ("constant", *PAPER)},
    )
    listed = ", ".join(end_in_words(results, rule, LARGE_START) for rule in ("constant", *PAPER))
    return Claim.decide(
        f"From {STARTS[LARGE_START]} the paper's three rules come close to the best constant rate.",
        f"held-out loss {listed}; {words}" + (", decided beyond 2 standard errors" if len(runs) > 1 else ""),
        close,
    )


def lead_shrinks(results: Results) -> Claim:
    """Whether the lead depends on the start."""
    means = {start: np.mean([lead(results, rule, start) for rule in PAPER], axis=0) for start in STARTS}
    finite = all(np.isfinite(mean).all() for mean in means.values())
    return Claim.decide(
        f"The paper's rules are further ahead of the constant rate from {STARTS[SMALL_START]} than from "
        f"{STARTS[LARGE_START]}.",
        f"mean lead of the three {with_error(means[SMALL_START])} and {with_error(means[LARGE_START])}; decided beyond "
        "2 standard errors of the difference seed by seed",
        ahead(means[SMALL_START] - means[LARGE_START]) if finite else None,
    )


def _flat(results: Results) -> Claim:
    words, steps = [], {}
    for start, title in STARTS.items():
        norms = [np.sqrt(column(run, "grad_sq")) for run in winners(results, "constant", start)]
        first, rise = median(norm[0] for norm in norms), median(np.nanmax(norm) / norm[0] for norm in norms)
        steps[start] = begun(results, "constant", start)
        words.append(
            f"{steps_in_words(steps[start])} steps from {title} (constant "
            f"{results[run_name('constant', start)]['lr']:g}, ‖∇J‖ {first:.2g} at first, {rise:.3g} times that at most)"
        )
    return Claim.decide(
        "The loss is flat near V = 0: where B is 0 and A small, the best constant rate starts slowly.",
        f"{BEGUN:.0%} of the way down after {' and '.join(words)}; slowly means at least {SLOW:g} times as many",
        None if math.isinf(steps[LARGE_START]) else steps[SMALL_START] >= SLOW * steps[LARGE_START],
    )


def _start_sooner(results: Results) -> Claim:
    steps = {rule: begun(results, rule, SMALL_START) for rule in ("constant", *PAPER)}
    words = ", ".join(f"{steps_in_words(count)} steps ({rule})" for rule, count in steps.items())
    return Claim.decide(
        f"From {STARTS[SMALL_START]} the paper's rules leave the flat region sooner than the best constant rate.",
        f"{BEGUN:.0%} of the way down after {words}",
        all(steps[rule] < steps["constant"] for rule in PAPER),
    )


def _without_constant(results: Results) -> Claim:
    words, excess = [], []
    for start, title in STARTS.items():
        more, text = regret({rule: fmean(ends(winners(results, rule, start))) for rule in RULES})
        excess.append(more)
        words.append(f"{text}, from {title}")
    return Claim.decide(
        "auto, without any constant, ends as low as the best of the tuned rules, AdamW among them.",
        f"held-out loss {'; '.join(words)}; as low means at most {REGRET:.0%} above",
        all(more <= REGRET for more in excess),  # nan, if everything diverged, is not as low
    )
