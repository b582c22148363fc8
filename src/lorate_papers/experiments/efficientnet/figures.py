"""The figures."""

from lorate_papers.experiments.efficientnet.plan import seeds, size
from lorate_papers.experiments.experiment import Drawing, Options, Results
from lorate_papers.experiments.resnet.figures import constants, paper_rules


def draw(results: Results, options: Options) -> list[Drawing]:
    """All figures, in the order of the report."""
    how, starts = size(options), len(seeds(options))
    return [
        paper_rules(results, "The paper's rules on EfficientNet-Lite0.", how.points, starts),
        constants(results, how.steps),
    ]
