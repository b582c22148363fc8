"""SmolLM2 under the paper's rules, from two starts of A, long enough and often enough for errors."""

from lorate_papers.experiments.experiment import Experiment
from lorate_papers.experiments.smollm2.claims import decide
from lorate_papers.experiments.smollm2.figures import draw
from lorate_papers.experiments.smollm2.plan import runs

EXPERIMENT = Experiment(
    title="SmolLM2 from a small and a large start",
    summary=(
        "SmolLM2-135M learns Python code (HumanEval; in the quick form a byte-level model does, unless --model names "
        "one; TinyLlama, the paper's, is --model TinyLlama/TinyLlama-1.1B-Chat-v1.0) with LoRA of rank 8 "
        "and scaling 1, one sequence of 128 tokens a step. A starts with standard deviation 1e-3 or 1/r, B with 0. "
        "Each rule's constant is the best of three on the first of three seeds, from that start. Every rule and start "
        "is a run of its own, so the experiment can be done in pieces."
    ),
    takes=("data", "model"),
    runs=runs,
    claims=decide,
    drawings=draw,
    protocols={
        "": (
            "SmolLM2-135M on HumanEval instead of TinyLlama; 200 steps of one sequence; starts of A as in the paper "
            "(1e-3 and 1/r); constants tuned for each start on one seed, among those with "
            "which no seed diverges; grids were moved once, after a first run whose best constants lay at their edges."
        ),
    },
)
