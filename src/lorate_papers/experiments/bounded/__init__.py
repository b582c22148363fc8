"""Bounded against free adapters, controlled against constant step sizes: which assumption buys which rate."""

from lorate_papers.experiments.bounded.claims import decide
from lorate_papers.experiments.bounded.figures import draw
from lorate_papers.experiments.bounded.plan import runs
from lorate_papers.experiments.experiment import Experiment

EXPERIMENT = Experiment(
    title="Which assumption buys which rate",
    summary=(
        "The paper proves O(1/T) if the adapters stay bounded and O(1/log T) if not. Here ‖V‖ is left free, capped "
        "by projection half-way to the norm of the free run, or held by weight decay. Step sizes shrink as the "
        "adapters grow, or are constant. The tasks are full-batch descent on logistic regression with handwritten "
        "digits and on synthetic least squares whose solution is a LoRA update of rank 4."
    ),
    runs=runs,
    claims=decide,
    drawings=draw,
    protocols={
        "The paper's O(1/T)": "Proved in the paper, the experiment is ours: L exact, digits and least squares.",
        "Free adapters grow": (
            "The paper sees growth on logistic regression; digits instead of its embeddings, least squares is ours."
        ),
        "": (
            "Not in the paper: ablation of its assumption of bounded adapters, on digits and synthetic least squares."
        ),
    },
)
