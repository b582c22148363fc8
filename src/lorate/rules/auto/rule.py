"""Rule ``auto``: no learning rate to choose."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lorate.measurement import Measurement
from lorate.rules.auto.control import Control
from lorate.rules.line import LastLine, Line
from lorate.rules.rule import Rule
from lorate.rules.step_sizes import StepSizes


@dataclass
class Auto(Rule):
    r"""The step size at which the averaged adapters stop gaining from longer steps, on batches not seen before.

    $$ \log\eta \leftarrow \log\eta - \kappa_t\,\mathrm{clip}(c/R - r_t^*, -1, 1), \qquad
       c = \Big\langle g_{t+1}, \frac{\partial x}{\partial\log\eta}\Big\rangle, $$

    with the root mean square R of the slopes c over the last ten steps or so. Steps move z, the run ends with its
    average x, and gradients are taken half-way between them. D is the gradient whitened on the rank side of each
    factor, without momentum, or what another torch optimizer would add; its own ``lr`` is not used. Nothing is
    evaluated twice.

    Attributes:
        control: what the feedback remembers; None before the first gradient that is not zero.
        suspect: whether the step after the last displacement was not finite, and it could not be found out why.

    Source: docs/auto.md.
    """

    control: Control | None = field(default=None, init=False)
    suspect: bool = field(default=False, init=False)

    name = "auto"
    formula = "log η −= κ·clip(⟨g, ∂x/∂log η⟩ / R − r*, ±1)"
    guarantee = "none; in balance longer steps would not improve the averaged adapters on unseen batches"
    use_when = "mini-batch training without a learning rate to choose"
    needs = frozenset({"last-line"})
    average_exponent = 2.0
    gradient_share = 0.5
    direction = "whitened"
    direction_lr = 1.0
    allows_direction = True

    def step_sizes(self, measurement: Measurement, line: Line | None = None) -> StepSizes:
        """One step size for all, after a look back at the last one."""
        assert line is not None
        self.suspect = False
        if self.control is not None and line.last is not None:
            self.control = self.control.followed(line.last.average_slope, line.last.end_slope, line.last.multiplier)
        if self.control is None:
            length = line.direction_rms()
            self.control = Control.first(length) if length > 0 else None
        eta = 0.0 if self.control is None else self.control.eta
        return StepSizes(eta, np.full(len(measurement.scaling), eta), eta)

    def on_fault(self, fault: str, measurement: Measurement, line: Line) -> str:
        """Take the last step back if it is to blame."""
        last = line.last
        if last is None or self.control is None or not self._is_to_blame(measurement, last):
            return fault
        last.take_back()
        self.control, self.suspect = self.control.taken_back(), False
        return f"{fault}; the step before it was taken back, and the step size quartered"

    @property
    def wants_replay(self) -> bool:
        """Only to find out who is to blame, for which any random state will do."""
        return False

    def notes(self) -> dict[str, float | None]:
        """The slope r."""
        return {} if self.control is None else {"average_slope": self.control.slope}

    def state_dict(self) -> dict[str, Any]:
        """What the feedback remembers."""
        return {"control": None if self.control is None else asdict(self.control), "suspect": self.suspect}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from it."""
        self.control = None if state["control"] is None else Control(**state["control"])
        self.suspect = state["suspect"]

    def _is_to_blame(self, m: Measurement, last: LastLine) -> bool:
        """Whether the loss is finite again without the last displacement; else the batch itself is bad.

        Where that cannot be looked at, two batches in a row decide: without a way to evaluate the batch again, or where
        only the gradient overflows.
        """
        if m.loss is not None and not math.isfinite(m.loss) and last.is_repeatable:
            return math.isfinite(last.loss_before())
        before, self.suspect = self.suspect, True
        return before
