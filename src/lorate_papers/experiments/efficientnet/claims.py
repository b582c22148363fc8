"""The claims: those of the residual network that need no rule but the paper's."""

from lorate_papers.experiments.efficientnet.plan import RANK, TUNED, size
from lorate_papers.experiments.experiment import Claim, Options, Results
from lorate_papers.experiments.resnet.claims import growth_stops, normalized_is_best
from lorate_papers.experiments.rule_claims import tuned_claims


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims, in the order of the report."""
    tuned = {rule: results[f"tuned-{rule}"] for rule in TUNED}
    settings, how = {f"rank {RANK}": tuned}, size(options)
    return [
        *tuned_claims(settings, f"{how.points} constants over two decades"),
        normalized_is_best(tuned, "a pre-trained convolutional network"),
        growth_stops(tuned, "a pre-trained convolutional network", how.steps, decided=not options.quick),
    ]
