"""LoRA on the convolutions of a residual network under every rule."""

from collections.abc import Sequence
from typing import Any

from lorate.sweep import Run
from lorate_papers.experiments.experiment import Claim, Drawing, Options, Results
from lorate_papers.experiments.resnet import work
from lorate_papers.experiments.resnet.claims import decide
from lorate_papers.experiments.resnet.figures import draw
from lorate_papers.experiments.resnet.settings import PROVED, TUNED, grid, seeds, size


class ResnetExperiment:
    """Runs, figures and claims of the residual network."""

    title = "A residual network under every rule"
    summary = (
        "A network with ResNet-18's layers at half their width (in the quick form a smaller one), pre-trained by us on "
        "the digits 0 to 4 of scikit-learn, is adapted to 5 to 9 by LoRA of rank 8 on its convolutions, in batches of "
        "32; batch normalisation keeps its statistics. This stands in for the paper's CIFAR-10, which --data cifar10 "
        "--model microsoft/resnet-18 runs where there is an internet connection. Constants are tuned on grids of one "
        "size."
    )
    takes = ("data", "model")

    def runs(self, options: Options) -> Sequence[Run]:
        """The slow ones first."""
        where = {"quick": options.quick, "data": options.data, "model": options.model}
        common: dict[str, Any] = {"seeds": seeds(options), "steps": size(options).steps, "where": where}
        tuned = [
            Run(f"tuned-{rule}", work.tuned_rule, {"rule": rule, "grid": grid(rule, options), **common})
            for rule in TUNED
        ]
        return [*tuned, *(Run(f"untuned-{rule}", work.untuned_rule, {"rule": rule, **common}) for rule in PROVED)]

    def drawings(self, results: Results, options: Options) -> Sequence[Drawing]:
        """The figures."""
        return draw(results, options)

    def claims(self, results: Results, options: Options) -> Sequence[Claim]:
        """The claims."""
        return decide(results, options)


EXPERIMENT = ResnetExperiment()
