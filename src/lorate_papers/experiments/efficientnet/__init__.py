"""LoRA on the pointwise convolutions of EfficientNet-Lite0 under the paper's rules."""

from lorate_papers.experiments.efficientnet.claims import decide
from lorate_papers.experiments.efficientnet.figures import draw
from lorate_papers.experiments.efficientnet.plan import runs
from lorate_papers.experiments.experiment import Experiment
from lorate_papers.experiments.paper_rules import CHOSEN

EXPERIMENT = Experiment(
    title="A network pre-trained on ImageNet under the paper's rules",
    summary=(
        "EfficientNet-Lite0 with ImageNet weights learns to see defects of solar cells (in the quick form: digits), in "
        "batches of 16. LoRA of rank 8 and scaling 1 adapts its pointwise convolutions; the last layer is fitted "
        "first, and batch normalisation stays in evaluation mode. Constants are tuned on grids of one size."
    ),
    runs=runs,
    claims=decide,
    drawings=draw,
    protocols={
        "": (
            "EfficientNet-Lite0 with ImageNet weights and batch normalisation off (evaluation mode), as the paper "
            "has it for its network; 1,600 solar cells of 64 × 64 pixels in four classes instead of CIFAR-10, "
            "pointwise convolutions only; 240 steps of 16, three starts, seven constants "
            "each, instead of whole epochs. A run that ends above the held-out loss it began with counts as diverged. "
            + CHOSEN
        ),
    },
)
