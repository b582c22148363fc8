"""L from trial steps: raised when the majorizer fails, lowered a little after every success."""

import math
from dataclasses import dataclass, field

from lorate.errors import LorateError


@dataclass
class TrialSmoothness:
    """An L that follows what trial steps show.

    Before a step call `relax`; take the step that the current `value` allows; compute
    `lorate.descent.required_smoothness` of what it did and ask `accepts`. If the answer is no, undo the step and try
    again with the raised value.

    Attributes:
        value: the L in force.
        decay: `relax` multiplies L by this, in (0, 1].
        growth: a refused trial multiplies L by at least this, more than 1; by its fourth power if the loss was not
            finite, when the trial tells no more than that the step was far too long.
        observed: the largest finite requirement seen: the smallest L for which the majorizer held at every trial so
            far, refused ones included. A lower bound of the true L.

    Raises:
        LorateError: a value outside these ranges.

    >>> smoothness = TrialSmoothness(1.0)
    >>> smoothness.relax(); smoothness.accepts(3.0), smoothness.value
    (False, 3.0)
    >>> smoothness.accepts(2.5), smoothness.value, smoothness.observed
    (True, 3.0, 3.0)
    """

    value: float
    decay: float = 0.9
    growth: float = 1.5
    observed: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value > 0):
            raise LorateError(f"The first L must be a positive finite number, but it is {self.value!r}.")
        if not 0 < self.decay <= 1:
            raise LorateError(f"decay must lie in (0, 1], but it is {self.decay!r}.")
        if not (math.isfinite(self.growth) and self.growth > 1):
            raise LorateError(f"growth must be a finite number above 1, but it is {self.growth!r}.")

    def relax(self) -> None:
        """Lower L before a new step, so that it can follow a loss that becomes flatter."""
        self.value *= self.decay

    def accepts(self, required: float) -> bool:
        """Whether the trial held with the L in force; if not, raise L to what the trial needs.

        Args:
            required: from `lorate.descent.required_smoothness`; infinite if the loss was not finite.

        Raises:
            LorateError: required is not a number, or L has grown beyond all floats.
        """
        if math.isnan(required):
            raise LorateError("The required smoothness is not a number: compute it from finite norms.")
        if math.isfinite(required):
            self.observed = max(self.observed, required)
        if required <= self.value:
            return True
        raised = self.value * self.growth**4 if math.isinf(required) else max(required, self.value * self.growth)
        if math.isinf(raised):
            raise LorateError("No L makes the majorizer hold: the loss does not follow its gradient.")
        self.value = raised
        return False
