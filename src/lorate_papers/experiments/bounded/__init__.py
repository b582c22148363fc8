"""Bounded against free adapters, controlled against constant step sizes: which assumption buys which rate."""

from collections.abc import Sequence
from typing import Any

from lorate.sweep import Run
from lorate_papers.experiments.bounded import work
from lorate_papers.experiments.bounded.claims import decide
from lorate_papers.experiments.bounded.figures import draw
from lorate_papers.experiments.bounded.settings import DECAY, RULES, TASKS, grid, seeds, size, survival_grid
from lorate_papers.experiments.experiment import Claim, Drawing, Options, Results


class BoundedExperiment:
    """Runs, figures and claims of the ablation."""

    title = "Which assumption buys which rate"
    summary = (
        "The paper proves O(1/T) if the adapters stay bounded and O(1/log T) if not. Here ‖V‖ is left free, capped by "
        "projection half-way to the norm of the free run, or held by weight decay, under step sizes that shrink as the "
        "adapters grow and under a constant one: full-batch descent on logistic regression with handwritten digits and "
        "on synthetic least squares whose solution is a LoRA update of rank 4."
    )
    takes = ()

    def runs(self, options: Options) -> Sequence[Run]:
        """The slow ones first."""
        runs = []
        for task in TASKS:
            for rule in RULES:
                common: dict[str, Any] = {"workload": task, "decay": DECAY, "quick": options.quick}
                given = {**common, "rule": rule, "grid": grid(rule, options), "steps": size(options).steps[task]}
                runs.append(Run(f"compared-{task}-{rule}", work.compared, {**given, "seeds": seeds(options)}))
            given = {**common, "lrs": survival_grid(options), "steps": size(options).survival[1]}
            runs.append(Run(f"survivors-{task}", work.survivors, {**given, "seed": seeds(options)[0]}))
        return runs

    def drawings(self, results: Results, options: Options) -> Sequence[Drawing]:
        """The figures."""
        return draw(results, options)

    def claims(self, results: Results, options: Options) -> Sequence[Claim]:
        """The claims."""
        return decide(results, options)


EXPERIMENT = BoundedExperiment()
