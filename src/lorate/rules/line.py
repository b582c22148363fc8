"""What a rule may ask about the line that a step moves along."""

from collections.abc import Callable
from typing import Protocol

from lorate.measurement import Measurement
from lorate.rules.step_sizes import StepSizes


class Line(Protocol):
    r"""The factors where they are now, and the direction D of this step.

    Whatever is asked is computed then and not before, so a rule that does not ask costs nothing.

    Attributes:
        multiplier: ``lr`` times damping, which multiplies whatever the rule answers.
    """

    multiplier: float

    @property
    def last(self) -> "LastLine | None":
        """The line before, seen from its end; None before the second step."""

    @property
    def loss_rounding(self) -> float:
        """Absolute rounding error of the loss of this step."""

    def direction_rms(self) -> float:
        """Root mean square of D over all trained numbers."""

    def overflow(self, m: Measurement, sizes: StepSizes) -> str | None:
        """Why the step would leave the range of the adapters' numbers; None if it would not."""

    def loss_at(self, sizes: StepSizes) -> float:
        """Move by ``multiplier`` times these sizes and evaluate the batch of this step there.

        The factors stay there until the rule asks again or has answered; they come back bit for bit. If the rule
        answers with the sizes it asked about last, nothing is computed twice.
        """


class LastLine(Protocol):
    r"""The displacement $\delta$ that the last step made, seen from its end with the gradient of this step's batch.

    Attributes:
        multiplier: ``lr`` times damping of that step.
        end_slope: $\langle g_{t+1}, \delta\rangle$, on the batch of this step.
        average_slope: $\langle g_{t+1}, \partial x/\partial\log\eta\rangle$: how the loss changes if all recent steps
            had been longer, for what the run would end with; without an average, along the steps themselves.
        is_repeatable: whether `loss_before` can be asked.
    """

    multiplier: float
    end_slope: float
    average_slope: float
    is_repeatable: bool

    def loss_before(self, share: float = 1.0) -> float:
        """The loss of this step's batch with a share of the displacement taken back.

        Leaves no trace in the model, its buffers, its gradients or the random state.
        """

    @property
    def take_back(self) -> Callable[[], None]:
        """Call it to undo the displacement for good."""
