"""Compare the loss that was read at the model with the one that the Trainer logs."""

import math
import warnings
from typing import Any

from lorate.errors import LorateError
from lorate.integrations.loss_reader import LossReader
from lorate.optim.step import Step

TOLERANCE = 0.01
"""Relative; far above the rounding of 16-bit losses, far below what a forgotten term or a wrong formula makes."""


class LossCheck:
    """Whether the training loss really is the linear function of the model's output that `LossReader` takes it for.

    A trainer may add a term of its own, or train on something else. Nobody hands its loss to a callback, but the mean
    over the steps since the last log is logged: so the first step asks for a log, and what was read is compared there.
    """

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._is_open = True

    def add(self, step: Step) -> bool:
        """Note the loss of a step; whether a log is wanted now."""
        loss = step.measurement.loss
        if self._is_open:
            self._losses.append(math.nan if loss is None else loss)
        return self._is_open and loss is not None

    def compare(self, logged: Any, reader: LossReader) -> None:
        """Compare with a logged mean; the first one that can be compared decides.

        Args:
            logged: mean over the steps since the last log.
            reader: stops reading if the two differ.

        Raises:
            LorateError: they differ, and the rule needs the loss.
        """
        read = sum(self._losses) / len(self._losses) if self._losses else math.nan
        self._losses.clear()
        if not (self._is_open and math.isfinite(read) and isinstance(logged, int | float) and math.isfinite(logged)):
            return
        self._is_open = False
        if abs(read - logged) <= TOLERANCE * max(abs(read), abs(logged)) + 1e-6:
            return
        text = (
            f"the loss read at the model is {read:.4g}, the Trainer trains on {logged:.4g}: it computes more than the "
            "model returns"
        )
        rule = reader.optimizer.rule
        if "loss" in rule.needs:
            raise LorateError(f"{text}, and rule {rule.name!r} needs that loss; use rule 'normalized'")
        reader.is_linear = False
        warnings.warn(f"{text}; lorate records no loss from here on", stacklevel=2)
