"""The norm of the frozen weights' gradient ``G = dLoss/dW``, which LoRA itself never forms."""

from lorate.gradient_norm.capture import GradientCapture
from lorate.gradient_norm.exact import gram_is_cheaper
from lorate.gradient_norm.sketch import rademacher
from lorate.gradient_norm.tap import Method

__all__ = ["GradientCapture", "Method", "gram_is_cheaper", "rademacher"]
