"""The scaling factor lora_alpha: its square-root law, and what it does that a learning rate does not."""

from lorate_papers.experiments.alpha.claims import decide
from lorate_papers.experiments.alpha.figures import draw
from lorate_papers.experiments.alpha.plan import runs
from lorate_papers.experiments.experiment import Experiment

EXPERIMENT = Experiment(
    title="lora_alpha and the learning rate",
    summary=(
        "A small language model that has read chat is adapted to Python code, over ranks and alphas. A perceptron of "
        "five layers is adapted to one that differs by a low-rank change, with alpha or the learning rate raised "
        "until it diverges. The change of the weights is split into its linear part, the signal, and the bilinear "
        "rest, the drift."
    ),
    takes=("data",),
    runs=runs,
    claims=decide,
    drawings=draw,
    protocols={
        "rule auto": "Not in the paper: auto is made here.",
        "network of five layers": (
            "The paper's synthetic perceptron of five layers; width, data, change of the weights and starting "
            "rates are ours, three seeds."
        ),
        "under plain SGD": "Not in the paper: it follows from the formulas; the paper is about AdamW only.",
        "Plain SGD": "The paper excludes SGD; what happens there is our question.",
        "belongs to a learning rate": "Our question: the paper fits one c at one small learning rate.",
        "drift ratio (AdamW)": (
            "Our definition of signal and drift, windows of 10 steps; byte-level Llama and perceptron instead "
            "of 1B to 8B Llamas."
        ),
        "learning rate raises it": (
            "Our definition of signal and drift, windows of 10 steps; byte-level Llama and perceptron instead "
            "of 1B to 8B Llamas."
        ),
        "": (
            "0.7 M-parameter byte-level Llama, 100 steps on HumanEval, lr 1e-4 constant, one seed a point, "
            "instead of Llama-3 1B and 8B on Tulu-3 at about 2e-5; judged by held-out loss."
        ),
    },
)
