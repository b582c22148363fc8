"""The symmetric case: descent on f(VVᵀ) for a generic smooth f, with the step sizes that are proved for it."""

from collections.abc import Sequence
from typing import Any

from lorate.sweep import Run
from lorate_papers.experiments.burer_monteiro.claims import decide
from lorate_papers.experiments.burer_monteiro.figures import draw
from lorate_papers.experiments.burer_monteiro.settings import RULES, seeds, size
from lorate_papers.experiments.burer_monteiro.work import descend
from lorate_papers.experiments.experiment import Claim, Drawing, Options, Results


class BurerMonteiroExperiment:
    """Runs, figures and claims of the symmetric case."""

    title = "The symmetric case: f(VVᵀ)"
    summary = (
        "The paper's proof treats LoRA as min f(VVᵀ), Burer and Monteiro's factorisation. Here f is a loss of its own: "
        "sensing of a matrix of rank 2 from random linear measurements, whose minimum is known, and a smooth form of "
        "the max-cut relaxation. The data is synthetic by nature. V follows lorate_papers.symmetric.minimise_symmetric "
        "with the paper's step size, the sharp one and the majorizer's."
    )
    takes = ()

    def runs(self, options: Options) -> Sequence[Run]:
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
            given = {**sensing, "rank": how.ranks[0], "start": norm, "rule": "sharp", "steps": how.steps}
            runs.append(Run(f"start-{norm:g}", descend, {**given, "seed": seeds(options)[0]}))
        return runs

    def drawings(self, results: Results, options: Options) -> Sequence[Drawing]:
        """The figures."""
        return draw(results, options)

    def claims(self, results: Results, options: Options) -> Sequence[Claim]:
        """The claims."""
        return decide(results, options)


EXPERIMENT = BurerMonteiroExperiment()
