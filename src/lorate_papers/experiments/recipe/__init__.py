"""The recipe of LoRA-α, a very large alpha with the learning rate of full fine-tuning, against its rivals."""

from lorate_papers.experiments.experiment import Experiment
from lorate_papers.experiments.recipe.claims import decide
from lorate_papers.experiments.recipe.figures import draw
from lorate_papers.experiments.recipe.plan import runs

EXPERIMENT = Experiment(
    title="A large alpha with the rate of full fine-tuning",
    summary=(
        "LoRA-α sets alpha = 256√r and keeps the learning rate of full fine-tuning. Here it runs against LoRA (alpha = "
        "2r), rsLoRA, LoRA+ (ratio 16), PiSSA and full fine-tuning, on a byte-level language model that has read chat "
        "and learns Python code: rank 8, AdamW, the same seven learning rates for all. Then the adapters are merged, "
        "and rule auto trains at each alpha."
    ),
    runs=runs,
    claims=decide,
    drawings=draw,
    protocols={
        "auto": "Not in the paper: auto is made here. Byte-level Llama of two layers, 120 steps.",
        "Merging": "The paper leaves merging at large alpha open. Byte-level Llama of two layers, float32 training.",
        "": (
            "Byte-level Llama of two layers on HumanEval, 120 steps at a constant rate, held-out loss, three seeds, "
            "instead of Llama-3 1B and 8B on Tulu-3 at about 2e-5; our settings of the rivals."
        ),
    },
)
