"""Language models: the paper's rules against a constant rate, AdamW and ``auto``, from two starts of A."""

from lorate_papers.experiments.experiment import Experiment
from lorate_papers.experiments.llm.claims import decide
from lorate_papers.experiments.llm.figures import draw
from lorate_papers.experiments.llm.plan import runs

EXPERIMENT = Experiment(
    title="Language models from a small and a large start",
    summary=(
        "LoRA of rank 8 and scaling 1 on all linear layers of a byte-level Llama that has read chat and is to learn "
        "Python code (HumanEval), in mini-batches. A starts with standard deviation 1e-3 or 1/r, B with 0. Each "
        "rule's constant is tuned for each start with equally many tries on one seed; the two best ones run with all "
        "seeds, and the lower mean wins. A real model has a page of its own, smollm2."
    ),
    takes=("data",),
    runs=runs,
    claims=decide,
    drawings=draw,
    protocols={
        "auto": "Not in the paper: auto is made here.",
        "": (
            "Byte-level Llama of 0.7 M parameters on HumanEval instead of TinyLlama; 150 steps of 8 sequences, five "
            "seeds; starts of A as in the paper (1e-3 and 1/r); constants tuned for each start, five tries on one seed "
            "and the better one of the two best in the mean of all seeds. Grids and choice were changed once, after a "
            "run in which one seed of a constant rate was lost and two rules stood at the edge of their grids."
        ),
    },
)
