"""Mini-batches: rules with a proof against SGD, and a rule that needs no constant."""

from lorate_papers.experiments.experiment import Experiment
from lorate_papers.experiments.minibatch.claims import decide
from lorate_papers.experiments.minibatch.figures import draw
from lorate_papers.experiments.minibatch.plan import runs

EXPERIMENT = Experiment(
    title="Mini-batches: rules with a proof",
    summary=(
        "The rules relative and alternate, proved on mini-batches, against SGD, sharp and auto at batches of 4, "
        "8 and 32, drawn with replacement: logistic regression with handwritten digits and synthetic least squares. "
        "Constants are chosen on one start and used on three others; those of logistic regression are then carried to "
        "LoRA's scaling 8."
    ),
    runs=runs,
    claims=decide,
    drawings=draw,
    protocols={
        "": (
            "Not in the paper: theorems proved here, on digits and synthetic least squares; batches drawn "
            "with replacement as the theorems ask."
        ),
    },
)
