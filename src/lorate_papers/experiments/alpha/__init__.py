"""The scaling factor lora_alpha: its square-root law, and what it does that a learning rate does not."""

from lorate_papers.experiments.alpha.claims import decide
from lorate_papers.experiments.alpha.figures import draw
from lorate_papers.experiments.alpha.plan import runs
from lorate_papers.experiments.experiment import Experiment

EXPERIMENT = Experiment(
    title="lora_alpha and the learning rate",
    summary=(
        "A small language model that has read chat is adapted to Python code, over ranks and alphas. A perceptron of "
        "five layers is adapted to one that differs by a low-rank change, with alpha or the learning rate raised "
        "until it diverges. The change of the weights is split into its linear part, the signal, and the bilinear "
        "rest, the drift."
    ),
    takes=("data",),
    runs=runs,
    claims=decide,
    drawings=draw,
)
