"""The solvable attention model: theory lines against simulated points, and the adapter trained by gradient descent."""

from collections.abc import Sequence
from typing import Any

from lorate.sweep import Run
from lorate_papers.experiments.attention import work
from lorate_papers.experiments.attention.claims import decide
from lorate_papers.experiments.attention.figures import draw
from lorate_papers.experiments.attention.settings import (
    ACTIVE,
    BRIDGE,
    FRACTIONS,
    RULES,
    Size,
    lines,
    simulation_name,
    size,
    theory_name,
)
from lorate_papers.experiments.experiment import Claim, Drawing, Options, Results


class AttentionExperiment:
    """Runs, figures and claims of the solvable attention model."""

    title = "The solvable attention model"
    summary = (
        "An attention map is trained on random sequences, then a rank-one adapter on top of it. In high dimension "
        "theory gives test error and overlap with the teacher; simulation at a finite dimension D tests the theory. "
        "The data is synthetic by nature. The adapter is found by L-BFGS, and once more by gradient descent on a LoRA "
        "layer under the step-size rules of lorate."
    )
    takes = ()

    def runs(self, options: Options) -> Sequence[Run]:
        """The slow ones first, so that the last ones fill the gaps."""
        how = size(options)
        return [*_bridge_runs(options, how), *_line_runs(options, how), *_other_runs(options, how)]

    def drawings(self, results: Results, options: Options) -> Sequence[Drawing]:
        """The figures."""
        return draw(results, options)

    def claims(self, results: Results, options: Options) -> Sequence[Claim]:
        """The claims."""
        return decide(results, options)


def _line_runs(options: Options, how: Size) -> list[Run]:
    seeds = options.seeds(how.seeds)
    runs = []
    for line in lines(options):
        points = how.softmax_points if line.fixed.get("attention") == "softmax" else how.points
        given: dict[str, Any] = {"over": line.over, "grid": line.grid, "fixed": line.fixed, "points": points}
        runs.append(Run(theory_name(line), work.theory_line, given))
    for line in lines(options):
        for at in line.simulated:
            fixed = {**line.fixed, line.over: at}
            given = {"fixed": fixed, "dimension": how.dimension, "seeds": seeds}
            runs.append(Run(simulation_name(line, at), work.simulated_point, given))
    return runs


def _bridge_runs(options: Options, how: Size) -> list[Run]:
    runs = []
    for seed in options.seeds(how.descents):
        common = {"fixed": BRIDGE, "dimension": how.dimension, "seed": seed}
        steps = {"steps": how.steps}
        runs.append(Run(f"rules-seed-{seed}", work.descent_under_rules, {**common, "rules": RULES, **steps}))
    for alpha in how.random_alphas:
        fixed = {**BRIDGE, "finetune_alpha": alpha}
        for seed in options.seeds(how.random_seeds):
            given = {"fixed": fixed, "starts": how.random_starts, "steps": how.random_steps}
            given |= {"dimension": how.random_dimension, "seed": seed}
            runs.append(Run(f"random-alpha-{alpha:g}-seed-{seed}", work.descent_from_random, given))
    for seed in options.seeds(how.descents):
        given = {"fixed": BRIDGE, "steps": how.free_steps, "dimension": how.dimension, "seed": seed}
        runs.append(Run(f"free-seed-{seed}", work.descent_left_free, given))
    runs.append(Run("bridge-theory", work.theory_point, {"fixed": BRIDGE, "points": how.points}))
    return runs


def _other_runs(options: Options, how: Size) -> list[Run]:
    seeds = options.seeds(how.seeds)
    given: dict[str, Any] = {"fixed": ACTIVE, "fractions": FRACTIONS, "points": how.points}
    given |= {"dimension": how.dimension, "seeds": options.seeds(how.active_seeds)}
    runs = [Run("active", work.active_selection, given)]
    gaussian = {"fixed": {**BRIDGE, "finetune_alpha": 1.0}, "dimension": how.dimension, "seeds": seeds}
    runs.append(Run("gaussian", work.gaussian_point, {**gaussian, "points": how.points}))
    for dimension in how.dimensions:
        simulated = {"fixed": BRIDGE, "dimension": dimension, "seeds": seeds}
        runs.append(Run(f"dimension-{dimension}", work.simulated_point, simulated))
    return runs


EXPERIMENT = AttentionExperiment()
