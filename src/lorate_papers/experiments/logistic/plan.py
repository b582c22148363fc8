"""What is run: tuned rules, rules with a proof, long runs, and runs that compare ranks and starts."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lorate import Monitor
from lorate.descent import paper_log_bound, rate_bound, sharp_guarantee, sum_eta_bound, theory_guarantee
from lorate.monitor.certificate import certify
from lorate.sweep import Run
from lorate_papers.experiments.experiment import Options, Results
from lorate_papers.experiments.paper_rules import PAPER, tuned_beside_constants
from lorate_papers.training.measures import column
from lorate_papers.training.recipe import Recipe
from lorate_papers.training.training_run import Values, train_model, train_under_rule
from lorate_papers.training.tuning import constants
from lorate_papers.workloads import AdapterSpec, load_workload

TUNED = ("constant", *PAPER)
GIVEN_L = ("theory", "sharp", "one-factor", "majorizer")
"""Rules that take L and have nothing to tune."""
PROVED = (*GIVEN_L, "backtracking")

DIGITS, EMBEDDINGS = "logistic", "embeddings"
WORKLOADS = (DIGITS, EMBEDDINGS)
CENTRES = {
    DIGITS: {"constant": 0.3, "adaptive": 30.0, "adaptive-loss": 30.0, "normalized": 0.2},
    EMBEDDINGS: {"constant": 0.05, "adaptive": 0.5, "adaptive-loss": 0.5, "normalized": 0.05},
}
"""Middle of each rule's grid."""
EARLY = 0.1
"""The early stage: the first tenth of the steps."""
ESCAPE = {"constant": 0.3, "adaptive-loss": 10.0}
"""Constants of the runs that leave the flat region at the origin."""
START_NORM = 1.1547
"""Norm of all adapters at PEFT's default start with rank 4: A's entries have variance 1/(3n)."""
FALL = 0.9
"""The loss has begun to fall when it is at most this share of its first value."""


class Size(NamedTuple):
    """How much is run."""

    steps: int  # of full-batch descent, which are epochs
    seeds: int  # starts of each tuned rule
    points: int  # constants in a grid, over three decades
    ranks: tuple[int, ...]  # of the main runs
    equal_ranks: tuple[int, ...]  # ranks that are compared from starts of one norm
    long: int  # steps of the long runs
    stds: tuple[float, ...]  # standard deviations of A at the start, for the flat region at the origin


FULL = Size(1000, 3, 7, (4, 20), (4, 8, 12, 20), 4000, (0.001, 0.01, 0.1, 1.0))
QUICK = Size(150, 3, 7, (4,), (4, 8), 400, (0.001, 0.1))


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def seeds(options: Options) -> list[int]:
    """Seeds of the starts."""
    return options.seeds(size(options).seeds)


def grid(rule: str, options: Options, workload: str = DIGITS) -> tuple[float, ...]:
    """Three decades around the middle, as many constants for each rule."""
    centre = CENTRES[workload][rule]
    return constants(centre / 10**1.5, centre * 10**1.5, size(options).points)


def adapter(rank: int, init_std: float | None = None) -> dict[str, float | None]:
    """LoRA with scaling 1."""
    return {"rank": rank, "alpha": rank, "init_std": init_std}


def run_name(workload: str, name: str) -> str:
    """Name of a run; those on digits have no prefix."""
    return name if workload == DIGITS else f"{workload}-{name}"


def only_of(workload: str, results: Results) -> Results:
    """The results on a workload by the names that those on digits have."""
    prefix = run_name(workload, "")
    return {name.removeprefix(prefix): one for name, one in results.items() if name.startswith(prefix)}


GUARANTEES = {"theory": theory_guarantee, "sharp": sharp_guarantee}


def descend(rule: str, lr: float | None, rank: int, steps: int, seed: int, quick: bool, **more: Any) -> Values:
    """Full-batch descent; ``more`` are fields of `Recipe`, ``workload``, or ``init_std`` of the adapters."""
    spec, workload = adapter(rank, more.pop("init_std", None)), more.pop("workload", DIGITS)
    return train_under_rule(workload, spec, rule, lr, steps, None, seed, quick=quick, **more)


