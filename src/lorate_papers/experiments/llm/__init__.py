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
        "rule's constant is tuned for each start with equally many tries, and the winners are repeated with other "
        "seeds. The same constants then run for a few steps on a real model, SmolLM2-135M with adapters where PEFT "
        "puts them. The quick form leaves this out unless --model names a model."
    ),
    takes=("data", "model"),
    runs=runs,
    claims=decide,
    drawings=draw,
    protocols={
        "auto": "Not in the paper: auto is made here.",
        "SmolLM2": (
            "SmolLM2-135M on HumanEval instead of TinyLlama; 20 steps, one seed, constants carried over from the "
            "small model instead of tuned."
        ),
        "": (
            "Byte-level Llama of 0.7 M parameters on HumanEval instead of TinyLlama; starts of A as in the paper "
            "(1e-3 and 1/r); constants tuned for each start on one seed."
        ),
    },
)
