"""Leads of the paper's rules over the constant rate, read off the runs."""

import math

import numpy as np

from lorate_papers.experiments.conditions.plan import run_name, size
from lorate_papers.experiments.experiment import Options, Results
from lorate_papers.training.measures import Numbers


def losses(results: Results, rule: str, start: float) -> Numbers:
    """``[constants, seeds, horizons]``; infinite where a run had diverged."""
    found = results[run_name(rule, start)]["losses"]
    table = [[[math.inf if loss is None else loss for loss in ends] for ends in by_seed] for by_seed in found]
    return np.array(table, dtype=float)


def best(table: Numbers, spacing: int = 1) -> Numbers:
    """Logarithm of every seed's loss at the constant with the lowest median, with which no seed diverged.

    Args:
        table: see `losses`.
        spacing: only every second, third, … constant is tried; averaged over where the grid may begin.

    Returns:
        Shape ``[seeds, horizons]``.
    """
    logs = []
    for offset in range(spacing):
        tried = table[offset::spacing]
        safe = np.isfinite(tried).all(axis=1)
        chosen = np.argmin(np.where(safe, np.median(tried, axis=1), math.inf), axis=0)
        logs.append(np.log([tried[place, :, horizon] for horizon, place in enumerate(chosen)]).T)
    mean: Numbers = np.mean(logs, axis=0)
    return mean


def lead(results: Results, rule: str, start: float, spacing: int = 1) -> Numbers:
    """How many times lower a rule's loss is than the constant rate's, as a logarithm to base 2.

    Returns:
        Shape ``[seeds, horizons]``; nan where both diverged with every constant.
    """
    constant, own = (best(losses(results, name, start), spacing) for name in ("constant", rule))
    with np.errstate(invalid="ignore"):
        return (constant - own) / math.log(2)


def spacings(options: Options) -> list[int]:
    """Every constant, every second one, and so on up to one in a decade."""
    decade = (size(options).points - 1) // 3
    return [spacing for spacing in range(1, decade + 1) if decade % spacing == 0]