def tuned_rule(
    rule: str, rank: int, grid: Sequence[float], steps: int, seeds: Sequence[int], quick: bool, workload: str
) -> Values:
    """Tune a rule and run it on all seeds, see `tuned_beside_constants`."""

    def run(name: str, lr: float, seed: int) -> Values:
        return descend(name, lr, rank, steps, seed, quick, workload=workload)

    return tuned_beside_constants(run, rule, grid, seeds, against=("first step", "mean step"))


def proved_rule(rule: str, rank: int, steps: int, seed: int, quick: bool, workload: str) -> Values:
    """Run a rule that needs no tuning under the monitor, and certify the run."""
    task = load_workload(workload, quick=quick)
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
    bounds = {"min_grad_sq": rate_bound(guarantee, steps).tolist(), "sum_eta": sum_eta_bound(guarantee, steps).tolist()}
    if rule == "theory":
        bounds["paper"] = paper_log_bound(gap, norm, smoothness, steps).tolist()
    return bounds


def early_correlation(rules: tuple[str, str], lr: float, rank: int, steps: int, seed: int, quick: bool) -> Values:
    """Pearson correlation of two rules with one constant, early and later: of step sizes and of losses."""
    one, other = (descend(rule, lr, rank, steps, seed, quick, keep=steps) for rule in rules)
    first = round(EARLY * steps)
    correlations: Values = {"lr": lr}
    for name in ("eta", "loss"):
        a, b = column(one, name), column(other, name)
        correlations[name] = {"early": _correlation(a[:first], b[:first]), "later": _correlation(a[first:], b[first:])}
    return correlations


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


SAME = ("adaptive", "adaptive-loss")
"""The two rules whose early stages are compared, both with this constant."""
SAME_CONSTANT = 3.0
CONSTANT_IN_RANKS = 10.0
"""Constant of adaptive-loss in the runs that compare ranks, and in the long run."""


def _main_runs(options: Options, workload: str) -> list[Run]:
    how = size(options)
    runs = []
    for rank in how.ranks:
        common: dict[str, Any] = {"rank": rank, "steps": how.steps, "quick": options.quick, "workload": workload}
        for rule in TUNED:
            given = {"rule": rule, "grid": grid(rule, options, workload), "seeds": seeds(options), **common}
            runs.append(Run(run_name(workload, f"tuned-{rule}-rank-{rank}"), tuned_rule, given))
        for rule in PROVED:
            for seed in seeds(options):
                given = {"rule": rule, "seed": seed, **common}
                name = run_name(workload, f"proved-{rule}-rank-{rank}-seed-{seed}")
                runs.append(Run(name, proved_rule, given))
    return runs


def _other_runs(options: Options) -> list[Run]:
    how = size(options)
    first, rank = seeds(options)[0], how.ranks[0]
    runs = []
    for rule, lr in (("sharp", None), ("adaptive-loss", CONSTANT_IN_RANKS), ("constant", 0.1)):
        given: dict[str, Any] = {"rule": rule, "lr": lr, "rank": rank, "steps": how.long, "seed": first}
        runs.append(Run(f"long-{rule}", descend, {**given, "quick": options.quick}))
    for seed in seeds(options):
        given = {"rules": SAME, "lr": SAME_CONSTANT, "rank": rank, "steps": how.steps, "seed": seed}
        runs.append(Run(f"early-seed-{seed}", early_correlation, {**given, "quick": options.quick}))
    for equal in how.equal_ranks:
        for start, std in (("equal", START_NORM / (64 * equal) ** 0.5), ("default", None)):
            given = {"rule": "adaptive-loss", "lr": CONSTANT_IN_RANKS, "rank": equal, "steps": how.steps // 2}
            given |= {"seed": first, "quick": options.quick, "init_std": std, "keep": how.steps}
            runs.append(Run(f"{start}-start-rank-{equal}", descend, given))
    for std in how.stds:
        for rule, lr in ESCAPE.items():
            given = {"rule": rule, "lr": lr, "rank": rank, "steps": how.steps, "seed": first}
            given |= {"quick": options.quick, "init_std": std}
            runs.append(Run(f"origin-{rule}-std-{std:g}", descend, given))
    return runs


def runs(options: Options) -> list[Run]:
    """The slow ones first."""
    return [*_main_runs(options, EMBEDDINGS), *_main_runs(options, DIGITS), *_other_runs(options)]
