"""Optimizers that are not lorate's, as the monitor sees them."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lorate import ranks
from lorate.adapters import find_pairs, rest_parameters
from lorate.hooks import attach
from lorate.measurement import Measurement
from lorate.optim import Step
from lorate.optim.layout import layers_of, param_groups, slots
from lorate.optim.measure import measure


class OtherOptimizer:
    """Any torch optimizer on a LoRA model: measures when a step begins, and tells of it like lorate's own.

    Args:
        optimizer: for instance ``torch.optim.AdamW``, before its first step.
        model: what it trains.

    Attributes:
        layers: description of each LoRA layer.
        param_groups: the trained parameters with their roles.
        last: the last step; None before the first.

    Raises:
        LorateError: the model has no LoRA layers.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
        pairs = find_pairs(model)
        self.layers = layers_of(pairs)
        self.param_groups = param_groups(pairs, rest_parameters(model, pairs).values())
        self.last: Step | None = None
        self._optimizer = optimizer
        self._measurement: Measurement | None = None
        self._handle = attach(optimizer.register_step_pre_hook, self._look)

    @torch.no_grad()
    def _look(self, *_: Any) -> None:
        reading = measure(slots(self.param_groups), self.layers, None)
        self._measurement = reading.measurement

    def note(self, loss: Tensor | float | None) -> None:
        """Take in the step that was just taken, with its loss; nothing if there was none."""
        if self._measurement is None:
            return
        before = self.last
        rate = float(self._optimizer.param_groups[0]["lr"])
        m = replace(self._measurement, loss=None if loss is None else float(ranks.mean(torch.as_tensor(loss))))
        self.last = Step(
            number=1 if before is None else before.number + 1,
            measurement=m,
            eta=rate,
            lr=rate,
            sum_eta=rate + (0.0 if before is None else before.sum_eta),
        )

    def remove(self) -> None:
        """Take the hook off the optimizer."""
        self._handle.remove()
