"""The last displacement, as the feedback looks back at it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lorate.measurement import Array
from lorate.optim.layout import Slot


class Moved:
    """The last displacement: its direction, how far it went, and its numbers, which stay on the device."""

    def __init__(
        self,
        directions: Sequence[Tensor] = (),
        numbers: Tensor | None = None,
        multiplier: float = 0.0,
        eta: float = 0.0,
    ) -> None:
        self.directions = list(directions)
        self.numbers = torch.zeros(4, dtype=torch.float64) if numbers is None else numbers
        self.multiplier = multiplier
        self.eta = eta

    @classmethod
    def after(
        cls,
        directions: Sequence[Tensor],
        numbers: dict[str, Tensor],
        current: Sequence[Slot],
        multiplier: float,
        eta: float,
    ) -> "Moved":
        """The move along D that has just been made; ``numbers`` were taken before it, by `displacement_numbers`."""
        rest = [i for i, slot in enumerate(current) if slot.role is None]
        straight = numbers["pp"].double().sum() + numbers["length"][rest].sum()
        packed = (numbers["slope"].sum(), straight, numbers["pq"].double().sum(), numbers["qq"].double().sum())
        return cls(directions, torch.stack([number.double() for number in packed]), multiplier, eta)

    @property
    def length(self) -> float:
        """What D was multiplied by."""
        return self.multiplier * self.eta

    def slope_and_length(self, numbers: Array) -> tuple[float, float]:
        r"""Slope that the batch of D promised for the whole displacement, and $\|\Delta W\|^2$."""
        e = self.length
        slope, pp, pq, qq = (float(number) for number in numbers)
        return e * slope, max(e**2 * pp + 2 * e**3 * pq + e**4 * qq, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Direction and numbers, for `from_state`."""
        return {
            "directions": self.directions,
            "numbers": self.numbers.tolist(),
            "multiplier": self.multiplier,
            "eta": self.eta,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device) -> "Moved":
        """What `state_dict` saved, on the device of the adapters."""
        directions = [tensor.to(device, copy=True) for tensor in state["directions"]]
        numbers = torch.tensor(state["numbers"], dtype=torch.float64, device=device)
        return cls(directions, numbers, state["multiplier"], state["eta"])
