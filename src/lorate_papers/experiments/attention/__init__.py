"""The solvable attention model: theory lines against simulated points, and the adapter trained by gradient descent."""

from lorate_papers.experiments.attention.claims import decide
from lorate_papers.experiments.attention.figures import draw
from lorate_papers.experiments.attention.plan import runs
from lorate_papers.experiments.experiment import Experiment

EXPERIMENT = Experiment(
    title="The solvable attention model",
    summary=(
        "An attention map is trained on random sequences, then a rank-one adapter on top of it. In high dimension "
        "theory gives test error and overlap with the teacher; simulation at a finite dimension D tests the theory. "
        "The data is synthetic by nature. The adapter is found by L-BFGS, and once more by gradient descent on a LoRA "
        "layer under the step-size rules of lorate."
    ),
    runs=runs,
    claims=decide,
    drawings=draw,
)
