"""The rules whose claims the experiments test, and how each is tuned."""

from collections.abc import Sequence

from lorate_papers.training.training_run import Values
from lorate_papers.training.tuned_runs import Descend, Scale, tuned_runs

PAPER = ("adaptive", "adaptive-loss", "normalized")
"""The paper's practical rules, each with one constant to tune."""
CHOSEN = "Best is the constant that ends lowest on the first start, of those with which no start diverges."
"""How `lorate_papers.training.tuning.choose` takes a constant, for protocols."""
LARGE, SMALL = 10.0, 0.1
"""The two other scales of the constant rate, as multiples of its best."""


def tuned_beside_constants(
    descend: Descend,  # does one run
    rule: str,
    grid: Sequence[float],  # constants to try
    seeds: Sequence[int],  # starts
    against: Sequence[Scale] = ("mean step",),
) -> Values:
    """Tune a rule and run it on all seeds, see `tuned_runs`.

    The constant rate also runs at a tenth and at ten times its best. Each of the paper's rules is set against constant
    rates of its own scale.
    """
    multiples = {"large": LARGE, "small": SMALL} if rule == "constant" else None
    return tuned_runs(descend, rule, grid, seeds, multiples=multiples, against=against if rule in PAPER else ())
