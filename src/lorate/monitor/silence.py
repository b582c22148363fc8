"""Layers that the loss does not depend on: their gradient is exactly zero at every step."""

from collections.abc import Sequence

from lorate.monitor.alarm import Alarm
from lorate.monitor.record import layer_record
from lorate.optim import Step

ENOUGH = 20
"""Steps before the alarm is raised."""


class Silence:
    """The layers whose adapters had a gradient of exactly zero at every step so far."""

    def __init__(self) -> None:
        self._silent: set[int] = set()
        self._steps = 0

    def after(self, step: Step, names: Sequence[str]) -> Alarm | None:
        """The alarm after a step, if there are such layers after enough steps.

        Once every layer had a gradient, nothing is looked at any more; a step that was not taken says nothing.

        Args:
            step: the last one.
            names: of all layers.
        """
        if step.skipped is None and names:
            if self._steps == 0 or self._silent:
                silent = {place for place, norm in enumerate(layer_record(step)["grad_norm"]) if norm == 0}
                self._silent = self._silent & silent if self._steps else silent
            self._steps += 1
        if not self._silent or self._steps < ENOUGH:
            return None
        places = sorted(self._silent)
        some = ", ".join(names[place] for place in places[:3]) + (", ..." if len(places) > 3 else "")
        return Alarm(
            "no-gradient",
            f"The adapters of {len(places)} of {len(names)} layers had no gradient in {self._steps} steps: {some}.",
            "They are not part of the loss: leave them out of the targets; with gradient checkpointing take "
            "use_reentrant=False, or model.enable_input_require_grads().",
        )
