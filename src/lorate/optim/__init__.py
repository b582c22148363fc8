"""Torch optimizers that take their step sizes from a rule."""

from lorate.optim.factory import create_optimizer
from lorate.optim.gradient_descent import LoraGradientDescent, Step

__all__ = ["LoraGradientDescent", "Step", "create_optimizer"]
