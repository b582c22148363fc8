"""The torch optimizer that takes its step sizes from a rule."""

from lorate.optim.factory import create_optimizer
from lorate.optim.optimizer import LoraOptimizer
from lorate.optim.step import Step

__all__ = ["LoraOptimizer", "Step", "create_optimizer"]
