"""Training all weights against LoRA at several ranks: loss per step, per second, per operation, and memory."""

from lorate_papers.experiments.experiment import Experiment
from lorate_papers.experiments.full_vs_lora.claims import decide
from lorate_papers.experiments.full_vs_lora.figures import draw
from lorate_papers.experiments.full_vs_lora.plan import runs

EXPERIMENT = Experiment(
    title="All weights or LoRA",
    summary=(
        "A byte-level language model that has read chat learns Python code, and a residual network that knows the "
        "digits 0 to 4 learns 5 to 9. AdamW trains all weights, or LoRA on every linear layer or convolution with "
        "ranks 1, 4 and 16 and scaling 2; learning rates are tuned on grids of one size. Same data, same order, same "
        "steps."
    ),
    runs=runs,
    claims=decide,
    drawings=draw,
    protocols={
        "": "In none of the papers: our comparison, a 0.7 M-parameter byte-level Llama and a half-width ResNet.",
    },
)
