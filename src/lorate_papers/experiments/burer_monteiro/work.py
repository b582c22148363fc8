"""What the runs do: one descent, from plain values to plain values."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lorate.descent import SHARP_FRACTION, THEORY_FRACTION, gradient_bound
from lorate_papers.experiments.burer_monteiro.problems import PROBLEMS
from lorate_papers.symmetric import SymmetricRule, minimise_symmetric
from lorate_papers.training.trace import Seen, Trace

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
    V = np.random.default_rng(seed).normal(size=(task.size, rank))
    V *= start / np.linalg.norm(V)
    run = minimise_symmetric(task.value, task.gradient, V, task.smoothness, steps, rule)
    trace = Trace(steps, keep=250)
    squares = run.grad_norms**2
    for value, square, eta in zip(run.values, squares, run.step_sizes, strict=False):
        trace.add(Seen(float(value), float(square), None, float(eta)), seconds=0.0)
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
