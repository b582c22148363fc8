"""Rule ``auto``: no learning rate to choose."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lorate.errors import LorateError
from lorate.measurement import Measurement
from lorate.rules.auto.control import Control
from lorate.rules.auto.probe import ENOUGH, agree, by_slopes, by_values
from lorate.rules.line import LastLine, Line
from lorate.rules.rule import Rule
from lorate.rules.step_sizes import StepSizes


@dataclass
class Auto(Rule):
    r"""The step at which the loss stops falling along D on batches that D has not seen.

    $$ \log\eta \leftarrow \log\eta - \kappa_t\,\mathrm{clip}\left(\frac{q}{\max(L\|\Delta W\|^2, R)}, -1, 1\right) $$

    with the last displacement $\Delta W$ of the weights, the slope q at its end on the next batch, its root mean square
    R over the last ten steps or so, and L from probes: the loss of a batch with the last displacement taken back. D is
    what AdamW without weight decay would add, or another torch optimizer; its own ``lr`` is not used. The result is an
    average of the adapters over the run.

    The probes evaluate the whole batch of the step again, so pass a closure, which is called without gradients for
    them, or set ``optimizer.replay = lambda: model(**batch).loss`` before ``optimizer.step(loss=loss)``.

    Attributes:
        control: what the feedback remembers; None before the first step.
        probe: L as a probe saw it in the last step; None if there was none, or it did not count.
        suspect: whether the gradient after the last displacement was not finite while the loss was.
        agreements: probes in a row in which values and slopes showed the same curvature.

    Source: docs/auto.md.
    """

    control: Control | None = field(default=None, init=False)
    probe: float | None = field(default=None, init=False)
    suspect: bool = field(default=False, init=False)
    agreements: int = field(default=0, init=False)

    name = "auto"
    formula = "log η −= κ·clip(q / max(L‖ΔW‖², rms q), ±1)"
    guarantee = "none; in balance the mean slope at the end of its steps is zero on unseen batches"
    use_when = "mini-batch training without a learning rate to choose; around AdamW or any torch optimizer"
    needs = frozenset({"loss", "last-line"})
    average_exponent = 5.0
    direction = "adamw"
    direction_lr = 1.0
    allows_direction = True

    def step_sizes(self, measurement: Measurement, line: Line | None = None) -> StepSizes:
        """One step size for all, after a look back at the last one.

        Raises:
            LorateError: the loss, or a way to evaluate it again, is missing.
        """
        assert line is not None
        if measurement.loss is None:
            raise LorateError(
                "rule 'auto' needs the loss: call optimizer.step(closure) or optimizer.step(loss=loss); in a Trainer "
                "call lorate.attach(trainer)"
            )
        self.probe, self.suspect = None, False
        if self.control is not None and line.last is not None:
            self.control = self._learned(self.control, measurement.loss, line.last)
        if self.control is None:
            self.control = Control.first(line.direction_rms())
        eta = self.control.eta
        return StepSizes(eta, np.full(len(measurement.scaling), eta), eta)

    def on_fault(self, fault: str, measurement: Measurement, line: Line) -> str:
        """Take the last step back if it is to blame."""
        self.probe = None
        last = line.last
        if last is None or self.control is None or not self._is_to_blame(measurement, last):
            return fault
        last.take_back()
        self.control, self.suspect = self.control.taken_back(), False
        return f"{fault}; the step before it was taken back, and the step size quartered"

    @property
    def wants_replay(self) -> bool:
        """Only where a probe is due."""
        return self.control is not None and self.control.probe_is_due

    def notes(self) -> dict[str, float | None]:
        """L, the signal fraction, and the probe of the last step."""
        if self.control is None:
            return {}
        return {
            "smoothness": self.control.smoothness,
            "signal_fraction": self.control.signal_fraction,
            "probe": self.probe,
        }

    def state_dict(self) -> dict[str, Any]:
        """What the feedback remembers."""
        control = None if self.control is None else asdict(self.control)
        return {"control": control, "suspect": self.suspect, "agreements": self.agreements}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from it."""
        self.control = None if state["control"] is None else Control(**state["control"])
        self.suspect, self.agreements = state["suspect"], state["agreements"]

    def _learned(self, control: Control, loss: float, last: LastLine) -> Control:
        """What the last displacement did."""
        due = control.probe_is_due
        control = control.seen()
        if due:
            difference = self._second_difference(last, loss)
            control = control.probed(difference, last.squared_length)
            if difference is not None and last.squared_length > 0:
                self.probe = difference / last.squared_length
        return control.followed(last.end_slope, last.start_slope, last.squared_length, last.multiplier)

    def _second_difference(self, last: LastLine, loss: float) -> float | None:
        """By slopes, where they can be had, until values were seen to show the same."""
        if self.agreements >= ENOUGH or not last.shows_slopes:
            return by_values(last, loss, last.loss_before())
        before, slope = last.slope_before()
        found = by_slopes(last, slope)
        self.agreements = self.agreements + 1 if agree(by_values(last, loss, before), found) else 0
        return found

    def _is_to_blame(self, m: Measurement, last: LastLine) -> bool:
        """Whether the loss is finite again without the last displacement; else the batch itself is bad.

        A gradient that overflows where the loss is finite cannot be looked at again: two batches in a row decide.
        """
        if m.loss is None or math.isfinite(m.loss):
            before, self.suspect = self.suspect, True
            return before
        return last.is_repeatable and math.isfinite(last.loss_before())
