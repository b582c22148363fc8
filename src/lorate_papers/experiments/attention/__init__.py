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
    protocols={
        "LoRA gradient descent": (
            "Not in the paper: it finds its minimum by a general optimizer; the bridge to LoRA's two factors is ours."
        ),
        "random start": "Not in the paper: the theory speaks of the global minimum.",
        "A LoRA pair": "Not in the paper: the model's adapter is symmetric.",
        "shrinks as the dimension": "Not in the paper: a check of the finite size; six seeds.",
        "replica-symmetric": "The paper assumes it; here its stability is computed on every line.",
        "predicts least": "Pool and shares are ours (ρ ≥ 0.05, Δ = 0.1, D = 100).",
        "every share that is chosen": "Pool and shares are ours (ρ ≥ 0.05, Δ = 0.1, D = 100).",
        "ctive selection": "Pool and shares are ours (ρ ≥ 0.05, Δ = 0.1, D = 100).",
        "": (
            "Same model, equations derived independently: label noise inside the attention, centring of the adapter's "
            "own mean and errors on noise-free labels are our conventions; D = 100, six seeds."
        ),
    },
)
