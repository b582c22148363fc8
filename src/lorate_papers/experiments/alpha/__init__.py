"""The scaling factor lora_alpha: its square-root law, and what it does that a learning rate does not."""

from collections.abc import Sequence

from lorate.sweep import Run
from lorate_papers.experiments.alpha.claims import decide
from lorate_papers.experiments.alpha.figures import draw
from lorate_papers.experiments.alpha.settings import all_runs
from lorate_papers.experiments.experiment import Claim, Drawing, Options, Results


class AlphaExperiment:
    """Runs, figures and claims about the scaling factor."""

    title = "lora_alpha and the learning rate"
    summary = (
        "A small language model that has read chat is adapted to Python code, over ranks and alphas; a perceptron of "
        "five layers is adapted to one that differs by a low-rank change, with alpha or the learning rate raised until "
        "it diverges. The change of the weights is split into its linear part, the signal, and the bilinear rest, the "
        "drift."
    )
    takes = ("data",)

    def runs(self, options: Options) -> Sequence[Run]:
        """The slow ones first, so that the last ones fill the gaps."""
        return all_runs(options)

    def drawings(self, results: Results, options: Options) -> Sequence[Drawing]:
        """The figures."""
        return draw(results, options)

    def claims(self, results: Results, options: Options) -> Sequence[Claim]:
        """The claims."""
        return decide(results, options)


EXPERIMENT = AlphaExperiment()
