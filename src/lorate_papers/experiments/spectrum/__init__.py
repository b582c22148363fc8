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
)
