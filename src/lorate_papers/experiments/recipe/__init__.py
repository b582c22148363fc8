"""The recipe of LoRA-α, a very large alpha with the learning rate of full fine-tuning, against its rivals.

One experiment for each model that it is tried on.
"""

from collections.abc import Callable

from lorate_papers.experiments.experiment import Experiment, Options
from lorate_papers.experiments.recipe.claims import decide
from lorate_papers.experiments.recipe.figures import draw
from lorate_papers.experiments.recipe.plan import Study, minilm, runs, small_lm, smollm2

PAPER = "instead of Llama-3 1B and 8B on Tulu-3 at about 2e-5; our settings of the rivals."


def _experiment(study: Callable[[Options], Study], title: str, summary: str, protocol: str) -> Experiment:
    model = protocol.partition(",")[0]
    return Experiment(
        title=title,
        summary=summary,
        runs=lambda options: runs(study(options)),
        claims=lambda results, options: decide(results, study(options)),
        drawings=lambda results, options: draw(results, study(options)),
        protocols={
            "auto": f"Not in the paper: auto is made here. {model}.",
            "Merging": f"The paper leaves merging at large alpha open. {model}, float32 training.",
            "": f"{protocol}, {PAPER}",
        },
    )


EXPERIMENT = _experiment(
    small_lm,
    "A large alpha with the rate of full fine-tuning",
    "LoRA-α sets alpha = 256√r and keeps the learning rate of full fine-tuning. Here it runs against LoRA (alpha = "
    "2r), rsLoRA, LoRA+ (ratio 16), PiSSA and full fine-tuning, on a byte-level language model that has read chat "
    "and learns Python code: rank 8, AdamW, the same thirteen learning rates for all. Then the adapters are merged, "
    "and rule auto trains at each alpha.",
    "Byte-level Llama of two layers on HumanEval, 120 steps at a constant rate, held-out loss, three seeds",
)
MINILM = _experiment(
    minilm,
    "A large alpha on a classifier of chats",
    "The same methods on MiniLM, a BERT of 22 million weights, which learns which of 34 questions a chat began with: "
    "rank 8 on query and value, batches of 8, AdamW, the same seven learning rates for all. The last layer is fitted "
    "to frozen features first. The quick form is that of the experiment recipe.",
    "MiniLM on chats, a classifier with an accuracy, 100 steps at a constant rate, three seeds",
)
SMOLLM2 = _experiment(
    smollm2,
    "A large alpha on SmolLM2",
    "The same methods on SmolLM2-135M, which learns Python code: rank 8, one sequence of 128 tokens a step, AdamW, the "
    "same six learning rates for all. The quick form is that of the experiment recipe.",
    "SmolLM2-135M on HumanEval, 40 steps at a constant rate, held-out loss, two seeds",
)
