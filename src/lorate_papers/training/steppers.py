"""One step of training, under a rule of lorate or by a torch optimizer as baseline, seen in the same way."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lorate.adapters import find_pairs
from lorate.errors import LorateError
from lorate.geometry import squared_norms
from lorate.optim import create_optimizer
from lorate.rules import RULES
from lorate_papers.training.recipe import Recipe
from lorate_papers.training.trace import Step
from lorate_papers.workloads import Batch, Workload

BASELINES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": partial(torch.optim.AdamW, weight_decay=0.0),
    "sgd": torch.optim.SGD,
}
"""Torch's optimizers with their own defaults, but without weight decay; ``sgd`` without momentum."""


class Stepper(ABC):
    """Takes one step at a time; a schedule multiplies the learning rates that the optimizer starts with.

    Attributes:
        optimizer: takes the steps.
    """

    def __init__(self, task: Workload, model: nn.Module, recipe: Recipe, optimizer: torch.optim.Optimizer) -> None:
        self._task, self._model, self._recipe = task, model, recipe
        self.optimizer = optimizer
        self._groups: list[dict[str, Any]] = optimizer.param_groups
        self._highest = [float(group["lr"]) for group in self._groups]
        self._steps = 0

    def step(self, batch: Batch) -> Step:
        """Evaluate loss and gradients on a batch, take the step, and tell what was seen."""
        multiplier = scheduled(self._recipe, self._steps)
        for group, lr in zip(self._groups, self._highest, strict=True):
            group["lr"] = lr * multiplier
        self._steps += 1
        return self._step(batch)

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the model holds what the training would give if it ended now."""
        return nullcontext()

    @abstractmethod
    def _step(self, batch: Batch) -> Step: ...

    def _evaluate(self, batch: Batch) -> Tensor:
        self.optimizer.zero_grad()
        loss = self._task.loss(self._model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()


def make_stepper(task: Workload, model: nn.Module, recipe: Recipe) -> Stepper:
    """The stepper of a recipe.

    Raises:
        LorateError: an unknown rule, a baseline without learning rate, or what `lorate.create_optimizer` refuses.
    """
    if recipe.rule in BASELINES:
        return _BaselineStepper(task, model, recipe)
    return _RuleStepper(task, model, recipe)


def scheduled(recipe: Recipe, step: int) -> float:
    """What multiplies the learning rate at a step, counted from 0.

    Warm-up in a straight line; then nothing, or half a cosine that would reach 0 one step after the last.
    """
    if step < recipe.warmup:
        return (step + 1) / (recipe.warmup + 1)
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)))


class _RuleStepper(Stepper):
    def __init__(self, task: Workload, model: nn.Module, recipe: Recipe) -> None:
        smoothness = None
        if recipe.rule in RULES and "smoothness" in RULES[recipe.rule].needs:
            known = getattr(task, "smoothness", None)
            smoothness = known if recipe.smoothness is None else recipe.smoothness
        self._rule = create_optimizer(model, recipe.rule, lr=recipe.lr, smoothness=smoothness)
        super().__init__(task, model, recipe, self._rule)
        self._batch: Batch | None = None
        self._closure: Callable[[], Tensor] = lambda: torch.zeros(())

    def _step(self, batch: Batch) -> Step:
        if "closure" in self._rule.rule.needs:
            if batch is not self._batch:  # the same closure tells the rule that the function is the same
                self._batch, self._closure = batch, partial(self._evaluate, batch)
            loss = self._rule.step(self._closure)
        else:
            loss = self._evaluate(batch)
            self._rule.replay = partial(self._task.loss, self._model, batch)
            try:
                self._rule.step(loss=loss)
            except LorateError:
                if self._in_range():
                    raise
                return Step(float(loss), math.inf, math.inf, 0.0, "the adapters left the range of their numbers")
        last = self._rule.last
        assert loss is not None and last is not None
        m = last.measurement
        return Step(float(loss), m.gradient_norm**2, m.stacked_norm**2, last.eta, last.skipped)

    def averaged(self) -> AbstractContextManager[None]:
        """The average that rule ``auto`` keeps is its result."""
        return self._rule.averaged()

    def _in_range(self) -> bool:
        factors = [p.detach() for group in self._groups for p in group["params"]]
        return bool(squared_norms(factors).isfinite().all())


class _BaselineStepper(Stepper):
    def __init__(self, task: Workload, model: nn.Module, recipe: Recipe) -> None:
        if recipe.lr is None:
            raise LorateError(f"The baseline {recipe.rule!r} needs a learning rate: give lr.")
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        super().__init__(task, model, recipe, BASELINES[recipe.rule](self._parameters, lr=recipe.lr))
        adapted = any(hasattr(module, "lora_A") for module in model.modules())
        self._factors = [factor for pair in find_pairs(model) for factor in (pair.A, pair.B)] if adapted else None

    def _step(self, batch: Batch) -> Step:
        loss = float(self._evaluate(batch))
        began = time.process_time()
        grad_sq = float(squared_norms([p.grad for p in self._parameters if p.grad is not None]).sum())
        stacked_sq = None if self._factors is None else float(squared_norms([f.detach() for f in self._factors]).sum())
        aside = time.process_time() - began  # the optimizer does without these
        if not (math.isfinite(loss) and math.isfinite(grad_sq)):
            return Step(loss, grad_sq, stacked_sq, 0.0, "the loss or its gradient is not finite", aside)
        self.optimizer.step()
        return Step(loss, grad_sq, stacked_sq, float(self._groups[0]["lr"]), None, aside)
