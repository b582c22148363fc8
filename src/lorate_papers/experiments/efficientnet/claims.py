"""The claims: those of the residual network that need no rule but the paper's."""

from lorate_papers.experiments.efficientnet.plan import RANK, TUNED, size
from lorate_papers.experiments.experiment import Claim, Options, Results
from lorate_papers.experiments.resnet.claims import growth_stops, normalized_is_best
from lorate_papers.experiments.rule_claims import (
    beat_the_best_constant,
    other_scales,
    same_scale,
    usable_constants,
)


def decide(results: Results, options: Options) -> list[Claim]:
    """All claims, in the order of the report."""
    tuned = {rule: results[f"tuned-{rule}"] for rule in TUNED}
    settings, how = {f"rank {RANK}": tuned}, size(options)
    return [
        other_scales(settings),
        same_scale(
            settings,
            "mean step",
            "Each of the paper's three rules, tuned, ends lower than a constant rate of the mean of its own step "
            "sizes.",
        ),
        beat_the_best_constant(settings),
        usable_constants(settings, f"{how.points} constants over two decades"),
        normalized_is_best(tuned, "a pre-trained convolutional network"),
        growth_stops(tuned, "a pre-trained convolutional network", how.steps, decided=not options.quick),
    ]
