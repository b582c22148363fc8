"""Under which conditions the paper's rules beat a tuned constant rate: start, horizon, fineness of the grid."""

from lorate_papers.experiments.conditions.claims import decide
from lorate_papers.experiments.conditions.figures import draw
from lorate_papers.experiments.conditions.plan import runs
from lorate_papers.experiments.experiment import Experiment

EXPERIMENT = Experiment(
    title="When the paper's rules beat a tuned constant rate",
    summary=(
        "Multinomial logistic regression on scikit-learn's handwritten digits, full batch, LoRA of rank 4 and scaling "
        "1, B = 0 at the start. The paper's rules and a constant rate are compared at the best of equally many "
        "constants, which is chosen for each start of A, each number of steps and each spacing of the constants tried."
    ),
    runs=runs,
    claims=decide,
    drawings=draw,
    protocols={
        "": (
            "Not in the paper, whose experiments have one length each. Raw digits of 8 × 8 pixels instead of "
            "embeddings; three seeds; the best constant is that of the lowest median loss, with which no seed "
            "diverged or ended above its start."
        ),
    },
)
