"""What fine-tuning of the solvable attention model can reach, and what the choice of its sequences adds."""

from lorate_papers.experiments.attention_limits.claims import decide
from lorate_papers.experiments.attention_limits.figures import draw
from lorate_papers.experiments.attention_limits.plan import runs
from lorate_papers.experiments.experiment import Experiment

EXPERIMENT = Experiment(
    title="What fine-tuning can reach",
    summary=(
        "The solvable attention model again. Its rank-one adapter is held against the frozen map alone, and against "
        "the best that any learner could do: the posterior mean, whose overlap theory gives and message passing "
        "reaches. Then sequences for fine-tuning are chosen from a pool of 100 D, the ones on which the frozen map "
        "predicts least, without label noise."
    ),
    runs=runs,
    claims=decide,
    drawings=draw,
    protocols={
        "ctive": (
            "The paper's T = 3, Δ = 0, pool of 100 D and shares .04, .02, .015; pre-training (α = 0.1, λ = 0.3, "
            "κ0 = 1) and λ′ = 0.2 are chosen so that the predicted gain in overlap is about its 0.006; D = 100."
        ),
        "Message passing": "Our check, at D = 200, of the equations for the posterior mean.",
        "": (
            "The paper's quantities, equations derived here (α = 0.1, T = 3, κ0 = κ = 1, Δ = 0.5, best λ); errors on "
            "noise-free labels; the Bayes-optimal learner knows the effective noise, not the map's teacher."
        ),
    },
)
