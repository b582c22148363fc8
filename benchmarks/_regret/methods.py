"""How each method is set up: with a learning rate from the grid, or as its authors advise to do without one."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import dadaptation
import dog
import prodigyopt
import schedulefree
import torch
from prodigyplus.prodigy_plus_schedulefree import ProdigyPlusScheduleFree
from torch import nn

import lorate
from lorate_papers.training.recipe import Recipe
from lorate_papers.training.steppers import scheduled

WARMUP = 0.05
"""Part of the steps over which a learning rate rises, where one does."""
HABIT = 2e-4
"""The learning rate for LoRA that most examples of PEFT's users have."""


@dataclass
class Prepared:
    """An optimizer at its start.

    Attributes:
        optimizer: steps when it is given a closure.
        multiplier: of its learning rate at a step, counted from 0; None: the optimizer's own business.
        after_step: called after every step.
        result: within it the model holds the weights that the method hands over at the end.
    """

    optimizer: Any
    multiplier: Callable[[int], float] | None = None
    after_step: Callable[[], None] = field(default=lambda: None)
    result: Callable[[], AbstractContextManager[Any]] = nullcontext


def adamw(model: nn.Module, lr: float, steps: int) -> Prepared:
    return Prepared(torch.optim.AdamW(trainable(model), lr=lr, weight_decay=0.0))


def adamw_cosine(model: nn.Module, lr: float, steps: int) -> Prepared:
    return Prepared(torch.optim.AdamW(trainable(model), lr=lr, weight_decay=0.0), cosine(steps, warmup=WARMUP))


def schedule_free(model: nn.Module, lr: float, steps: int) -> Prepared:
    """With warm-up, and evaluated at the average."""
    warmup = round(WARMUP * steps)
    return schedule_freed(schedulefree.AdamWScheduleFree(trainable(model), lr=lr, warmup_steps=warmup))


def prodigy_plus(model: nn.Module, lr: None, steps: int) -> Prepared:
    """Prodigy with Schedule-Free in one optimizer, as its author leaves it, evaluated at the average."""
    return schedule_freed(ProdigyPlusScheduleFree(trainable(model)))


def adamw_habit(model: nn.Module, lr: None, steps: int) -> Prepared:
    """The rate of most examples, whatever the task."""
    return adamw_cosine(model, HABIT, steps)


def adamw_formula(model: nn.Module, lr: None, steps: int) -> Prepared:
    """The rate of a published formula, see `formula`; its authors give no schedule."""
    return adamw_cosine(model, formula(model.config.hidden_size, model.config.model_type), steps)


def prodigy(model: nn.Module, lr: None, steps: int) -> Prepared:
    return Prepared(prodigyopt.Prodigy(trainable(model)))


def prodigy_cosine(model: nn.Module, lr: None, steps: int) -> Prepared:
    """Cosine annealing to the last step without warm-up, the other schedule that its authors name."""
    return Prepared(prodigyopt.Prodigy(trainable(model)), cosine(steps, warmup=0.0))


def d_adaptation(model: nn.Module, lr: None, steps: int) -> Prepared:
    return Prepared(dadaptation.DAdaptAdam(trainable(model)))


def d_adaptation_cosine(model: nn.Module, lr: None, steps: int) -> Prepared:
    """The schedule that one would use anyway."""
    return Prepared(dadaptation.DAdaptAdam(trainable(model)), cosine(steps, warmup=WARMUP))


def dog_averaged(model: nn.Module, lr: None, steps: int) -> Prepared:
    return averaged(model, dog.DoG(trainable(model), reps_rel=first_distance(model)))


def layerwise_dog_averaged(model: nn.Module, lr: None, steps: int) -> Prepared:
    return averaged(model, dog.LDoG(trainable(model), reps_rel=first_distance(model)))


def auto(model: nn.Module, lr: None, steps: int) -> Prepared:
    optimizer = lorate.create_optimizer(model, rule="auto")
    return Prepared(optimizer, result=optimizer.averaged)


METHODS: Mapping[str, Callable[[nn.Module, Any, int], Prepared]] = {
    "adamw": adamw,
    "adamw-cosine": adamw_cosine,
    "schedule-free": schedule_free,
    "prodigy": prodigy,
    "prodigy-cosine": prodigy_cosine,
    "d-adaptation": d_adaptation,
    "d-adaptation-cosine": d_adaptation_cosine,
    "dog": dog_averaged,
    "layerwise-dog": layerwise_dog_averaged,
    "prodigy-plus": prodigy_plus,
    "adamw-habit": adamw_habit,
    "adamw-formula": adamw_formula,
    "auto": auto,
}
"""Every method; a grid of learning rates is tried with those of `TUNED`."""
TUNED = ("adamw", "adamw-cosine", "schedule-free")
PEERS: Mapping[str, tuple[str, ...]] = {
    "prodigy": ("prodigy", "prodigy-cosine"),
    "d-adaptation": ("d-adaptation", "d-adaptation-cosine"),
    "dog": ("dog", "layerwise-dog"),
    "prodigy-plus": ("prodigy-plus",),
    "adamw-habit": ("adamw-habit",),
    "adamw-formula": ("adamw-formula",),
}
"""What leaves no learning rate to choose: packages, in every form that their authors advise (the better one counts),
and AdamW at a rate that is known beforehand."""


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The adapters."""
    return [p for p in model.parameters() if p.requires_grad]


def cosine(steps: int, *, warmup: float) -> Callable[[int], float]:
    """Half a cosine after a warm-up over this part of the steps."""
    recipe = Recipe("adamw", None, steps, None, 0, schedule="cosine", warmup=round(warmup * steps))
    return lambda step: scheduled(recipe, step)


def formula(width: int, family: str) -> float:
    r"""A published learning rate for LoRA, $5\cdot10^{-4}\,(2000/h)^p$, from https://thinkingmachines.ai/blog/lora/.

    Args:
        width: h, the size of the hidden states.
        family: of the model: p is 0.781 for Llama, 0.0775 for Qwen and their mean for others.

    >>> f"{formula(576, 'llama'):.2g}", f"{formula(2000, 'qwen3'):.2g}"
    ('0.0013', '0.0005')
    """
    powers = {"llama": 0.781, "qwen": 0.0775}
    power = next((p for name, p in powers.items() if family.startswith(name)), sum(powers.values()) / len(powers))
    return 5e-4 * (2000 / width) ** power


def schedule_freed(optimizer: Any) -> Prepared:
    """An optimizer that has a mode for training and one in which the model holds the average."""
    optimizer.train()

    @contextmanager
    def average() -> Iterator[None]:
        optimizer.eval()
        yield
        optimizer.train()

    return Prepared(optimizer, result=average)


def first_distance(model: nn.Module) -> float:
    """DoG's ``reps_rel`` as its authors advise: larger with batch normalisation."""
    return 1e-4 if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()) else 1e-6


def averaged(model: nn.Module, optimizer: torch.optim.Optimizer) -> Prepared:
    """DoG with its own averaging, of the trained weights only: the others stay as they are."""
    weights = nn.ParameterList(trainable(model))
    averager = dog.PolynomialDecayAverager(weights)

    @contextmanager
    def average() -> Iterator[None]:
        last = copy.deepcopy(weights.state_dict())
        weights.load_state_dict(averager.averaged_model.state_dict())
        yield
        weights.load_state_dict(last)

    return Prepared(optimizer, after_step=averager.step, result=average)
