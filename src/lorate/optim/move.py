"""The displacement that the last step made, and what the average of the run owes to the step size."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from lorate import sharding
from lorate.geometry import inner_products
from lorate.optim.average import PolynomialAverage
from lorate.optim.layout import Slot, gradients

if TYPE_CHECKING:
    from lorate.optim.line import StepLine
    from lorate.rules import StepSizes

SENSITIVITY_MEMORY = 0.95
"""Decay of older steps in the sensitivity: a step size is judged by what it did lately."""


class Move:
    r"""What the parameters moved by, and the sensitivity $\partial x / \partial\log\eta$ of the run's average to it.

    A larger step size would have made each recent step $\delta$ of z longer in proportion, and so moved z by $s_z$ and
    its average by $s_x$:

    $$ s_z \leftarrow 0.95\,s_z + \delta, \qquad s_x \leftarrow (1 - w)\,s_x + w\,s_z. $$

    Args:
        displacement: of the parameters, one tensor each.
        multiplier: ``lr`` times damping of the step.
        z_sensitivity: $s_z$.
        x_sensitivity: $s_x$.
    """

    def __init__(
        self,
        displacement: Sequence[Tensor],
        multiplier: float,
        z_sensitivity: Sequence[Tensor],
        x_sensitivity: Sequence[Tensor],
    ) -> None:
        self.displacement, self.multiplier = list(displacement), multiplier
        self.z_sensitivity, self.x_sensitivity = list(z_sensitivity), list(x_sensitivity)

    @classmethod
    def along(
        cls, line: "StepLine", sizes: "StepSizes", average: PolynomialAverage | None, number: int, last: Self | None
    ) -> Self:
        r"""The move that is about to be made.

        Args:
            line: where it goes.
            sizes: how far z goes.
            average: of the run; without one it is z itself.
            number: t of this step.
            last: the move before; None forgets all steps so far.
        """
        steps = line.steps(sizes)
        displacement = steps if average is None else average.displacement(line.factors, steps, number)
        for part, slot in zip(displacement, line.slots, strict=True):
            if not slot.parameter.requires_grad:  # frozen on the way: it stays where it is
                part.zero_()
        weight = 1.0 if average is None else average.weight(number)
        if last is None:
            return cls(displacement, line.multiplier, [step.clone() for step in steps], [weight * s for s in steps])
        z, x = last.z_sensitivity, last.x_sensitivity
        torch._foreach_mul_(sharding.local(z), SENSITIVITY_MEMORY)
        torch._foreach_add_(sharding.local(z), sharding.local(steps))
        torch._foreach_lerp_(sharding.local(x), sharding.local(z), weight)
        return cls(displacement, line.multiplier, z, x)

    def pieces(self, slots: Sequence[Slot]) -> dict[str, Tensor]:
        """Slopes at the end for the next transfer to the host: along the displacement, and along $s_x$."""
        g = gradients(slots)
        return {
            "end slope": inner_products(g, sharding.whole(self.displacement)),
            "average slope": inner_products(g, sharding.whole(self.x_sensitivity)),
        }

    def undo(self, slots: Sequence[Slot], share: float = 1.0) -> None:
        """Take a share of it back."""
        parameters = sharding.local(slot.parameter.detach() for slot in slots)
        torch._foreach_add_(parameters, sharding.local(self.displacement), alpha=-share)

    def tensors(self) -> dict[str, list[Tensor]]:
        """What belongs to the parameters' state, by name."""
        return {"move": self.displacement, "z_sensitivity": self.z_sensitivity, "x_sensitivity": self.x_sensitivity}
