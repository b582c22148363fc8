"""The norm of the frozen weights' gradient ``G = dLoss/dW``, which LoRA itself never forms."""

from lorate.gradient_norm.bounds import first_step_squared_norm, lower_bound, upper_bound
from lorate.gradient_norm.capture import GradientCapture
from lorate.gradient_norm.exact import direct_norm, exact_norm, gram_is_cheaper, gram_norm, spectral_norm
from lorate.gradient_norm.sketch import rademacher, sketch, sketch_norm
from lorate.gradient_norm.tap import Method

__all__ = [
    "GradientCapture",
    "Method",
    "direct_norm",
    "exact_norm",
    "first_step_squared_norm",
    "gram_is_cheaper",
    "gram_norm",
    "lower_bound",
    "rademacher",
    "sketch",
    "sketch_norm",
    "spectral_norm",
    "upper_bound",
]
