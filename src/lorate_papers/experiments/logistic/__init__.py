"""Full-batch LoRA descent on multinomial logistic regression: every rule, its speed, its rate, its proofs."""

from collections.abc import Sequence
from typing import Any

from lorate.sweep import Run
from lorate_papers.experiments.experiment import Claim, Drawing, Options, Results
from lorate_papers.experiments.logistic import work
from lorate_papers.experiments.logistic.claims import decide
from lorate_papers.experiments.logistic.figures import draw
from lorate_papers.experiments.logistic.settings import ESCAPE, PROVED, START_NORM, TUNED, grid, seeds, size

SAME = ("adaptive", "adaptive-loss")
"""The two rules whose early stages are compared, both with this constant."""
SAME_CONSTANT = 3.0
CONSTANT_IN_RANKS = 10.0
"""Constant of adaptive-loss in the runs that compare ranks, and in the long run."""


class LogisticExperiment:
    """Runs, figures and claims of logistic regression."""

    title = "Logistic regression under every rule"
    summary = (
        "Multinomial logistic regression on scikit-learn's handwritten digits, from a zero weight matrix, by "
        "full-batch gradient descent on a LoRA adapter of rank 4 or 20 with scaling 1. The smoothness L of the "
        "loss is known in closed form. All rules start from the same adapters; constants are tuned on grids of one "
        "size."
    )
    takes = ()

    def runs(self, options: Options) -> Sequence[Run]:
        """The slow ones first."""
        return [*_main_runs(options), *_other_runs(options)]

    def drawings(self, results: Results, options: Options) -> Sequence[Drawing]:
        """The figures."""
        return draw(results, options)

    def claims(self, results: Results, options: Options) -> Sequence[Claim]:
        """The claims."""
        return decide(results, options)


def _main_runs(options: Options) -> list[Run]:
    how = size(options)
    runs = []
    for rank in how.ranks:
        common: dict[str, Any] = {"rank": rank, "steps": how.steps, "quick": options.quick}
        for rule in TUNED:
            given = {"rule": rule, "grid": grid(rule, options), "seeds": seeds(options), **common}
            runs.append(Run(f"tuned-{rule}-rank-{rank}", work.tuned_rule, given))
        for rule in PROVED:
            for seed in seeds(options):
                given = {"rule": rule, "seed": seed, **common}
                runs.append(Run(f"proved-{rule}-rank-{rank}-seed-{seed}", work.proved_rule, given))
    return runs


def _other_runs(options: Options) -> list[Run]:
    how = size(options)
    first, rank = seeds(options)[0], how.ranks[0]
    runs = []
    for rule, lr in (("sharp", None), ("adaptive-loss", CONSTANT_IN_RANKS), ("constant", 0.1)):
        given: dict[str, Any] = {"rule": rule, "lr": lr, "rank": rank, "steps": how.long, "seed": first}
        runs.append(Run(f"long-{rule}", work.descend, {**given, "quick": options.quick}))
    for seed in seeds(options):
        given = {"rules": SAME, "lr": SAME_CONSTANT, "rank": rank, "steps": how.steps, "seed": seed}
        runs.append(Run(f"early-seed-{seed}", work.early_correlation, {**given, "quick": options.quick}))
    for equal in how.equal_ranks:
        for start, std in (("equal", START_NORM / (64 * equal) ** 0.5), ("default", None)):
            given = {"rule": "adaptive-loss", "lr": CONSTANT_IN_RANKS, "rank": equal, "steps": how.steps // 2}
            given |= {"seed": first, "quick": options.quick, "init_std": std, "keep": how.steps}
            runs.append(Run(f"{start}-start-rank-{equal}", work.descend, given))
    for std in how.stds:
        for rule, lr in ESCAPE.items():
            given = {"rule": rule, "lr": lr, "rank": rank, "steps": how.steps, "seed": first}
            given |= {"quick": options.quick, "init_std": std}
            runs.append(Run(f"origin-{rule}-std-{std:g}", work.descend, given))
    return runs


EXPERIMENT = LogisticExperiment()
