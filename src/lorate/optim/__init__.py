"""Torch optimizers that take their step sizes from a rule."""

from lorate.optim.auto import LoraAuto, Replay
from lorate.optim.backtracking import LoraBacktracking
from lorate.optim.factory import create_optimizer
from lorate.optim.gradient_descent import LoraGradientDescent
from lorate.optim.majorizer import LoraMajorizer
from lorate.optim.step import Step

__all__ = ["LoraAuto", "LoraBacktracking", "LoraGradientDescent", "LoraMajorizer", "Replay", "Step", "create_optimizer"]
