"""LoRA on the convolutions of a residual network under every rule."""

from lorate_papers.experiments.experiment import Experiment
from lorate_papers.experiments.paper_rules import CHOSEN
from lorate_papers.experiments.resnet.claims import decide
from lorate_papers.experiments.resnet.figures import draw
from lorate_papers.experiments.resnet.plan import runs

EXPERIMENT = Experiment(
    title="A residual network under every rule",
    summary=(
        "A network with ResNet-18's layers at half their width (smaller in the quick form) is pre-trained on the "
        "digits 0 to 4 of scikit-learn. LoRA of rank 8 on its convolutions adapts it to 5 to 9, in batches of 32; "
        "batch normalisation keeps its statistics. This stands in for the paper's CIFAR-10, which --data cifar10 "
        "--model microsoft/resnet-18 runs where there is an internet connection. Constants are tuned on grids of one "
        "size."
    ),
    takes=("data", "model"),
    runs=runs,
    claims=decide,
    drawings=draw,
    protocols={
        "rules with a proof stay stable": "Not in the paper: rules proved here, with an L measured at the start.",
        "a tuned AdamW": "Not in the paper, which does not run AdamW there. " + CHOSEN,
        "": (
            "Half-width ResNet-18 that we pre-trained on digits 0–4, adapted to 5–9, instead of ImageNet weights "
            "and CIFAR-10; batch normalisation keeps its statistics, the paper switches it off; 240 steps of 32. "
            + CHOSEN
        ),
    },
)
