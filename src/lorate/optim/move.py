"""The displacement that the last step made."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from lorate import sharding
from lorate.geometry import inner_products
from lorate.optim.displacement import displacement_numbers
from lorate.optim.layout import Layer, Slot, gradients


class Move:
    r"""A displacement $\delta$ = length · D of the factors; its numbers stay on the device until they are needed.

    Args:
        directions: D, one tensor a parameter.
        length: what D was multiplied by.
        multiplier: ``lr`` times damping of the step, a part of the length.
        numbers: slope, squared lengths of P, their product with Q, and squared length of Q, all for a length of 1.
    """

    def __init__(self, directions: Sequence[Tensor], length: float, multiplier: float, numbers: Tensor) -> None:
        self.directions = list(directions)
        self.length, self.multiplier, self.numbers = length, multiplier, numbers

    @classmethod
    def along(
        cls,
        slots: Sequence[Slot],
        layers: Sequence[Layer],
        directions: Sequence[Tensor],
        factors: Sequence[float],
        multiplier: float,
    ) -> Self:
        """The move that is about to be made; what it does to the weights depends on where it starts.

        Args:
            slots: the parameters, before the move.
            layers: description of each LoRA layer.
            directions: D, one tensor a slot.
            factors: what each of them is to be multiplied by.
            multiplier: ``lr`` times damping.
        """
        length = max(factors, default=0.0)
        if length > 0 and any(factor != length for factor in factors):
            directions = list(torch._foreach_mul(list(directions), [factor / length for factor in factors]))
        numbers = displacement_numbers(slots, directions, layers, None)
        rest = [i for i, slot in enumerate(slots) if slot.role is None]
        straight = (
            numbers["length"][rest].sum() + numbers["pp"].double().sum()
        )  # without layers the latter is on the CPU
        packed = (numbers["slope"].sum(), straight, numbers["pq"].double().sum(), numbers["qq"].double().sum())
        device = straight.device
        return cls(directions, length, multiplier, torch.stack([number.double().to(device) for number in packed]))

    def pieces(self, slots: Sequence[Slot]) -> dict[str, Tensor]:
        """Vectors for the next transfer to the host: slopes at the end of D, and the numbers."""
        slopes = inner_products(gradients(slots), sharding.whole(self.directions))
        return {"end slope": slopes, "move": self.numbers}

    def undo(self, slots: Sequence[Slot], share: float = 1.0) -> None:
        """Take a share of it back."""
        parameters = sharding.local(slot.parameter.detach() for slot in slots)
        torch._foreach_add_(parameters, sharding.local(self.directions), alpha=-share * self.length)

    def state_dict(self) -> dict[str, Any]:
        """Numbers of the move; its directions belong to the parameters' state."""
        return {"length": self.length, "multiplier": self.multiplier, "numbers": self.numbers.tolist()}

    @classmethod
    def from_state(cls, state: dict[str, Any], directions: Sequence[Tensor]) -> Self:
        """What `state_dict` saved."""
        numbers = torch.tensor(state["numbers"], dtype=torch.float64, device=directions[0].device)
        return cls(directions, state["length"], state["multiplier"], numbers)
