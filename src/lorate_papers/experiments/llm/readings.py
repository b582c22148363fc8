"""Numbers read off the runs, and how the claims put them in words."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median

import numpy as np

from lorate_papers.experiments.experiment import Results, all_hold
from lorate_papers.experiments.llm.plan import CLOSE, RULES, STARTS, TUNED, UNTUNED, run_name
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.experiments.rule_claims import loss_in_words
from lorate_papers.training.measures import Numbers, Result, column, final_losses, leads, mean_and_error

BEGUN = 0.2
"""Share of the way down at which a run has left the start."""
WINDOW = 3
"""Steps over which a training loss is averaged, against the noise of the batches."""


def winners(results: Results, rule: str, start: float) -> Sequence[Result]:
    """The runs of a rule's best constant."""
    runs: Sequence[Result] = results[run_name(rule, start)]["runs"]
    return runs


def ends(runs: Iterable[Result]) -> Numbers:
    """Held-out losses at the end; infinite where a run diverged."""
    return np.array(final_losses(runs, "final_validation"))


def lead(results: Results, rule: str, start: float) -> Numbers:
    """How far a rule ends below the constant rate, seed by seed; minus infinity where the rule diverged."""
    return leads(*(ends(winners(results, name, start)) for name in (rule, "constant")))


def begun(results: Results, rule: str, start: float) -> float:
    """The step from which on the training loss has come a fifth of the way to the lowest; median of the seeds."""
    everything = [run for name in RULES for std in STARTS for run in winners(results, name, std)]
    lowest = min(run["final_loss"] for run in everything if run["final_loss"] is not None)
    target = BEGUN * lowest + (1 - BEGUN) * everything[0]["validation"]["loss"][0]
    return median(_steps_down(run, target) for run in winners(results, rule, start))


def _steps_down(run: Result, target: float) -> float:
    smooth = np.convolve(column(run, "loss"), np.ones(WINDOW) / WINDOW, mode="valid")
    below = np.flatnonzero(smooth <= target)
    return float(below[0] + 1) if len(below) else math.inf


def closeness(before: float, losses: Mapping[str, Numbers]) -> tuple[str, bool | None]:
    """How far the paper's rules end from the constant rate, in words, and whether that is close.

    Args:
        before: loss at the start.
        losses: of each rule at the end, seed by seed. Several seeds leave open what lies within two standard errors
            of the border.
    """
    learned = before - float(losses["constant"].mean())
    if not 0 < learned < math.inf:
        return "the constant rate learned nothing", None
    words, parts = [], list[bool | None]()
    for rule in PAPER:
        shares = leads(losses[rule], losses["constant"]) / learned
        mean, error = mean_and_error(shares) if np.isfinite(shares).all() else (-math.inf, math.nan)
        beyond = abs(mean) - CLOSE
        parts.append(None if abs(beyond) <= 2 * error else beyond < 0)
        words.append(f"{mean:+.1%}{f' ± {error:.1%}' if error >= 0 else ''} ({rule})")
    sentence = f"they end lower by {', '.join(words)} of what it learned; close means at most {CLOSE:.0%} either way"
    return sentence, all_hold(parts)


def regret(losses: Mapping[str, float]) -> tuple[float, str]:
    """How far ``auto`` ends above the best tuned rule, relative, and in words."""
    best = min(TUNED, key=lambda rule: losses[rule])
    excess = losses[UNTUNED] / losses[best] - 1
    more = f", {excess:+.1%}" if math.isfinite(excess) else ""
    return (
        excess,
        f"{loss_in_words(losses[UNTUNED], '.3f')} against {loss_in_words(losses[best], '.3f')} ({best}){more}",
    )


def end_in_words(results: Results, rule: str, start: float) -> str:
    """Mean held-out loss of a rule's winner, its constant, and whether a better one may lie beyond."""
    result = results[run_name(rule, start)]
    edge = ", the last one tried" if result["at_edge"] else ""
    return f"{loss_in_words(fmean(ends(result['runs'])), '.3f')} ({rule} {result['lr']:g}{edge})"


def steps_in_words(steps: float) -> str:
    """A count; or that there were too few."""
    return f"{steps:.0f}" if math.isfinite(steps) else "more than all"
