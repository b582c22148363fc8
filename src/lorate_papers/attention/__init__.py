"""The solvable attention model: pre-training of an attention map and rank-one fine-tuning, exact in high dimension.

>>> from lorate_papers.attention import predict
>>> prediction = predict(alpha=0.1, lam=0.01, tokens=3, kappa0=1, kappa=1, noise=0.5)
>>> print(f"Q={prediction.pretraining.Q:.4f} test error {prediction.error:.4f}")
Q=2.2230 test error 0.4964
"""

from lorate_papers.attention.bayes import BayesBound, bayes_bound, bayes_error, bayes_overlap
from lorate_papers.attention.best_decay import BestDecay, optimal_decay, optimal_finetuning_decay
from lorate_papers.attention.convergence import NotConverged
from lorate_papers.attention.effective_noise import active_sequences, fresh_sequences, optimal_beta, reused_sequences
from lorate_papers.attention.finetuning import Finetuning, solve_finetuning
from lorate_papers.attention.prediction import Prediction, ReplicaInstabilityWarning, linear_error, predict
from lorate_papers.attention.pretraining import Pretraining, PretrainingOrder, solve_pretraining
from lorate_papers.attention.softmax_finetuning import finetuned_error, solve_softmax_finetuning
from lorate_papers.attention.softmax_pretraining import SoftmaxPretrainingOrder, solve_softmax_pretraining
from lorate_papers.attention.state_evolution import FinetuningOrder
from lorate_papers.attention.sweep import sweep
from lorate_papers.attention.thresholds import collapse_decay

__all__ = [
    "BayesBound",
    "BestDecay",
    "Finetuning",
    "FinetuningOrder",
    "NotConverged",
    "Prediction",
    "Pretraining",
    "PretrainingOrder",
    "ReplicaInstabilityWarning",
    "SoftmaxPretrainingOrder",
    "active_sequences",
    "bayes_bound",
    "bayes_error",
    "bayes_overlap",
    "collapse_decay",
    "finetuned_error",
    "fresh_sequences",
    "linear_error",
    "optimal_beta",
    "optimal_decay",
    "optimal_finetuning_decay",
    "predict",
    "reused_sequences",
    "solve_finetuning",
    "solve_pretraining",
    "solve_softmax_finetuning",
    "solve_softmax_pretraining",
    "sweep",
]
