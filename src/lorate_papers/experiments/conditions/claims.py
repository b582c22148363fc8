"""The claims."""

from collections.abc import Callable, Sequence

import numpy as np

from lorate_papers.experiments.conditions.plan import size
from lorate_papers.experiments.conditions.readings import lead, spacings
from lorate_papers.experiments.experiment import Claim, Options, Results
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.training.measures import Numbers, ahead, with_error

UNIT = "lead in factors of two of the loss, mean of the three rules"


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims, in the order of the report."""
    how = size(options)
    smallest, largest = min(how.starts), max(how.starts)
    fine, coarse = spacings(options)[0], spacings(options)[-1]
    return [
        _everywhere(results, options),
        _some_rule(results, options),
        _more_than(
            f"The paper's rules are further ahead of a tuned constant rate from a small start of A ({smallest:g}) than "
            f"from a large one ({largest:g}).",
            {f"{start:g}": _leads(results, [start])[:, -1] for start in how.starts},
            f"{UNIT}, after {how.horizons[-1]} steps, by A's standard deviation",
        ),
        _more_than(
            f"They are further ahead after few steps ({how.horizons[0]}) than after many ({how.horizons[-1]}).",
            {f"{steps}": _leads(results, how.starts)[:, place] for place, steps in enumerate(how.horizons)},
            f"{UNIT} and over all starts, by the number of steps",
        ),
        _more_than(
            "They are further ahead where one constant in a decade is tried than where many are.",
            {
                words: _leads(results, how.starts, spacing).mean(axis=1)
                for words, spacing in (("one", coarse), (f"{coarse // fine}", fine))
            },
            f"{UNIT} and over all starts and numbers of steps, by constants in a decade",
        ),
    ]


def _leads(results: Results, starts: Sequence[float], spacing: int = 1) -> Numbers:
    """Mean over rules and starts, ``[seeds, horizons]``."""
    with np.errstate(invalid="ignore"):
        mean: Numbers = np.mean([lead(results, rule, start, spacing) for rule in PAPER for start in starts], axis=0)
    return mean


def _more_than(claim: str, leads: dict[str, Numbers], words: str) -> Claim:
    """Whether the first of some leads is larger than the last, decided seed by seed."""
    first, *_, last = leads.values()
    listed = ", ".join(f"{with_error(values)} ({name})" for name, values in leads.items())
    return Claim.decide(
        claim,
        f"{words}: {listed}; {len(first)} seeds, decided beyond 2 standard errors of the difference",
        ahead(first - last) if np.isfinite([first, last]).all() else None,
    )


def _everywhere(results: Results, options: Options) -> Claim:
    counts = {rule: _conditions(options, lambda *at, rule=rule: _wins(results, rule, *at)) for rule in PAPER}
    words = "; ".join(f"{rule} in {len(won)} ({', '.join(won) or 'none'})" for rule, won in counts.items())
    total = len(size(options).starts) * len(size(options).horizons)
    return Claim.decide(
        "Each of the paper's three rules ends lower than the best constant rate, whatever the start and the length.",
        f"of {total} conditions (A's standard deviation / steps), median of the seeds: {words}",
        all(len(won) == total for won in counts.values()),
    )


def _some_rule(results: Results, options: Options) -> Claim:
    won = _conditions(options, lambda *at: any(_wins(results, rule, *at) for rule in PAPER))
    lost = [one for one in _conditions(options, lambda *at: True) if one not in won]
    return Claim.decide(
        "At least one of the paper's three rules ends lower than the best constant rate, whatever the start and the "
        "length.",
        f"in {len(won)} of {len(won) + len(lost)} conditions; not in {', '.join(lost) or 'none'}",
        not lost,
    )


def _conditions(options: Options, holds: Callable[[float, int], bool]) -> list[str]:
    how = size(options)
    return [
        f"{start:g}/{steps}" for start in how.starts for place, steps in enumerate(how.horizons) if holds(start, place)
    ]


def _wins(results: Results, rule: str, start: float, horizon: int) -> bool:
    return bool(np.median(lead(results, rule, start)[:, horizon]) > 0)
