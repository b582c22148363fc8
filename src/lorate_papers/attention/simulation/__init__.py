"""Simulation of the solvable attention model at finite dimension, on the CPU or a GPU, many seeds at once.

>>> from lorate_papers.attention.simulation import simulate
>>> run = simulate(0.3, 0.1, dimension=20, seeds=(0, 1))
>>> 1.2 < run.mean("Q") < 2.2  # 1.777 as D grows
True
"""

from lorate_papers.attention.simulation.bayes import posterior_adapter
from lorate_papers.attention.simulation.data import Instance, draw_instance
from lorate_papers.attention.simulation.experiment import Comparison, Simulation, compare, simulate
from lorate_papers.attention.simulation.finetune import (
    Finetuned,
    clean_error,
    finetune_adapter,
    finetuning_data,
    gaussian_data,
)
from lorate_papers.attention.simulation.pretrain import Pretrained, pretrain_map, train_loss

__all__ = [
    "Comparison",
    "Finetuned",
    "Instance",
    "Pretrained",
    "Simulation",
    "clean_error",
    "compare",
    "draw_instance",
    "finetune_adapter",
    "finetuning_data",
    "gaussian_data",
    "posterior_adapter",
    "pretrain_map",
    "simulate",
    "train_loss",
]
