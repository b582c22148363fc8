"""An optimizer as the monitor sees it: lorate's own or any other, with what its run shows of the assumptions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lorate.errors import LorateError
from lorate.monitor.noise import RandomNumbers
from lorate.monitor.other import OtherOptimizer
from lorate.monitor.setting import Setting
from lorate.monitor.slopes import EndSlopes
from lorate.monitor.unchanged import Unchanged, data_digest
from lorate.optim import LoraOptimizer, Step

Again = Callable[[], Tensor | float]


class Observed:
    """Looks at an optimizer before and after each step.

    Of a full-batch run it notes whether the function stayed the same; of a mini-batch run the slopes that tell how
    the true loss changes.

    Args:
        optimizer: lorate's, or any other torch optimizer before its first step.
        model: what it trains; lorate's optimizers know.
        full_batch: which kind of run it is.
        again: evaluates the loss of a full-batch run at the weights as they are; None leaves that out.

    Attributes:
        optimizer: as given.
        source: tells of its steps and layers.

    Raises:
        LorateError: the optimizer is not lorate's and ``model`` was not given.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, model: nn.Module | None, *, full_batch: bool, again: Again | None
    ) -> None:
        self.optimizer, self._again, self._full_batch = optimizer, again, full_batch
        self._model = model
        if isinstance(optimizer, LoraOptimizer):
            self.source: LoraOptimizer | OtherOptimizer = optimizer
        elif model is None:
            raise LorateError(
                f"{type(optimizer).__name__} is not lorate's, so the monitor has to see it before its first step: "
                "Monitor(..., optimizer=optimizer, model=model)"
            )
        else:
            self.source = OtherOptimizer(optimizer, model)
        self._slopes = None if full_batch else EndSlopes(optimizer)
        self._unchanged = Unchanged(optimizer) if full_batch else None
        self._numbers = RandomNumbers(self.device) if full_batch else None

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        found: torch.device = self.optimizer.param_groups[0]["params"][0].device
        return found

    def step(self, loss: Tensor | float | None) -> Step:
        """The step that was just taken.

        Raises:
            LorateError: none was.
        """
        if isinstance(self.source, OtherOptimizer):
            self.source.note(loss)
        if self.source.last is None:
            raise LorateError("monitor.update(optimizer) comes after optimizer.step(): no step was taken yet")
        return self.source.last

    def evidence(self, data: Any = None) -> dict[str, Any]:
        """What belongs into the record of the step.

        Of a mini-batch run ``slope`` and ``moved_sq`` (see `lorate.monitor.slopes.EndSlope`) of the move before this
        step. Of a full-batch run ``edited`` (whether the parameters had changed since the step before), ``random``
        (whether random numbers were drawn since the last record), ``data`` (a hash of the batch) and ``again`` (the
        loss evaluated again after the step). None where something was not seen.
        """
        if self._slopes is not None:
            last = self._slopes.last
            return {"slope": None if last is None else last.slope, "moved_sq": None if last is None else last.moved_sq}
        assert self._unchanged is not None and self._numbers is not None
        found: dict[str, Any] = {
            "edited": self._unchanged.after_step(self.optimizer),
            "random": self._numbers.were_drawn(),
            "data": None if data is None else data_digest(data),
            "again": None,
        }
        if self._again is not None:
            with torch.no_grad():
                found["again"] = float(self._again())
            self._numbers.were_drawn()  # not in training
        return found

    def setting(self, lower_bound: float) -> Setting:
        """The facts about the run, as they are now."""
        forward = getattr(self.optimizer, "forward", None)
        model = self._model if self._model is not None else getattr(forward, "model", None)
        return Setting.of(
            self.optimizer, self.source.param_groups, model, full_batch=self._full_batch, lower_bound=lower_bound
        )

    def remove(self) -> None:
        """Take the hooks off the optimizer."""
        for part in (self._slopes, self._unchanged, self.source if isinstance(self.source, OtherOptimizer) else None):
            if part is not None:
                part.remove()
