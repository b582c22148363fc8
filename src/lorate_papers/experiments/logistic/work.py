"""What the runs do: functions of plain values that return plain values."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lorate import Monitor
from lorate.descent import paper_log_bound, rate_bound, sharp_guarantee, sum_eta_bound, theory_guarantee
from lorate.monitor.certificate import certify
from lorate_papers.experiments.logistic.settings import EARLY, LARGE, SMALL, adapter
from lorate_papers.experiments.paper_rules import PAPER
from lorate_papers.training.measures import column
from lorate_papers.training.recipe import Recipe
from lorate_papers.training.training_run import Values, train_model, train_under_rule
from lorate_papers.training.tuned_runs import tuned_runs
from lorate_papers.workloads import AdapterSpec, load_workload

WORKLOAD = "logistic"
GUARANTEES = {"theory": theory_guarantee, "sharp": sharp_guarantee}


def descend(rule: str, lr: float | None, rank: int, steps: int, seed: int, quick: bool, **more: Any) -> Values:
    """Full-batch descent; ``more`` are fields of `Recipe`, or ``init_std`` of the adapters."""
    spec = adapter(rank, more.pop("init_std", None))
    return train_under_rule(WORKLOAD, spec, rule, lr, steps, None, seed, quick=quick, **more)


def tuned_rule(rule: str, rank: int, grid: Sequence[float], steps: int, seeds: Sequence[int], quick: bool) -> Values:
    """Tune a constant and run it on all seeds, see `tuned_runs`.

    The constant rate also runs at a tenth and at ten times its best. Each of the paper's rules is set against constant
    rates of its own scale: its first step size, and the mean of its step sizes.
    """
    return tuned_runs(
        lambda name, lr, seed: descend(name, lr, rank, steps, seed, quick),
        rule,
        grid,
        seeds,
        multiples={"large": LARGE, "small": SMALL} if rule == "constant" else None,
        against=("first step", "mean step") if rule in PAPER else (),
    )


def proved_rule(rule: str, rank: int, steps: int, seed: int, quick: bool) -> Values:
    """Run a rule that needs no tuning under the monitor, and certify the run."""
    task = load_workload(WORKLOAD, quick=quick)
    model = task.model(AdapterSpec(rank=rank, alpha=rank), seed)
    with tempfile.TemporaryDirectory() as directory:
        with Monitor(directory, full_batch=True) as monitor:
            run = train_model(task, model, Recipe(rule, None, steps, None, seed), on_start=monitor.watch)
        certificate = certify(Path(directory))
    lines = [asdict(line) for line in certificate.lines]
    run["certificate"] = {"lines": lines, "regime": certificate.regime, "reason": certificate.reason}
    if rule in GUARANTEES:
        run["bounds"] = _bounds(rule, run, getattr(task, "smoothness", math.nan))
    return run


def _bounds(rule: str, run: Values, smoothness: float) -> Values:
    """What is proved before the run, at its kept steps; Loss* = 0 is taken for the least loss."""
    steps, gap, norm = column(run, "step"), run["first_loss"], math.sqrt(run["trace"]["stacked_sq"][0])
    guarantee = GUARANTEES[rule](gap, norm, smoothness)
    found = {
        "min_grad_sq": rate_bound(guarantee, steps).tolist(),
        "sum_eta": sum_eta_bound(guarantee, steps).tolist(),
    }
    if rule == "theory":
        found["paper"] = paper_log_bound(gap, norm, smoothness, steps).tolist()
    return found


def early_correlation(rules: tuple[str, str], lr: float, rank: int, steps: int, seed: int, quick: bool) -> Values:
    """Pearson correlation of two rules with one constant, early and later: of step sizes and of losses."""
    one, other = (descend(rule, lr, rank, steps, seed, quick, keep=steps) for rule in rules)
    first = round(EARLY * steps)
    found: Values = {"lr": lr}
    for name in ("eta", "loss"):
        a, b = column(one, name), column(other, name)
        found[name] = {"early": _correlation(a[:first], b[:first]), "later": _correlation(a[first:], b[first:])}
    return found


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])
