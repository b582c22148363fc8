"""The symmetric case: descent on f(VVᵀ) for a generic smooth f, with the step sizes that are proved for it."""

from lorate_papers.experiments.burer_monteiro.claims import decide
from lorate_papers.experiments.burer_monteiro.figures import draw
from lorate_papers.experiments.burer_monteiro.plan import runs
from lorate_papers.experiments.experiment import Experiment

EXPERIMENT = Experiment(
    title="The symmetric case: f(VVᵀ)",
    summary=(
        "The paper's proof treats LoRA as min f(VVᵀ), Burer and Monteiro's factorisation. Here f is a loss of its own: "
        "sensing of a matrix of rank 2 from random linear measurements, whose minimum is known, and a smooth form of "
        "the max-cut relaxation. The data is synthetic by nature. V follows lorate_papers.symmetric.minimise_symmetric "
        "with the paper's step size, the sharp one and the majorizer's."
    ),
    runs=runs,
    claims=decide,
    drawings=draw,
    protocols={
        "sharp step needs fewer": "Not in the paper: sharp step and majorizer are proved here.",
        "every rule finds": "Not in the paper: a check on a problem of ours whose solution is known.",
        "More columns": "Not in the paper: our question, on a problem of ours.",
        "√(2n)": "Not in the paper: known for the max-cut relaxation; its smooth form is ours.",
        "": "The paper says that its proof covers f(VVᵀ); both problems are ours.",
    },
)
