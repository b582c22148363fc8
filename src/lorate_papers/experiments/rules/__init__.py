"""Adaptive against normalized, and against the others: steps to a target, sensitivity to the constant."""

from lorate_papers.experiments.experiment import Experiment
from lorate_papers.experiments.paper_rules import CHOSEN
from lorate_papers.experiments.rules.claims import decide
from lorate_papers.experiments.rules.figures import draw
from lorate_papers.experiments.rules.plan import runs

EXPERIMENT = Experiment(
    title="Speed of the rules, and sensitivity to their constants",
    summary=(
        "Every rule has one constant. It runs over four decades of that constant, then at the best value from three "
        "starts. The tasks are logistic regression (handwritten digits, full batch) and a small byte-level language "
        "model that has read chat and is fine-tuned on Python code in mini-batches. All grids have one size, and all "
        "runs of a seed start from the same adapters and see the same batches. AdamW runs beside the rules as a "
        "baseline."
    ),
    takes=("data",),
    runs=runs,
    claims=decide,
    drawings=draw,
    protocols={
        "AdamW": "Not in the paper: AdamW and auto as baselines. " + CHOSEN,
        "carries over": "Not in the paper: our question. " + CHOSEN,
        "": (
            "Digits and a 0.7 M-parameter byte-level Llama instead of the paper's tasks; nine constants over four "
            "decades, three starts. " + CHOSEN
        ),
    },
)
