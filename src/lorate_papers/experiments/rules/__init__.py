"""Adaptive against normalized, and against the others: steps to a target, sensitivity to the constant."""

from collections.abc import Sequence
from typing import Any

from lorate.sweep import Run
from lorate_papers.experiments.experiment import Claim, Drawing, Options, Results
from lorate_papers.experiments.rules.claims import decide
from lorate_papers.experiments.rules.figures import draw
from lorate_papers.experiments.rules.settings import grid, seeds, tasks
from lorate_papers.experiments.rules.work import over_grid


class RulesExperiment:
    """Runs, figures and claims of the comparison."""

    title = "Speed of the rules, and sensitivity to their constants"
    summary = (
        "Every rule has one constant. It runs over four decades of it, on logistic regression (handwritten digits, "
        "full batch) and on a small byte-level language model that has read chat and is fine-tuned on Python code in "
        "mini-batches; then at its best constant from three starts. All grids have one size, and all runs of a seed "
        "start from the same adapters and see the same batches. AdamW runs beside the rules as a baseline."
    )
    takes = ("data",)

    def runs(self, options: Options) -> Sequence[Run]:
        """The slow ones first."""
        runs = []
        for workload, task in tasks(options).items():
            for rule in task.rules:
                given: dict[str, Any] = {
                    "workload": workload,
                    "rule": rule,
                    "adapter": task.adapter,
                    "grid": grid(rule, options),
                    "steps": task.steps,
                    "batch": task.batch,
                    "validate_every": task.validate_every,
                    "seeds": seeds(options),
                    "by": task.by,
                    "quick": options.quick,
                    "data": options.data if workload == "small-lm" else None,
                }
                runs.append(Run(f"{workload}-{rule}", over_grid, given))
        return runs

    def drawings(self, results: Results, options: Options) -> Sequence[Drawing]:
        """The figures."""
        return draw(results, options)

    def claims(self, results: Results, options: Options) -> Sequence[Claim]:
        """The claims."""
        return decide(results, options)


EXPERIMENT = RulesExperiment()
