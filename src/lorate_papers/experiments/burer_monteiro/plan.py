"""What is run: descents on f(VVᵀ), from plain values to plain values."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lorate.descent import SHARP_FRACTION, THEORY_FRACTION, gradient_bound
from lorate.sweep import Run
from lorate_papers.experiments.burer_monteiro.problems import PROBLEMS
from lorate_papers.experiments.experiment import Options
from lorate_papers.symmetric import SymmetricRule, minimise_symmetric
from lorate_papers.training.trace import Step, Trace

RULES = ("theory", "sharp", "majorizer")
WORDS = {"sensing": "matrix sensing", "max-cut": "smooth max-cut"}
FALL = 0.9
"""f has begun to fall when it is at most this share of its first value."""


class Size(NamedTuple):
    """How much is run."""

    # arguments of `lorate_papers.experiments.burer_monteiro.problems.matrix_sensing`, without the seed
    sensing: dict[str, Any]
    cut: dict[str, Any]  # of `smooth_max_cut`, without the seed
    steps: int  # of the rules sharp and majorizer; theory gets ten times as many
    starts: int  # random starts of each kind
    ranks: tuple[int, ...]  # columns of V in sensing, the solution's rank first
    cut_ranks: tuple[int, ...]  # columns of V in max-cut; the last is above the square root of 2n
    cut_steps: int  # steps of each max-cut rank
    norms: tuple[float, ...]  # of the first V, over the usual one, for the flat region at the origin


FULL = Size(
    {"size": 30, "rank": 2, "measurements": 400}, {"size": 40, "degree": 6.0, "penalty": 10.0},
    500, 5, (2, 4, 30), (2, 4, 10), 4000, (0.001, 0.01, 0.1, 1.0),
)  # fmt: skip
QUICK = Size(
    {"size": 15, "rank": 2, "measurements": 200}, {"size": 20, "degree": 5.0, "penalty": 10.0},
    600, 3, (2, 4), (2, 7), 1500, (0.001, 0.1),
)  # fmt: skip


def size(options: Options) -> Size:
    """The sizes for the options."""
    return QUICK if options.quick else FULL


def seeds(options: Options) -> list[int]:
    """Seeds of the starts."""
    return options.seeds(size(options).starts)


FRACTIONS = {"theory": THEORY_FRACTION, "sharp": SHARP_FRACTION}
r"""Share of $\eta\|\nabla\|^2$ by which each step falls at least; the majorizer's promise has no such form."""
ROUNDING = 1e-13


def descend(
    problem: str, given: Mapping[str, Any], rank: int, start: float, rule: SymmetricRule, steps: int, seed: int
) -> dict[str, Any]:
    r"""Minimise $f(VV^T)$ from a Gaussian V.

    Args:
        problem: one of `PROBLEMS`.
        given: its arguments.
        rank: columns of V.
        start: Frobenius norm of the first V.
        rule: of the step size.
        steps: taken.
        seed: of the start.

    Returns:
        What training runs return, as far as it makes sense (``trace``, ``first_loss``, ``final_loss``), and ``least``,
        the smallest value seen; ``violated``, steps that fell by less than the rule proves, or that rose;
        ``bound_ratio``, the least squared gradient over its a-posteriori bound; ``error``,
        $\|M - M^*\|_F/\|M^*\|_F$ where the solution is known.
    """
    task = PROBLEMS[problem](**given)
    # a stream of its own: the problem's first draw of the same seed is the factor of its solution
    V = np.random.default_rng([seed, 1]).normal(size=(task.size, rank))
    V *= start / np.linalg.norm(V)
    run = minimise_symmetric(task.value, task.gradient, V, task.smoothness, steps, rule)
    trace = Trace(steps, keep=250)
    squares = run.grad_norms**2
    for value, square, eta in zip(run.values, squares, run.step_sizes, strict=False):
        trace.add(Step(float(value), float(square), None, float(eta)), seconds=0.0)
    falls, fraction = run.values[:-1] - run.values[1:], FRACTIONS.get(rule, 0.0)
    largest = np.abs(run.values).max()
    # f is a mean of squares whose roots are rounded relative to the data
    rounding = ROUNDING * np.sqrt(np.abs(run.values[:-1]) * largest) + ROUNDING**2 * largest
    promised = fraction * run.step_sizes * squares - rounding
    bound = float(gradient_bound(max(run.values[0] - run.values[-1], 0.0), run.step_sizes.sum(), fraction))
    error = None
    if task.solution is not None:
        difference = run.factor @ run.factor.T - task.solution
        error = float(np.linalg.norm(difference) / np.linalg.norm(task.solution))
    return {
        "trace": trace.columns(),
        "steps": steps,
        "first_loss": float(run.values[0]),
        "final_loss": float(run.values[-1]),
        "least": float(run.values.min()),
        "diverged": False,
        "violated": int(np.sum(falls < promised)),
        "bound_ratio": float(squares.min()) / bound if fraction else None,
        "error": error,
    }


def runs(options: Options) -> list[Run]:
    """Every rule on both problems, then ranks, then starts."""
    how = size(options)
    sensing: dict[str, Any] = {"problem": "sensing", "given": {**how.sensing, "seed": options.seed}}
    cut: dict[str, Any] = {"problem": "max-cut", "given": {**how.cut, "seed": options.seed}}
    whole = how.cut["size"] ** 0.5  # norm of a V whose rows have length 1
    runs = []
    for seed in seeds(options):
        for rule in RULES:
            steps = {"rule": rule, "steps": how.steps * (10 if rule == "theory" else 1), "seed": seed}
            given = {**sensing, "rank": how.ranks[0], "start": 1.0, **steps}
            runs.append(Run(f"sensing-{rule}-seed-{seed}", descend, given))
            given = {**cut, "rank": how.cut_ranks[-1], "start": whole, **steps}
            runs.append(Run(f"max-cut-{rule}-seed-{seed}", descend, given))
        for rank in how.ranks:
            given = {**sensing, "rank": rank, "start": 1.0, "rule": "majorizer", "steps": 2 * how.steps}
            runs.append(Run(f"rank-{rank}-seed-{seed}", descend, {**given, "seed": seed}))
        for rank in how.cut_ranks:
            given = {**cut, "rank": rank, "start": whole, "rule": "majorizer", "steps": how.cut_steps}
            runs.append(Run(f"cut-rank-{rank}-seed-{seed}", descend, {**given, "seed": seed}))
        for norm in how.norms:
            for name, given, rank, usual in (
                ("sensing", sensing, how.ranks[0], 1.0),
                ("max-cut", cut, how.cut_ranks[-1], whole),
            ):
                start = {"rank": rank, "start": norm * usual, "rule": "sharp", "steps": how.steps, "seed": seed}
                runs.append(Run(f"start-{norm:g}-{name}-seed-{seed}", descend, {**given, **start}))
    return runs
