"""What an optimizer asks about the gradient of the frozen weights."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from lorate.gradient_norm import Method


class WeightGradient(Protocol):
    """Whatever can tell about the frozen weights' gradients G of the step that ends now.

    Attributes:
        method: ``"exact"`` or ``"sketch"``.
        loss_scale: what the loss was multiplied by before the backward passes; everything reported is divided by it.
    """

    method: Method
    loss_scale: float | Tensor

    def attach(self) -> object:
        """Put the hooks on the model; nothing happens if they are on."""

    def remove(self) -> None:
        """Take them off."""

    def numbers(self, *, bounds: bool = False) -> dict[str, Tensor]:
        r"""Vectors ``[layers]``, none of them waited for.

        ``"norm"``: $\|G\|_F$. ``"bound"``, if asked for: an upper bound of $\|G\|_2$. ``"doubt"``, perhaps: true where
        the other two are spoiled until `settle` was called.
        """

    def settle(self, doubt: Sequence[bool]) -> None:
        """Make the numbers of these layers reliable."""

    def average_over_ranks(self) -> None:
        """Take the mean of G over the ranks, as data-parallel training does with gradients."""

    def inner_products(self, D_A: Sequence[Tensor], D_B: Sequence[Tensor]) -> Tensor:
        """Inner product of G with ``D_B D_A`` for each layer, shape ``[layers]``."""

    def reset(self) -> None:
        """Forget the finished step."""
