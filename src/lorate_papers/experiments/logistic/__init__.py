"""Full-batch LoRA descent on multinomial logistic regression: every rule, its speed, its rate, its proofs."""

from lorate_papers.experiments.experiment import Experiment
from lorate_papers.experiments.logistic.claims import decide
from lorate_papers.experiments.logistic.figures import draw
from lorate_papers.experiments.logistic.plan import runs

EXPERIMENT = Experiment(
    title="Logistic regression under every rule",
    summary=(
        "Multinomial logistic regression on scikit-learn's handwritten digits, from a zero weight matrix, by "
        "full-batch gradient descent on a LoRA adapter of rank 4 or 20 with scaling 1. The smoothness L of the "
        "loss is known in closed form. All rules start from the same adapters; constants are tuned on grids of one "
        "size."
    ),
    runs=runs,
    claims=decide,
    drawings=draw,
)
