"""Curvature in the adapters against curvature in the weights they adapt, along training, over rank and alpha."""

from lorate_papers.experiments.experiment import Experiment
from lorate_papers.experiments.spectrum.claims import decide
from lorate_papers.experiments.spectrum.figures import draw
from lorate_papers.experiments.spectrum.plan import runs

EXPERIMENT = Experiment(
    title="Curvature of the adapters",
    summary=(
        "A byte-level language model that has read chat is adapted to Python code by AdamW, over ranks and alphas from "
        "r to 256√r. On the way the largest eigenvalue of the Hessian, in absolute value, is measured twice on the "
        "same batch: in the adapters, and in the weights they adapt. A ratio below 1 means that the low-rank form "
        "suppresses the spectrum."
    ),
    runs=runs,
    claims=decide,
    drawings=draw,
    protocols={
        "sharp lemma": "Not in the paper: the bound follows from our lemma.",
        "makes up for": (
            "The paper sees suppression and proposes this alpha; that the spectra become alike is our reading. "
            "Small model, 120 steps, as in the other rows."
        ),
        "square of alpha": "Not in the paper: a consequence of W = W0 + sBA.",
        "": (
            "Byte-level Llama of two layers on HumanEval, 120 steps, instead of Llama-3 on Tulu-3; learning "
            "rate times scaling held fixed; largest absolute eigenvalue on one batch of 16 sequences."
        ),
    },
)
