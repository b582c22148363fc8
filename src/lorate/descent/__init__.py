"""Descent inequalities, step sizes and rates of LoRA gradient descent, as pure functions of numbers.

Arguments are floats or float64 arrays with one entry per layer; results are float64 arrays. Proofs: docs/mathematics.
"""

from lorate.descent.majorizer import (
    length_from_above,
    majorizer_change,
    majorizer_coefficients,
    majorizer_step_size,
    required_smoothness,
)
from lorate.descent.minibatch import (
    adagrad_bound,
    best_fraction,
    growing_noise_bound,
    mean_square_bound,
    raw_gradient_bound,
    relative_smoothness,
    relative_step_size,
)
from lorate.descent.one_factor import factor_load, one_factor_step_size
from lorate.descent.paper import (
    LITERAL_THRESHOLD,
    THEORY_FRACTION,
    paper_descent_bound,
    theory_step_size,
    tight_descent_bound,
)
from lorate.descent.quartic import evaluate_quartic, minimise_quartic
from lorate.descent.rate_bounds import (
    StepGuarantee,
    bounded_rate_bound,
    gradient_bound,
    paper_log_bound,
    rate_bound,
    sharp_guarantee,
    stacked_norm_bound,
    sum_eta_bound,
    theory_guarantee,
)
from lorate.descent.sharp import SHARP_FRACTION, guaranteed_decrease, layer_curvature, sharp_step_size

__all__ = [
    "LITERAL_THRESHOLD",
    "SHARP_FRACTION",
    "THEORY_FRACTION",
    "StepGuarantee",
    "adagrad_bound",
    "best_fraction",
    "bounded_rate_bound",
    "evaluate_quartic",
    "factor_load",
    "gradient_bound",
    "growing_noise_bound",
    "guaranteed_decrease",
    "layer_curvature",
    "length_from_above",
    "majorizer_change",
    "majorizer_coefficients",
    "majorizer_step_size",
    "mean_square_bound",
    "minimise_quartic",
    "one_factor_step_size",
    "paper_descent_bound",
    "paper_log_bound",
    "rate_bound",
    "raw_gradient_bound",
    "relative_smoothness",
    "relative_step_size",
    "required_smoothness",
    "sharp_guarantee",
    "sharp_step_size",
    "stacked_norm_bound",
    "sum_eta_bound",
    "theory_guarantee",
    "theory_step_size",
    "tight_descent_bound",
]
